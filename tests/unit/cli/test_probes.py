"""Whether a process answers: servers that do, that refuse, that are silent and that are gone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.runtime.errors import FailedPrecondition, Unavailable
from spillway.cli.probes import answers_grpc, answers_http, lacks_embedding
from spillway.v1 import classifier_pb2, classifier_pb2_grpc

# Long for what answers, and short for what does not.
PATIENCE_S, IMPATIENCE_S = 20.0, 0.2


class Classifier(classifier_pb2_grpc.ClassifierServiceServicer):
    """Embeds nothing; raises `error`."""

    error: Unavailable | FailedPrecondition | None = None

    async def Classify(self, request: Any, context: Any) -> classifier_pb2.ClassifyResponse:  # noqa: N802
        raise NotImplementedError

    async def Embed(self, request: Any, context: Any) -> classifier_pb2.EmbedResponse:  # noqa: N802
        if self.error is not None:
            context.set_trailing_metadata(self.error.trailing_metadata())
            await context.abort(self.error.code, self.error.public)
        return classifier_pb2.EmbedResponse()

    async def RecordOutcomes(self, request: Any, context: Any) -> classifier_pb2.RecordOutcomesResponse:  # noqa: N802
        raise NotImplementedError


class Server:
    def __init__(self) -> None:
        self.grpc = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self.health = health.aio.HealthServicer()
        self.classifier = Classifier()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.grpc)
        classifier_pb2_grpc.add_ClassifierServiceServicer_to_server(self.classifier, self.grpc)
        self.address = f"127.0.0.1:{self.grpc.add_insecure_port('127.0.0.1:0')}"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    await made.grpc.start()
    yield made
    await made.grpc.stop(0)


@pytest.fixture
def silent() -> Iterator[str]:
    """What takes connections and never says a word, as a stopped process does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("status", list(health_pb2.HealthCheckResponse.ServingStatus.values()))
async def test_any_answer_to_a_health_check_is_a_sign_of_life(server: Server, status: int) -> None:
    await server.health.set("", status)
    assert await answers_grpc(server.address, PATIENCE_S)


async def test_silence_is_none(silent: str) -> None:
    assert not await answers_grpc(silent, IMPATIENCE_S)
    assert not await answers_http(f"http://{silent}", IMPATIENCE_S)


async def test_nor_is_an_address_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    assert not await answers_grpc(address, IMPATIENCE_S)
    assert not await answers_http(f"http://{address}", IMPATIENCE_S)


async def test_any_line_of_an_http_server_is_a_sign_of_life() -> None:
    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Busy\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await answers_http(f"http://127.0.0.1:{port}", PATIENCE_S)


async def test_only_the_classifier_itself_says_that_it_has_no_model(server: Server, silent: str) -> None:
    assert not await lacks_embedding(server.address, PATIENCE_S)
    server.classifier.error = FailedPrecondition("EMBEDDING_UNAVAILABLE", "no embedding model is loaded")
    assert await lacks_embedding(server.address, PATIENCE_S)
    server.classifier.error = Unavailable()
    assert not await lacks_embedding(server.address, PATIENCE_S)
    assert not await lacks_embedding(silent, IMPATIENCE_S)
