"""Callers who change what a cache holds until it is killed, and note what was acknowledged."""

from __future__ import annotations

import random
import threading

import grpc

from services.cache.entry import Scope
from services.cache.partition import entry_key
from spillway import wire
from spillway.chat import ChatRequest
from spillway.v1 import cache_pb2 as pb
from spillway.v1.cache_pb2_grpc import CacheServiceStub
from tests.support.acknowledged import Acknowledged
from tests.support.cache_parts import answer, chat
from tests.support.processes import Process, wait_until

__all__ = ["SCOPE", "kill_while_written"]

SCOPE = Scope("acme")
WRITERS = 8
KEYS_OF_A_WRITER = 12


def kill_while_written(process: Process, checker: Acknowledged, rng: random.Random, *, changes_min: int) -> int:
    """Kills the cache, which serves, as soon as so many changes were acknowledged; how many were in the end."""
    address = process.ready()["listen"]
    writers = [_Writer(address, number, checker, random.Random(rng.random())) for number in range(WRITERS)]
    for writer in writers:
        writer.start()

    def is_enough() -> bool:
        is_over = not any(each.is_alive() for each in writers)
        return is_over or sum(writer.changes for writer in writers) >= changes_min

    wait_until(is_enough, what="changes")
    process.kill()
    for writer in writers:
        writer.join()
    return sum(writer.changes for writer in writers)


class _Writer(threading.Thread):
    """Puts and deletes the entries of its own questions, one after the other, until the service is gone."""

    def __init__(self, target: str, number: int, checker: Acknowledged, rng: random.Random) -> None:
        super().__init__()
        self._target = target
        self._questions = [f"writer {number} asks {each}" for each in range(KEYS_OF_A_WRITER)]
        self._checker = checker
        self._rng = rng
        self.changes = 0

    def run(self) -> None:
        with grpc.insecure_channel(self._target) as channel:
            stub = CacheServiceStub(channel)
            while self._change(stub):
                self.changes += 1

    def _change(self, stub: CacheServiceStub) -> bool:
        request = chat(self._rng.choice(self._questions))
        key = entry_key(SCOPE, request)
        value = None if self._rng.random() < 0.25 else f"{key[:6]} {self._rng.random()}"
        self._checker.tried(key, value)
        try:
            if value is None:
                stub.Invalidate(pb.InvalidateRequest(entry_key=key), timeout=30)
            else:
                response = stub.Store(_store_request(request, value), timeout=30)
                assert response.outcome == pb.StoreResponse.OUTCOME_STORED
        except grpc.RpcError:
            return False
        self._checker.acknowledged(key, value)
        return True


def _store_request(request: ChatRequest, text: str) -> pb.StoreRequest:
    made = answer(text)
    return pb.StoreRequest(
        scope=pb.CacheScope(tenant=SCOPE.tenant),
        chat=wire.chat_request_to_proto(request),
        answer=pb.CachedAnswer(
            message=wire.message_to_proto(made.message),
            finish_reason=wire.finish_reason_to_proto(made.finish_reason),
            accepted=True,
        ),
    )
