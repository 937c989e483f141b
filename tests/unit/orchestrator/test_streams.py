"""A run as a stream: its deltas, its end, and readers who leave it."""

from __future__ import annotations

from contextlib import aclosing

import grpc
import pytest

from services.runtime.errors import Unavailable
from spillway.routing import AnswerDelta, CacheKind, Completion
from tests.unit.orchestrator.fakes import Bench, cached, hop_names
from tests.unit.orchestrator.ladder import request_of


async def test_a_stream_passes_the_deltas_and_ends_with_the_completion() -> None:
    bench = Bench()
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    events = [event async for event in bench.pipeline.stream(run)]
    assert events[:2] == [AnswerDelta("Par"), AnswerDelta("is.")]
    (completion,) = events[2:]
    assert isinstance(completion, Completion)
    assert completion.text == "Paris."
    assert hop_names(completion)[-1] == "executor"
    bench.pipeline.finish(run)
    await bench.background.close(5)
    assert len(bench.cache.stored) == 1


async def test_a_hit_streams_as_one_delta() -> None:
    bench = Bench()
    bench.cache.exact = cached(CacheKind.EXACT_HIT)
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    delta, completion = [event async for event in bench.pipeline.stream(run)]
    assert delta == AnswerDelta("Paris, as before.")
    assert isinstance(completion, Completion)
    assert completion.cache.kind is CacheKind.EXACT_HIT


async def test_a_stream_that_breaks_is_an_error_and_is_not_stored() -> None:
    bench = Bench()
    bench.executor.gives = Unavailable("STREAM_INTERRUPTED", "the stream broke off")
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    events = bench.pipeline.stream(run)
    assert [await anext(events), await anext(events)] == [AnswerDelta("Par"), AnswerDelta("is.")]
    with pytest.raises(Unavailable):
        await anext(events)
    assert run.error_reason == "STREAM_INTERRUPTED"
    bench.pipeline.finish(run)
    assert bench.background.under_way == 0


async def test_a_reader_that_leaves_a_stream_ends_the_executors() -> None:
    bench = Bench()
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    async with aclosing(bench.pipeline.stream(run)) as events:
        async for _ in events:
            break
    assert bench.executor.cancelled == 1
    assert run.status_code == grpc.StatusCode.CANCELLED.value[0]


async def test_a_reader_that_leaves_before_the_end_is_stored_nothing_of() -> None:
    bench = Bench()
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    async with aclosing(bench.pipeline.stream(run)) as events:
        async for event in events:
            if isinstance(event, Completion):
                break
    assert run.status_code == grpc.StatusCode.CANCELLED.value[0]
    bench.pipeline.finish(run)
    assert bench.background.under_way == 0
