"""The embedder around a scripted encoder: batching, sharing, shedding, cancelling, closing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from services.classifier.batched_embedder import BatchedEmbedder, ThreadedEncoder
from services.classifier.batching import BATCH_ITEMS_MAX
from services.classifier.embedder import EmbedderClosedError, EmbedderError, EmbedderOverloadedError
from services.classifier.encoder import cut_text
from services.runtime.clock import Clock, FakeClock

WAIT_S = 10.0


class ScriptedEncoder:
    """Encodes a text as a one-hot vector of its length; each batch may be held until `release`."""

    model_id = "scripted/1"
    dimensions = 384
    tokens_max = 256

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[str]] = []
        self.failing = False
        self.broken: set[str] = set()
        self.started = threading.Semaphore(0)
        self.gate = threading.Event()
        if not held:
            self.gate.set()

    def cut(self, text: str) -> str:
        return cut_text(text, self.tokens_max)

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.batches.append(list(texts))
        self.started.release()
        assert self.gate.wait(WAIT_S)
        if self.failing:
            raise RuntimeError
        vectors = np.zeros((len(texts), 384), dtype=np.float32)
        for index, text in enumerate(texts):
            vectors[index, len(text) % 384] = np.nan if text in self.broken else 1.0
        return vectors

    async def running(self) -> None:
        """Returns once a batch has begun."""
        assert await asyncio.to_thread(self.started.acquire, True, WAIT_S)


def embedder_of(
    encoder: ScriptedEncoder,
    *,
    queue_items_max: int = 1_024,
    cache_items_max: int = 1_024,
    clock: Clock | None = None,
) -> BatchedEmbedder:
    backend = ThreadedEncoder(encoder, workers=1)
    return BatchedEmbedder(
        backend, workers=1, queue_items_max=queue_items_max, cache_items_max=cache_items_max, clock=clock
    )


async def test_requests_that_arrive_together_are_one_batch() -> None:
    encoder = ScriptedEncoder()
    embedder = embedder_of(encoder)
    await asyncio.gather(*(embedder.embed([text]) for text in ("a", "bb", "ccc")))
    assert encoder.batches == [["a", "bb", "ccc"]]
    await embedder.close()


async def test_what_arrives_while_a_batch_runs_goes_together_in_the_next() -> None:
    encoder = ScriptedEncoder(held=True)
    embedder = embedder_of(encoder)
    first = asyncio.create_task(embedder.embed(["first"]))
    await encoder.running()
    later = [asyncio.create_task(embedder.embed(["x" * size])) for size in range(1, 5)]
    await asyncio.sleep(0)
    encoder.gate.set()
    await asyncio.gather(first, *later)
    assert [len(batch) for batch in encoder.batches] == [1, 4]
    await embedder.close()


async def test_no_batch_is_larger_than_its_limit_and_the_order_of_texts_is_kept() -> None:
    encoder = ScriptedEncoder()
    embedder = embedder_of(encoder)
    texts = ["x" * size for size in range(100)]
    vectors = await embedder.embed(texts)
    assert vectors.argmax(axis=1).tolist() == list(range(100))
    assert max(len(batch) for batch in encoder.batches) <= BATCH_ITEMS_MAX
    await embedder.close()


async def test_the_same_text_in_flight_is_computed_once_and_then_remembered() -> None:
    encoder = ScriptedEncoder(held=True)
    embedder = embedder_of(encoder)
    first = asyncio.create_task(embedder.embed(["same", "same"]))
    await encoder.running()
    second = asyncio.create_task(embedder.embed(["same"]))
    await asyncio.sleep(0)
    encoder.gate.set()
    both, one = await asyncio.gather(first, second)
    assert np.array_equal(both[0], both[1])
    assert np.array_equal(both[0], one[0])
    await embedder.embed(["same"])
    assert encoder.batches == [["same"]]
    await embedder.close()


async def test_the_memory_of_vectors_is_bounded_and_drops_the_least_recently_used() -> None:
    encoder = ScriptedEncoder()
    embedder = embedder_of(encoder, cache_items_max=2)
    for text in ("a", "bb", "a", "ccc", "a", "bb"):
        await embedder.embed([text])
    assert encoder.batches == [["a"], ["bb"], ["ccc"], ["bb"]]
    await embedder.close()


async def test_a_full_queue_refuses_a_call_whole_and_recovers() -> None:
    encoder = ScriptedEncoder(held=True)
    embedder = embedder_of(encoder, queue_items_max=2)
    first = asyncio.create_task(embedder.embed(["first"]))
    await encoder.running()
    waiting = asyncio.create_task(embedder.embed(["a"]))
    await asyncio.sleep(0)
    with pytest.raises(EmbedderOverloadedError):
        await embedder.embed(["bb", "ccc"])
    encoder.gate.set()
    await asyncio.gather(first, waiting)
    assert (await embedder.embed(["bb", "ccc"])).shape == (2, 384)
    await embedder.close()


async def test_a_caller_who_leaves_disturbs_nobody_who_wants_the_same_text() -> None:
    encoder = ScriptedEncoder(held=True)
    embedder = embedder_of(encoder)
    blocker = asyncio.create_task(embedder.embed(["blocker"]))
    await encoder.running()
    leaver = asyncio.create_task(embedder.embed(["shared"]))
    stayer = asyncio.create_task(embedder.embed(["shared"]))
    await asyncio.sleep(0)
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    encoder.gate.set()
    assert (await stayer).shape == (1, 384)
    await blocker
    await embedder.close()


async def test_a_text_that_nobody_waits_for_any_more_is_not_computed() -> None:
    encoder = ScriptedEncoder(held=True)
    embedder = embedder_of(encoder)
    blocker = asyncio.create_task(embedder.embed(["blocker"]))
    await encoder.running()
    leaver = asyncio.create_task(embedder.embed(["left"]))
    await asyncio.sleep(0)
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    encoder.gate.set()
    await blocker
    await embedder.close()
    assert encoder.batches == [["blocker"]]


async def test_leaving_while_the_batch_runs_breaks_nothing() -> None:
    encoder = ScriptedEncoder(held=True)
    embedder = embedder_of(encoder)
    leaver = asyncio.create_task(embedder.embed(["a"]))
    await encoder.running()
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    encoder.gate.set()
    assert (await embedder.embed(["a"])).shape == (1, 384)
    await embedder.close()


async def test_a_failing_model_fails_its_callers_and_only_them() -> None:
    encoder = ScriptedEncoder()
    embedder = embedder_of(encoder)
    encoder.failing = True
    with pytest.raises(EmbedderError) as caught:
        await embedder.embed(["a private prompt"])
    assert "private" not in str(caught.value)
    encoder.failing = False
    assert (await embedder.embed(["a private prompt"])).shape == (1, 384)
    await embedder.close()


async def test_a_closed_embedder_ends_what_waits_finishes_what_runs_and_refuses_the_rest() -> None:
    encoder = ScriptedEncoder(held=True)
    embedder = embedder_of(encoder)
    running = asyncio.create_task(embedder.embed(["running"]))
    await encoder.running()
    waiting = asyncio.create_task(embedder.embed(["waiting"]))
    await asyncio.sleep(0)
    closing = asyncio.create_task(embedder.close())
    with pytest.raises(EmbedderClosedError):
        await waiting
    encoder.gate.set()
    assert (await running).shape == (1, 384)
    await closing
    await embedder.close()
    with pytest.raises(EmbedderClosedError):
        await embedder.embed(["late"])


async def test_one_text_does_not_wait_for_a_call_of_many_that_came_before() -> None:
    encoder = ScriptedEncoder(held=True)
    embedder = embedder_of(encoder)
    blocker = asyncio.create_task(embedder.embed(["blocker"]))
    await encoder.running()
    many = asyncio.create_task(embedder.embed([f"{number:03}" for number in range(200)]))
    await asyncio.sleep(0)
    one = asyncio.create_task(embedder.embed(["a question of one caller"]))
    wanted_by_both = asyncio.create_task(embedder.embed(["199"]))
    await asyncio.sleep(0)
    encoder.gate.set()
    await asyncio.gather(blocker, many, one, wanted_by_both)
    assert encoder.batches[1][:2] == ["199", "a question of one caller"]
    await embedder.close()


async def test_a_vector_that_is_not_finite_reaches_nobody_and_is_not_remembered() -> None:
    encoder = ScriptedEncoder()
    encoder.broken = {"bad"}
    embedder = embedder_of(encoder)
    found = await asyncio.gather(embedder.embed(["bad"]), embedder.embed(["good"]), return_exceptions=True)
    assert isinstance(found[0], EmbedderError)
    assert isinstance(found[1], np.ndarray)
    encoder.broken = set()
    assert (await embedder.embed(["bad"])).shape == (1, 384)
    await embedder.close()


async def test_who_cannot_be_served_in_time_hears_it_at_once_and_an_idle_embedder_serves_anyone() -> None:
    clock = FakeClock()
    encoder = ScriptedEncoder(held=True)
    embedder = embedder_of(encoder, clock=clock)
    first = asyncio.create_task(embedder.embed(["x" * 392], within_s=0.1))  # 100 tokens
    await encoder.running()
    clock.advance(1.0)
    encoder.gate.set()
    await first
    # Nothing is before it, so it is tried, whatever it took the last time.
    encoder.gate.clear()
    second = asyncio.create_task(embedder.embed(["y" * 391], within_s=0.1))
    await encoder.running()
    # Half of the 99 tokens that run, and 3 of its own, at 10 ms each.
    with pytest.raises(EmbedderOverloadedError):
        await embedder.embed(["abcd"], within_s=0.5)
    third = asyncio.create_task(embedder.embed(["abcd"], within_s=0.55))
    same = asyncio.create_task(embedder.embed(["y" * 391], within_s=0.0))
    patient = asyncio.create_task(embedder.embed(["z" * 200]))
    await asyncio.sleep(0)
    encoder.gate.set()
    await asyncio.gather(second, third, same, patient)
    await embedder.close()


async def test_who_waits_behind_a_batch_that_takes_longer_than_usual_hears_it_while_there_is_time() -> None:
    clock = FakeClock()
    encoder = ScriptedEncoder(held=True)
    embedder = embedder_of(encoder, clock=clock)
    first = asyncio.create_task(embedder.embed(["x" * 392]))  # 100 tokens at 10 ms each
    await encoder.running()
    clock.advance(1.0)
    encoder.gate.set()
    await first
    encoder.gate.clear()
    second = asyncio.create_task(embedder.embed(["y" * 392]))
    await encoder.running()
    hurried = asyncio.create_task(embedder.embed(["h" * 200], within_s=2.0))  # 52 tokens: at 1.52 s, if all goes well
    patient = asyncio.create_task(embedder.embed(["p" * 200], within_s=2.5))
    shared = [asyncio.create_task(embedder.embed(["s" * 200], within_s=within_s)) for within_s in (2.5, None)]
    await asyncio.sleep(0)
    clock.advance(1.5)
    encoder.gate.set()
    await second
    with pytest.raises(EmbedderOverloadedError):
        await hurried
    await asyncio.gather(patient, *shared)
    assert not any("h" * 200 in batch for batch in encoder.batches)
    await embedder.close()


async def test_a_batch_that_already_runs_long_tells_how_slow_the_machine_is() -> None:
    clock = FakeClock()
    encoder = ScriptedEncoder(held=True)
    embedder = embedder_of(encoder, clock=clock)
    first = asyncio.create_task(embedder.embed(["x" * 392]))
    await encoder.running()
    clock.advance(5.0)
    # 50 ms a token so far: half of the 100 that run, and 3 of its own.
    with pytest.raises(EmbedderOverloadedError):
        await embedder.embed(["abcd"], within_s=2.6)
    second = asyncio.create_task(embedder.embed(["efgh"], within_s=2.7))
    await asyncio.sleep(0)
    encoder.gate.set()
    await asyncio.gather(first, second)
    await embedder.close()


async def test_longer_texts_and_those_of_large_calls_are_not_before_a_short_one() -> None:
    clock = FakeClock()
    encoder = ScriptedEncoder(held=True)
    embedder = embedder_of(encoder, clock=clock)
    first = asyncio.create_task(embedder.embed(["x" * 392]))
    await encoder.running()
    clock.advance(1.0)
    encoder.gate.set()
    await first
    encoder.gate.clear()
    running = asyncio.create_task(embedder.embed(["abcd"]))
    await encoder.running()
    long = asyncio.create_task(embedder.embed(["y" * 900]))
    many = asyncio.create_task(embedder.embed([f"{number:03}" for number in range(200)]))
    await asyncio.sleep(0)
    short = asyncio.create_task(embedder.embed(["efgh"], within_s=0.2))
    await asyncio.sleep(0)
    encoder.gate.set()
    await asyncio.gather(running, long, many, short)
    await embedder.close()
