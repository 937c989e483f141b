"""Processes are killed (kill -9) while prompts flow; no request fails."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from spillway.client import Client, RequestError
from spillway.routing import CacheKind, Completion
from spillway.v1 import executor_pb2, executor_pb2_grpc
from tests.support.processes import wait_until
from tests.support.redis_server import RedisServer
from tests.support.suite import Suite

CALLERS = 4
REPEATED_PROMPTS = 10
LONG_CALLS = 40


class Traffic:
    """Callers that ask one prompt after the other until they are told to stop; some prompts are asked again."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.completions: list[Completion] = []
        self.failures: list[RequestError] = []
        self._numbers = itertools.count()
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CALLERS)]

    def _ask(self) -> None:
        with Client(self.target, timeout_s=60) as client:
            while not self._enough.is_set():
                number = next(self._numbers)
                name = f"town {number % REPEATED_PROMPTS}" if number % 3 == 0 else f"village {number}"
                try:
                    self.completions.append(client.complete(f"Which river flows through {name}?"))
                except RequestError as error:
                    self.failures.append(error)

    def more(self, count: int) -> None:
        """Waits until `count` further requests have ended."""
        goal = len(self.completions) + len(self.failures) + count
        wait_until(
            lambda: len(self.completions) + len(self.failures) >= goal, what=f"{count} more requests", within_s=90
        )

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def flowing(suite: Suite) -> Iterator[Traffic]:
    suite.script({"*": [{"text": "The river.", "confidence": 5, "latency_s": 0.02}]})
    with Traffic(suite.target) as traffic:
        traffic.more(20)
        yield traffic
        traffic.more(20)
    assert traffic.failures == []


def degraded(traffic: Traffic) -> set[str]:
    return {name for completion in traffic.completions for name in completion.routing.degraded}


@pytest.mark.parametrize("name", ["cache", "classifier"])
def test_killing_an_optional_service_fails_no_request(tmp_path: Path, name: str) -> None:
    with Suite(tmp_path) as suite, flowing(suite) as traffic:
        suite.processes[name].kill()
        traffic.more(60)
        assert name in degraded(traffic)
        suite.restart(name)
        wait_for_recovery(traffic, lambda one: name not in one.routing.degraded)


def test_killing_redis_fails_no_request(tmp_path: Path, redis_server: RedisServer) -> None:
    config = {"cache": {"store": "redis", "redis_url": redis_server.url}}
    with Suite(tmp_path, config=config) as suite, flowing(suite) as traffic:
        wait_for_recovery(traffic, served_from_cache)
        redis_server.kill()
        traffic.more(60)
        redis_server.start()
        wait_for_recovery(traffic, served_from_cache)


def test_killing_one_executor_of_two_loses_no_request(tmp_path: Path) -> None:
    with Suite(tmp_path, executors=2) as suite, flowing(suite) as traffic:
        for name in ("executor", "executor-2"):
            suite.processes[name].kill()
            traffic.more(60)
            suite.restart(name)
            wait_until(lambda name=name: has_worked(suite, name), what=f"traffic at the new {name}")  # type: ignore[misc]


def test_killing_an_executor_with_many_long_calls_under_way_loses_none(tmp_path: Path) -> None:
    with Suite(tmp_path, executors=2) as suite, ThreadPoolExecutor(LONG_CALLS) as callers, suite.client() as client:
        suite.script({"*": [{"text": "The river.", "confidence": 5, "latency_s": 2.0}]})
        for name in ("executor", "executor-2"):
            before = len(suite.calls())
            answers = [
                callers.submit(client.complete, f"Which river flows through {name} {number}?", timeout_s=60)
                for number in range(LONG_CALLS)
            ]
            wait_until(lambda before=before: len(suite.calls()) == before + LONG_CALLS, what="all calls under way")  # type: ignore[misc]
            suite.processes[name].kill()
            lost = [error for answer in answers if (error := answer.exception()) is not None]
            assert lost == []
            suite.restart(name)
            wait_until(lambda name=name: is_asked(suite, client, name), what=f"traffic at the new {name}")  # type: ignore[misc]


def is_asked(suite: Suite, client: Client, name: str) -> bool:
    """Whether this executor gets traffic; asks something, so that there is some."""
    suite.script({"*": [{"text": "The river.", "confidence": 5}]})
    client.complete(f"Which river flows through {uuid.uuid4().hex}?")
    suite.script({"*": [{"text": "The river.", "confidence": 5, "latency_s": 2.0}]})
    return has_worked(suite, name)


def has_worked(suite: Suite, name: str) -> bool:
    """Whether this executor has called a model since it started."""
    with grpc.insecure_channel(suite.addresses[name]) as channel:
        stub = executor_pb2_grpc.ExecutorServiceStub(channel)
        targets = stub.ListTargets(executor_pb2.ListTargetsRequest(), timeout=10).targets
    return any(target.window_calls > 0 for target in targets)


def served_from_cache(completion: Completion) -> bool:
    return completion.cache.kind is CacheKind.EXACT_HIT


def wait_for_recovery(traffic: Traffic, good: Callable[[Completion], bool]) -> None:
    before = len(traffic.completions)
    wait_until(
        lambda: any(good(one) for one in traffic.completions[before:]), what="a request served in full", within_s=60
    )
