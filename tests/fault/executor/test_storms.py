"""Providers that misbehave, over real sockets: no request is lost while one is well, and an outage stays small.

SPILLWAY_SOAK_ROUNDS repeats the faults (`make soak-executor`); the seed of their order is printed.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spillway.routing import Plan, PlannedTier, StreamPrefix
from spillway.v1 import executor_pb2
from tests.support.executor_bench import sandbox, say
from tests.support.executor_storm import CALLERS, PLAN, Storm, executor_under_fire
from tests.support.fault_proxy import Ending, Fault, Way

ROUNDS = int(os.environ.get("SPILLWAY_SOAK_ROUNDS", "0"))
REQUESTS = 24
OPEN = executor_pb2.TargetStatus.BREAKER_STATE_OPEN
NEVER_OPENS = {"calls_min": 10_000, "window_calls_max": 10_000}

HOPS = {
    "latency": Fault(latency_s=0.02),
    "drip": Fault(bytes_per_s=40),
    "reset before the answer": Fault(ending=Ending.RESET),
    "reset within the answer": Fault(ending=Ending.RESET, after_bytes=90),
    "close within the answer": Fault(ending=Ending.CLOSE, after_bytes=200),
    "half-close": Fault(ending=Ending.HALF_CLOSE, after_bytes=90),
    "garbage": Fault(ending=Ending.GARBAGE),
    "garbage within the answer": Fault(ending=Ending.GARBAGE, after_bytes=120),
    "black hole": Fault(ending=Ending.BLACK_HOLE),
    "requests that never arrive": Fault(ending=Ending.RESET, way=Way.TO_SERVER),
}
ANSWERS: dict[str, dict[str, Any]] = {
    "500": {"status": 500},
    "503 with Retry-After": {"status": 503, "retry_after_s": 1},
    "429": {"status": 429},
    "429 with Retry-After": {"status": 429, "retry_after_s": 1},
    "529": {"status": 529},
    "no JSON": {"malformed_json": True},
    "garbage after 200": {"garbage": True},
    "disconnect": {"disconnect": True},
    "hang": {"hang": True},
}
STREAM_PLAN = Plan((replace(PLAN.tiers[0], stream_prefix=StreamPrefix(tokens=64, wait_s=2.0)), PLAN.tiers[1]))
STREAMS: dict[str, dict[str, Any]] = {
    "an error event after 200": say("one two three", chunk_chars=4, stream_error_after_chunks=1),
    "a cut stream": say("one two three", chunk_chars=4, stream_cut_after_chunks=1),
    "garbage in the stream": say("one two three", chunk_chars=4, stream_garbage_after_chunks=1),
    "500": {"status": 500},
}


@pytest.fixture(scope="module")
def provider_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with sandbox(tmp_path_factory.mktemp("sandbox")) as url:
        yield url


@pytest.fixture
async def storm(provider_url: str, tmp_path: Path) -> AsyncIterator[Storm]:
    async with executor_under_fire(tmp_path, provider_url, slow_start_s=0) as storm:
        yield storm


# One provider fails: nothing is lost.


@pytest.mark.parametrize("name", HOPS)
async def test_a_spoiled_hop_loses_no_request(storm: Storm, name: str) -> None:
    storm.proxy.fault = HOPS[name]
    tally = await storm.blow(REQUESTS)
    assert tally.lost == []
    assert (tally.bad_calls("a1") > 0) == (name != "latency")


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_storm_of_bad_answers_loses_no_request(storm: Storm, name: str) -> None:
    await storm.script(**{"a1": [ANSWERS[name]], "*": [say("fine")]})
    tally = await storm.blow(REQUESTS)
    assert tally.lost == []
    assert tally.bad_calls("a1") > 0


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_that_breaks_before_it_is_shown_loses_no_request(storm: Storm, name: str) -> None:
    await storm.script(**{"a1": [STREAMS[name]], "*": [say("fine")]})
    tally = await storm.blow(REQUESTS, STREAM_PLAN, streamed=True)
    assert tally.lost == []
    assert tally.bad_calls("a1") > 0
    assert {execution.message.text for execution in tally.answered} == {"fine"}


async def test_a_whole_tier_that_fails_loses_no_request(storm: Storm) -> None:
    await storm.script(**{"a1": [{"status": 500}], "a2": [{"status": 503}], "*": [say("fine")]})
    tally = await storm.blow(REQUESTS)
    assert tally.lost == []
    assert {execution.target for execution in tally.answered} == {"c1"}


async def test_a_provider_that_comes_back_is_used_again(provider_url: str, tmp_path: Path) -> None:
    breaker = {"open_s": 0.2, "open_s_max": 0.2}
    async with executor_under_fire(tmp_path, provider_url, breaker=breaker, slow_start_s=0) as storm:
        storm.proxy.fault = HOPS["reset before the answer"]
        await storm.blow(REQUESTS)
        assert (await storm.targets())["a1"].breaker != executor_pb2.TargetStatus.BREAKER_STATE_CLOSED
        storm.proxy.fault = Fault()
        async with asyncio.timeout(20):
            while (await storm.blow(1)).answered[0].target != "a1":
                pass
        assert (await storm.targets())["a1"].breaker == executor_pb2.TargetStatus.BREAKER_STATE_CLOSED


async def test_slow_targets_are_left_alone_and_what_is_known_of_them_is_listed(
    provider_url: str, tmp_path: Path
) -> None:
    breaker = {"slow_call_s": 0.1, "slow_ratio": 0.5, "calls_min": 4}
    async with executor_under_fire(tmp_path, provider_url, breaker=breaker) as storm:
        await storm.script(**{"a1": [say("fine", latency_s=0.15)], "*": [say("fine")]})
        assert (await storm.blow(3, callers=1)).lost == []
        seen = (await storm.targets())["a1"]
        assert (seen.window_calls, seen.window_slow, seen.window_failures, seen.opened_by_peer) == (3, 3, 0, False)
        assert seen.latency_average.ToTimedelta().total_seconds() >= 0.1
        assert not (await storm.targets())["a2"].HasField("latency_average")
        assert (await storm.blow(5, callers=1)).answered[-1].target == "a2"
        assert (await storm.targets())["a1"].breaker == OPEN


# All fail: the outage stays small.


async def _calls_made(storm: Storm) -> int:
    return len(await storm.calls())


@pytest.mark.parametrize("breaker", [{}, NEVER_OPENS], ids=["with breakers", "with the retry budget alone"])
async def test_a_total_outage_makes_at_most_eleven_calls_for_ten_requests(
    provider_url: str, tmp_path: Path, breaker: dict[str, int]
) -> None:
    async with executor_under_fire(tmp_path, provider_url, breaker=breaker) as storm:
        await storm.script(**{"*": [{"status": 500}]})
        tally = await storm.blow(400)
        assert (len(tally.lost), tally.requests) == (400, 400)
        assert {error.reason for error in tally.lost} == {"NO_MODEL_AVAILABLE"}
        assert all(error.retry_after_s is not None and error.retry_after_s > 0 for error in tally.lost)
        assert 0 < await _calls_made(storm) <= 1.1 * 400


async def test_an_outage_that_hangs_makes_no_storm_either(storm: Storm) -> None:
    await storm.script(**{"*": [{"hang": True}]})
    tally = await storm.blow(100)
    assert len(tally.lost) == 100
    assert 0 < await _calls_made(storm) <= 110


async def test_with_everything_open_the_answer_is_an_error_with_a_time_and_no_call(storm: Storm) -> None:
    await storm.script(
        a1=[{"status": 429, "retry_after_s": 90}],
        a2=[{"status": 429, "retry_after_s": 40}],
        c1=[{"status": 429, "retry_after_s": 200}],
    )
    await storm.blow(1)
    await storm.well()  # and the journal is empty
    tally = await storm.blow(20)
    assert [error.reason for error in tally.lost] == ["NO_MODEL_AVAILABLE"] * 20
    assert all(error.retry_after_s is not None and 20 < error.retry_after_s <= 40 for error in tally.lost)
    assert await storm.calls() == []


# What a provider asks for is done.


def _times(calls: list[dict[str, Any]], model: str) -> list[float]:
    return [float(call["received_at_unix_s"]) for call in calls if call["model"] == model]


async def _until_called_again(storm: Storm, model: str, calls_before: int) -> list[float]:
    async with asyncio.timeout(20):
        while True:
            times = _times(await storm.calls(), model)
            if len(times) > calls_before:
                return times
            assert (await storm.blow(1)).lost == []


@pytest.mark.parametrize(
    "throttle",
    [
        {"status": 429, "retry_after_s": 1},
        {"status": 429, "headers": {"retry-after-ms": "800"}},
        {"status": 503, "retry_after_s": 1},
        {"status": 529, "retry_after_s": 1},
    ],
    ids=["429", "milliseconds", "503", "529"],
)
async def test_no_call_comes_before_the_time_that_was_asked_for(storm: Storm, throttle: dict[str, Any]) -> None:
    asked_s = throttle.get("retry_after_s", 0.8)
    await storm.script(**{"a1": [{**throttle, "times": 1}, say("fine")], "*": [say("fine")]})
    await storm.blow(1)
    first, second = await _until_called_again(storm, "a1", 1)
    assert second - first >= asked_s


async def test_of_a_burst_of_throttles_the_longest_is_kept(storm: Storm) -> None:
    asked_s = [0.3, 0.0, 1.2, 0.3, 0.6, 1.2, 0.1, 0.3]
    steps = [
        {"status": 429, "headers": {"retry-after-ms": f"{seconds * 1_000:.0f}"}, "latency_s": 0.2, "times": 1}
        for seconds in asked_s
    ]
    await storm.script(**{"a1": [*steps, say("fine")], "*": [say("fine")]})
    assert (await storm.blow(CALLERS)).lost == []
    times = await _until_called_again(storm, "a1", CALLERS)
    assert times[CALLERS] >= max(at_s + seconds for at_s, seconds in zip(times, asked_s, strict=False))


async def test_an_empty_account_is_left_alone_with_all_its_models(storm: Storm) -> None:
    spent = {"status": 429, "error_type": "insufficient_quota", "error_code": "insufficient_quota"}
    await storm.script(**{"a2": [spent], "*": [say("fine")]})
    plan = Plan((PlannedTier("simple", ("a2",), attempt_timeout_s=5), PlannedTier("complex", ("c1", "a1"))))
    tally = await storm.blow(10, plan, callers=1)
    assert [execution.target for execution in tally.answered] == ["a1"] * 10  # c1 has the same account
    calls = await storm.calls()
    assert (len(_times(calls, "a2")), len(_times(calls, "c1"))) == (1, 0)
    assert {(await storm.targets())[name].breaker for name in ("a2", "c1")} == {OPEN}


# The long form.


@pytest.mark.skipif(not ROUNDS, reason="SPILLWAY_SOAK_ROUNDS is not set")
@pytest.mark.timeout(0)
async def test_soak(provider_url: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("SPILLWAY_SOAK_SEED", str(random.SystemRandom().randrange(2**32))))
    print(f"seed {seed}")
    chance = random.Random(seed)
    requests = bad = 0
    breaker = {"open_s": 0.02, "open_s_max": 0.1}  # many probes
    async with executor_under_fire(tmp_path, provider_url, breaker=breaker, slow_start_s=0) as storm:
        for _ in range(ROUNDS):
            faults: list[tuple[str, Fault | dict[str, Any]]] = [*HOPS.items(), *ANSWERS.items(), *STREAMS.items()]
            chance.shuffle(faults)
            for name, fault in faults:
                storm.proxy.fault = fault if isinstance(fault, Fault) else Fault()
                step = say("fine") if isinstance(fault, Fault) else fault
                await storm.script(**{"a1": [step], "*": [say("fine")]})
                streamed = chance.random() < 0.5
                plan = STREAM_PLAN if streamed else PLAN
                tally = await storm.blow(10 * REQUESTS, plan, callers=4 * CALLERS, streamed=streamed)
                assert tally.lost == [], name
                requests += tally.requests
                bad += tally.bad_calls("a1")
            storm.proxy.fault = Fault()
            await storm.script(**{"*": [{"status": 500}]})
            tally = await storm.blow(30 * REQUESTS, callers=4 * CALLERS)
            assert len(tally.lost) == tally.requests
            assert len(await storm.calls()) <= 1.1 * tally.requests
            await storm.well()
            async with asyncio.timeout(20):
                while any(target.breaker == OPEN for target in (await storm.targets()).values()):
                    await storm.blow(1)
    print(f"{requests} requests answered, none lost, although {bad} calls failed")
