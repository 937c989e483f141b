"""The classifier behind a real socket, with the real model and without one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.classifier import model
from services.classifier.__main__ import build
from services.classifier.model import MODEL_ID, model_directory
from services.classifier.servicer import TEXTS_MAX, ClassifierServicer
from services.runtime.config import Loaded, load
from services.runtime.server import RunningServer, start
from spillway.settings import Classifier as ClassifierSettings
from spillway.settings import Limits
from spillway.v1 import chat_pb2, classifier_pb2_grpc
from spillway.v1 import classifier_pb2 as pb
from tests.support.embedding_model import real_encoder
from tests.support.processes import Process

Stub = Any  # the generated stub's types do not know asyncio


def configured(**classifier: Any) -> Loaded:
    settings = load(None).settings.model_copy(
        update={"classifier": ClassifierSettings(**classifier), "limits": Limits(drain_s=0, grace_s=5)}
    )
    return Loaded(settings=settings, version="0" * 12, path=Path("test"))


def user(text: str) -> chat_pb2.ChatMessage:
    return chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, parts=[chat_pb2.ContentPart(text=text)])


def reason(error: grpc.aio.AioRpcError) -> str:
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    return str(details)


async def running(loaded: Loaded) -> RunningServer:
    return await start(await build(loaded), loaded, "127.0.0.1:0")


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    """A service with the real model."""
    real_encoder()
    server = await running(configured())
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield classifier_pb2_grpc.ClassifierServiceStub(channel)
    await server.stop()


@pytest.fixture
async def bare_stub() -> AsyncIterator[Stub]:
    """A service told to do without a model."""
    server = await running(configured(embedding=False))
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield classifier_pb2_grpc.ClassifierServiceStub(channel)
    await server.stop()


async def test_a_hard_prompt_is_told_from_an_easy_one_and_comes_with_its_embedding(stub: Stub) -> None:
    hard = await stub.Classify(
        pb.ClassifyRequest(
            messages=[user("Prove that every finite division ring is commutative, and discuss where it fails.")],
            want_embedding=True,
        )
    )
    easy = await stub.Classify(pb.ClassifyRequest(messages=[user("What is the capital of Norway?")]))
    assert hard.classification.complexity == chat_pb2.COMPLEXITY_COMPLEX
    assert hard.classification.task_type == chat_pb2.TASK_TYPE_MATH
    assert hard.classification.layer == chat_pb2.Classification.LAYER_EMBEDDING
    assert hard.classification.version == "builtin-1"
    assert easy.classification.complexity == chat_pb2.COMPLEXITY_SIMPLE
    vector = np.frombuffer(hard.embedding.values, dtype="<f4")
    assert vector.shape == (384,)
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-4)
    assert hard.embedding.model == MODEL_ID
    assert not easy.HasField("embedding")
    probabilities = hard.classification.probabilities
    assert probabilities.simple + probabilities.medium + probabilities.complex == pytest.approx(1.0, abs=1e-6)


async def test_embed_gives_the_vectors_in_order(stub: Stub) -> None:
    texts = ["one", "two", "one", "", "x" * 100_000]
    response = await stub.Embed(pb.EmbedRequest(texts=texts))
    assert [len(embedding.values) for embedding in response.embeddings] == [4 * 384] * len(texts)
    assert response.embeddings[0] == response.embeddings[2]
    assert response.embeddings[0] != response.embeddings[1]


@pytest.mark.parametrize("count", [0, TEXTS_MAX + 1])
async def test_embed_takes_a_bounded_number_of_texts(stub: Stub, count: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Embed(pb.EmbedRequest(texts=["a"] * count))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "texts" in reason(caught.value)


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "messages"),
        ([chat_pb2.ChatMessage(parts=[chat_pb2.ContentPart(text="hi")])], "messages[0].role"),
        ([user("hi"), chat_pb2.ChatMessage(role=77)], "messages[1].role"),  # type: ignore[arg-type]
    ],
)
async def test_a_request_that_cannot_be_read_names_its_field(
    bare_stub: Stub, messages: list[chat_pb2.ChatMessage], field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bare_stub.Classify(pb.ClassifyRequest(messages=messages))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in reason(caught.value)


async def test_a_message_whose_picture_was_left_out_is_judged(bare_stub: Stub) -> None:
    response = await bare_stub.Classify(pb.ClassifyRequest(messages=[chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER)]))
    assert response.classification.layer == chat_pb2.Classification.LAYER_HEURISTICS


async def test_a_picture_is_told_by_an_empty_url_and_is_a_signal(bare_stub: Stub) -> None:
    picture = chat_pb2.ContentPart(image=chat_pb2.ImagePart(url=""))
    message = user("What is on this?")
    message.parts.append(picture)
    response = await bare_stub.Classify(pb.ClassifyRequest(messages=[message]))
    assert "images" in {signal.name for signal in response.classification.signals}


async def test_without_a_model_prompts_are_judged_and_embedding_is_a_failed_precondition(bare_stub: Stub) -> None:
    response = await bare_stub.Classify(pb.ClassifyRequest(messages=[user("hello")], want_embedding=True))
    assert response.classification.layer == chat_pb2.Classification.LAYER_HEURISTICS
    assert not response.HasField("embedding")
    assert not response.classification.HasField("out_of_domain")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bare_stub.Embed(pb.EmbedRequest(texts=["a"]))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_the_service_serves_with_a_warning_when_the_weights_are_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "PACKAGE", "no_such_package_of_weights")
    with structlog.testing.capture_logs() as logs:
        server = await running(configured(model_dir=str(tmp_path)))
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub: Stub = classifier_pb2_grpc.ClassifierServiceStub(channel)
        response = await stub.Classify(pb.ClassifyRequest(messages=[user("Explain heat pumps")]))
    await server.stop()
    assert response.classification.layer == chat_pb2.Classification.LAYER_HEURISTICS
    warnings = [entry for entry in logs if entry["log_level"] == "warning"]
    assert [entry["event"] for entry in warnings] == ["embedding_model_unavailable"]
    assert "pip install" in warnings[0]["remedy"]


async def test_the_server_span_says_how_the_prompt_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    loaded = configured(embedding=False)
    service = await build(loaded)
    servicers: list[ClassifierServicer] = []
    monkeypatch.setattr(
        "services.classifier.__main__.add_ClassifierServiceServicer_to_server",
        lambda servicer, _server: servicers.append(servicer),
    )
    service.register(grpc.aio.server())

    class Context:
        """All that the servicer asks of gRPC."""

        def time_remaining(self) -> float:
            return 5.0

    with provider.get_tracer("test").start_as_current_span("Classify"):
        await servicers[0].Classify(pb.ClassifyRequest(messages=[user("hello")]), Context())  # type: ignore[arg-type]
    (span,) = exporter.get_finished_spans()
    attributes = dict(span.attributes or {})
    assert attributes["spillway.classifier.task_type"] == "chitchat"
    assert attributes["spillway.classifier.complexity"] == "simple"
    assert attributes["spillway.classifier.layer"] == "heuristics"
    assert attributes["spillway.classifier.version"] == "heuristics-2"
    for name in ("confidence", "p_simple", "p_medium", "p_complex"):
        assert 0.0 <= float(str(attributes[f"spillway.classifier.{name}"])) <= 1.0
    assert "spillway.classifier.out_of_domain" not in attributes


def test_the_process_builds_its_model_before_it_serves(tmp_path: Path) -> None:
    directory = tmp_path / "model"
    process = Process(
        "services.classifier",
        ["--listen", "127.0.0.1:0"],
        {"SPILLWAY_MODEL_DIR": str(directory)},
        tmp_path / "classifier.log",
    )
    try:
        address = process.ready()["listen"]
        assert json.loads((directory / "manifest.json").read_bytes())["model"] == MODEL_ID
        assert model_directory({"SPILLWAY_MODEL_DIR": str(directory)}) == directory
        with grpc.insecure_channel(str(address)) as channel:
            stub: Stub = classifier_pb2_grpc.ClassifierServiceStub(channel)
            response = stub.Classify(pb.ClassifyRequest(messages=[user("hello")], want_embedding=True), timeout=20)
        assert response.embedding.model == MODEL_ID
    finally:
        code = process.stop()
    assert code == 0
    assert "hello" not in process.log()
