"""When the small LLM is asked, for how long, and what becomes of failures."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

import pytest

from services.classifier.small_llm_layer import (
    FAILURES_MAX,
    IN_FLIGHT_MAX,
    PAUSE_S,
    TIME_SHARE,
    Asked,
    AskerError,
    Asking,
    Reply,
    SmallLlmLayer,
)
from services.runtime.clock import FakeClock
from spillway.chat import ChatRequest, Message, Role
from spillway.routing import Complexity

MESSAGES = (Message.of(Role.USER, "Explain heat pumps"),)
ANSWER = json.dumps({"complexity": "medium", "task_type": "factual_qa", "confidence": 0.8})


@dataclass
class FakeAsker:
    """Answers as it is told to."""

    reply: Reply | Exception = field(default_factory=lambda: Reply(ANSWER, 70))
    hangs: bool = False
    asked: list[float] = field(default_factory=list)
    arrived: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def ask(self, chat: ChatRequest, *, timeout_s: float) -> Reply:
        self.asked.append(timeout_s)
        self.arrived.release()
        if self.hangs:
            await asyncio.Event().wait()
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


def layer(asker: FakeAsker, clock: FakeClock | None = None, *, share_max: float = 1.0) -> SmallLlmLayer:
    return SmallLlmLayer(asker, clock or FakeClock(), confidence_max=0.55, share_max=share_max, timeout_s=2.0)


async def judged(of: SmallLlmLayer, *, confidence: float = 0.4, time_s: float | None = None) -> Asked:
    return await of.judge(MESSAGES, confidence=confidence, time_s=time_s)


async def test_an_unsure_judgement_is_asked_about() -> None:
    asker = FakeAsker()
    asked = await judged(layer(asker))
    assert asked.opinion is not None
    assert asked.opinion.complexity is Complexity.MEDIUM
    assert (asked.asking, asked.cost_nanousd, asked.was_sent) == (Asking.ANSWERED, 70, True)
    assert asker.asked == [2.0]


async def test_a_sure_judgement_is_not_asked_about() -> None:
    asker = FakeAsker()
    assert (await judged(layer(asker), confidence=0.55)).asking is Asking.SURE
    assert asker.asked == []


async def test_sure_judgements_count_for_the_share() -> None:
    asker = FakeAsker()
    layer_ = layer(asker, share_max=0.1)
    for _ in range(9):
        assert (await judged(layer_)).asking is Asking.SHARE_USED
    assert (await judged(layer_)).asking is Asking.ANSWERED
    for _ in range(9):
        await judged(layer_, confidence=0.9)
    assert (await judged(layer_)).asking is Asking.ANSWERED
    assert len(asker.asked) == 2


@pytest.mark.parametrize(("time_s", "expected"), [(1.0, TIME_SHARE), (100.0, 2.0), (None, 2.0)])
async def test_it_takes_no_more_than_its_time_and_a_share_of_the_callers(time_s: float | None, expected: float) -> None:
    asker = FakeAsker()
    await judged(layer(asker), time_s=time_s)
    assert asker.asked == [pytest.approx(expected)]


async def test_with_hardly_any_time_left_it_is_not_asked() -> None:
    asker = FakeAsker()
    assert (await judged(layer(asker), time_s=0.05)).asking is Asking.NO_TIME
    assert asker.asked == []


@pytest.mark.parametrize(
    ("reply", "expected", "cost"),
    [
        (AskerError("unavailable", cost_nanousd=5), Asking.FAILED, 5),
        (TimeoutError(), Asking.TIMEOUT, 0),
        (Reply("I think it is hard.", 9), Asking.UNREADABLE, 9),
    ],
)
async def test_failures_are_told_and_after_some_in_a_row_it_is_left_alone(
    reply: Reply | Exception, expected: Asking, cost: int
) -> None:
    asker, clock = FakeAsker(reply), FakeClock()
    layer_ = layer(asker, clock)
    for _ in range(FAILURES_MAX):
        asked = await judged(layer_)
        assert (asked.asking, asked.cost_nanousd, asked.opinion) == (expected, cost, None)
    assert (await judged(layer_)).asking is Asking.LEFT_ALONE
    asker.reply = Reply(ANSWER)
    clock.advance(PAUSE_S)
    assert (await judged(layer_)).asking is Asking.ANSWERED
    assert len(asker.asked) == FAILURES_MAX + 1


async def test_a_question_that_hangs_is_given_up() -> None:
    assert (await judged(layer(FakeAsker(hangs=True)), time_s=0.07)).asking is Asking.TIMEOUT


async def test_questions_under_way_are_bounded_and_cancelled_ones_make_room() -> None:
    asker = FakeAsker(hangs=True)
    layer_ = layer(asker)
    tasks = [asyncio.ensure_future(judged(layer_)) for _ in range(IN_FLIGHT_MAX)]
    for _ in tasks:
        await asker.arrived.acquire()
    assert (await judged(layer_)).asking is Asking.BUSY
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    asker.hangs = False
    assert (await judged(layer_)).asking is Asking.ANSWERED


async def test_a_probe_that_its_caller_left_is_made_again() -> None:
    asker, clock = FakeAsker(AskerError("unavailable")), FakeClock()
    layer_ = layer(asker, clock)
    for _ in range(FAILURES_MAX):
        await judged(layer_)
    clock.advance(PAUSE_S)
    asker.hangs = True
    probe = asyncio.ensure_future(judged(layer_))
    for _ in range(FAILURES_MAX + 1):
        await asker.arrived.acquire()
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    asker.hangs, asker.reply = False, Reply(ANSWER)
    assert (await judged(layer_)).asking is Asking.ANSWERED
