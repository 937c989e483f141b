"""The embedding endpoint: what it believes, what it does when the server fails, over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from services.classifier.batched_embedder import BatchedEmbedder
from services.classifier.batching import BatchLimits
from services.classifier.embedder import EmbedderError
from services.classifier.embedding_source import EmbeddingSourceError, endpoint_limits, open_embedder
from services.classifier.endpoint_embedder import Endpoint, EndpointBackend, parse_answer
from services.runtime.clock import FakeClock
from services.sandbox.app import build_app
from services.sandbox.server import serving_in_thread
from spillway.settings.classifier import Classifier, EmbeddingEndpoint
from tests.support.waiting import until

KEY = "sk-very-secret"
PROMPT = "a private prompt"

Script = Callable[..., None]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving_in_thread(build_app((), len)) as addresses:
        yield addresses.url


@pytest.fixture
def script(url: str) -> Script:
    """Plays steps for the model "m" from now on; none at first."""

    def play(*steps: dict[str, Any], **fields: Any) -> None:
        body = {"models": {"m": steps} if steps else {}, **fields}
        httpx.put(f"{url}/sandbox/script", json=body, trust_env=False).raise_for_status()

    play()
    httpx.delete(f"{url}/sandbox/calls", trust_env=False)
    return play


def calls(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{url}/sandbox/calls", trust_env=False).json()["calls"]
    return found


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def agreed(url: str, **changed: Any) -> Endpoint:
    fields = {"base_url": f"{url}/v1", "model": "m", "dimensions": 64, "timeout_s": 20.0, "failures_max": 2}
    return Endpoint(**{**fields, "open_s": 5.0, **changed})


@pytest.fixture
async def embedder(url: str, clock: FakeClock) -> AsyncIterator[BatchedEmbedder]:
    backend = EndpointBackend(agreed(url), api_key=KEY, clock=clock)
    made = BatchedEmbedder(backend, workers=2, limits=BatchLimits(items_max=8, tokens_max=10_000))
    yield made
    await made.close()


async def test_texts_go_together_up_to_the_limit_and_come_back_in_order(
    url: str, script: Script, embedder: BatchedEmbedder
) -> None:
    texts = [f"text number {number}" for number in range(20)]
    many = await embedder.embed(texts)
    assert [len(call["messages"]) for call in calls(url)] == [8, 8, 4]
    assert {call["wire"] for call in calls(url)} == {"openai_embeddings"}
    script(api_key=KEY)
    assert np.allclose(await embedder.embed([f"{text} " for text in texts]), many, atol=1e-6)


async def test_vectors_come_in_the_order_of_their_indices_whatever_that_of_the_list(
    script: Script, embedder: BatchedEmbedder
) -> None:
    data = [{"index": index, "embedding": [float(index + 1)] + [0.0] * 62 + [2.0]} for index in (1, 0)]
    script({"text": json.dumps(data)})
    vectors = await embedder.embed(["first", "second"])
    assert np.allclose(vectors[:, 0] / vectors[:, 63], [0.5, 1.0])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0)


@pytest.mark.parametrize(
    "step",
    [
        {"status": 500},
        {"status": 429},
        {"status": 401},
        {"status": 404},
        {"status": 402},
        {"malformed_json": True},
        {"garbage": True},
        {"disconnect": True},
        {"cut_after_bytes": 30},
        {"text": "[]"},
        {"text": json.dumps([{"index": 0, "embedding": [1.0] * 63}])},
        {"text": json.dumps([{"index": 0, "embedding": [0.0] * 64}])},
        {"text": json.dumps([{"index": 0, "embedding": "AAAA"}])},
        {"text": json.dumps([{"index": 0, "embedding": [1.0] * 64}] * 2)},
        {"text": json.dumps([{"index": 0, "embedding": [1.0] * 64, "more": "x" * 200_000}])},
    ],
    ids=lambda step: str(step)[:40],
)
async def test_a_server_that_fails_or_lies_is_an_error_and_then_left_alone_for_a_while(
    url: str, script: Script, embedder: BatchedEmbedder, clock: FakeClock, step: dict[str, Any]
) -> None:
    script(step)
    for number in range(2):
        with pytest.raises(EmbedderError) as caught:
            await embedder.embed([f"{PROMPT} {number}"])
        assert KEY not in repr(caught.value) + repr(caught.value.__cause__)
        assert PROMPT not in str(caught.value)
    script()
    with pytest.raises(EmbedderError, match="left alone"):
        await embedder.embed([PROMPT])
    assert len(calls(url)) == 2
    clock.advance(5.0)
    assert (await embedder.embed([PROMPT])).shape == (1, 64)


async def test_a_refused_request_does_not_open_the_breaker(script: Script, embedder: BatchedEmbedder) -> None:
    script({"status": 400, "times": 5})
    for number in range(5):
        with pytest.raises(EmbedderError, match="400"):
            await embedder.embed([f"{PROMPT} {number}"])
    assert (await embedder.embed([PROMPT])).shape == (1, 64)


@pytest.mark.parametrize("step", [{"hang": True}, {"drip": True, "chunk_delay_s": 0.01}])
async def test_one_deadline_holds_for_the_whole_call(
    url: str, script: Script, clock: FakeClock, step: dict[str, Any]
) -> None:
    script(step)
    backend = EndpointBackend(agreed(url, timeout_s=0.05), api_key="", clock=clock)
    with pytest.raises(EmbedderError, match="too long"):
        await backend.encode(["a"])
    await backend.close()


async def test_a_caller_who_leaves_neither_counts_as_a_failure_nor_blocks_the_probe(
    url: str, script: Script, clock: FakeClock
) -> None:
    backend = EndpointBackend(agreed(url, failures_max=1), api_key="", clock=clock)
    script({"status": 500, "times": 1}, {"hang": True, "times": 1})
    with pytest.raises(EmbedderError):
        await backend.encode(["a"])
    clock.advance(5.0)
    probe = asyncio.create_task(backend.encode(["a"]))

    async def has_come() -> bool:
        return len(await asyncio.to_thread(calls, url)) >= 2

    await until(has_come)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert (await backend.encode(["a"])).shape == (1, 64)
    await backend.close()


async def test_nobody_listening_is_an_error(clock: FakeClock) -> None:
    backend = EndpointBackend(agreed("http://127.0.0.1:1"), api_key="", clock=clock)
    with pytest.raises(EmbedderError):
        await backend.encode(["a"])
    await backend.close()


def test_servers_do_not_share_a_space_for_calling_their_models_alike() -> None:
    ids = {agreed(url).model_id for url in ("http://a", "http://b")} | {agreed("http://a", dimensions=32).model_id}
    assert len(ids) == 3
    assert agreed("http://a").model_id == Endpoint("http://a/v1/", "m", 64, 1.0, 1, 1.0).model_id


@pytest.mark.parametrize("values", [[1e308] * 4, [10**400] * 4, [True] * 4, [None] * 4, [[1.0]] * 4, ["1"] * 4])
def test_numbers_that_are_none_or_too_large_for_a_float_do_no_harm(values: list[Any]) -> None:
    body = json.dumps({"data": [{"index": 0, "embedding": values}]}).encode()
    if values[0] == 1e308:
        assert np.allclose(parse_answer(body, 1, 4)[0], 0.5)
    else:
        with pytest.raises(ValueError, match="vectors"):
            parse_answer(body, 1, 4)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["data", "index", "embedding"]), inner),
    max_leaves=20,
)


@given(JSON | st.fixed_dictionaries({"data": st.lists(st.fixed_dictionaries({"index": JSON, "embedding": JSON}))}))
def test_whatever_json_a_server_sends_is_unit_vectors_or_refused(value: Any) -> None:
    try:
        vectors, _ = parse_answer(json.dumps(value).encode(), 1, 2)
    except ValueError:
        return
    assert vectors.shape == (1, 2)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


async def test_the_configuration_opens_an_endpoint_and_says_what_it_lacks(
    url: str, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDING_KEY", KEY)
    script(api_key=KEY)
    endpoint = EmbeddingEndpoint(
        base_url=f"{url}/v1", model="m", dimensions=64, api_key_env="EMBEDDING_KEY", timeout_s=20
    )
    embedder = await open_embedder(Classifier(embedding_provider="endpoint", embedding_endpoint=endpoint))
    assert (await embedder.embed(["a", ""])).shape == (2, 64)
    await embedder.close()
    monkeypatch.delenv("EMBEDDING_KEY")
    for settings in (
        Classifier(embedding_provider="endpoint"),
        Classifier(embedding_provider="endpoint", embedding_endpoint=endpoint),
        Classifier(embedding_provider="onnx"),
        Classifier(embedding_provider="onnx", model_dir="/nonexistent"),
    ):
        with pytest.raises(EmbeddingSourceError):
            await open_embedder(settings)


class Naming(EndpointBackend):
    """A server that names its model, or none; `padding` makes the answer longer."""

    names = ""
    padding = 0

    async def _post(self, texts: Sequence[str]) -> tuple[int, bytes]:
        data = [{"index": index, "embedding": [1.0] * 64} for index in range(len(texts))]
        body = {"data": data, **({"model": self.names} if self.names else {}), "padding": "x" * self.padding}
        return 200, json.dumps(body).encode()


@pytest.mark.parametrize("padding", [0, 100_000])
async def test_vectors_of_a_model_that_changed_at_the_server_are_refused_and_said_once(
    clock: FakeClock, padding: int
) -> None:
    backend = Naming(agreed("http://127.0.0.1:1", failures_max=1_000), api_key="", clock=clock)
    backend.padding = padding
    with structlog.testing.capture_logs() as logs:
        # Whatever it calls the configured model is its own affair.
        for name in ("", "org/served-as-m", "", "org/served-as-m"):
            backend.names = name
            assert (await backend.encode(["text"])).shape == (1, 64)
        backend.names = "org/another\x1b[31m"
        for _ in range(3):
            with pytest.raises(EmbedderError, match="another model than before"):
                await backend.encode(["text"])
        backend.names = "org/served-as-m"
        assert (await backend.encode(["text"])).shape == (1, 64)
    assert [(entry["event"], entry["now"]) for entry in logs] == [("embedding_model_changed", "org/another?[31m")]
    await backend.close()


def test_one_answer_of_a_server_holds_a_bounded_number_of_numbers() -> None:
    for dimensions, texts in ((64, 64), (2_048, 64), (8_192, 16)):
        settings = Classifier(
            embedding_provider="endpoint",
            embedding_endpoint=EmbeddingEndpoint(base_url="http://127.0.0.1:1/v1", model="m", dimensions=dimensions),
        )
        assert settings.embedding_endpoint is not None
        assert endpoint_limits(settings.embedding_endpoint).items_max == texts
