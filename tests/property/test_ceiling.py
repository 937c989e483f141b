"""Under a ceiling: what an execution truly costs at its providers, with any strategy, gates and luck."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.executor.execution import Executor
from services.executor.gates.calibration import BASELINE
from services.executor.no_answer import NoAnswerError
from services.executor.outcome import Answer, FailureKind, ProviderFailure
from services.executor.providers.provider import ProviderCall, StreamEvent
from services.executor.targets import TargetPool
from services.runtime.clock import FakeClock
from spillway.bounds import input_tokens_most
from spillway.chat import GenerationParams, Usage
from spillway.routing import (
    AgreementSpec,
    AnswerDelta,
    Execution,
    GateSpec,
    JudgeSpec,
    Plan,
    PlannedTier,
    SelfConfidenceSpec,
    SelfEvaluationSpec,
    Strategy,
    StreamPrefix,
)
from tests.unit.executor.builders import answer, chat
from tests.unit.executor.builders import settings as configured

TARGETS = {"simple": ("a1", "a2"), "medium": ("b1",), "complex": ("c1", "c2")}
SLOW_TURNS = 30


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a call, and which shares of the tokens that it may have it takes."""

    what: str
    share_in: float
    share_out: float


class Till:
    """A provider that keeps to the limit of output tokens, and knows what it has truly earned."""

    def __init__(self, luck: Sequence[Fate], pool: TargetPool) -> None:
        self._luck = itertools.cycle(luck)
        self._pool = pool
        self.earned_nanousd = 0

    async def complete(self, call: ProviderCall) -> Answer | ProviderFailure:
        fate = next(self._luck)
        limit = call.chat.generation.max_output_tokens
        assert limit is not None, "under a ceiling every call is limited"
        if fate.what == "down":
            return ProviderFailure(FailureKind.ERROR, "PROVIDER_5XX")
        usage = Usage(int(fate.share_in * input_tokens_most(call.chat)), int(fate.share_out * limit))
        self.earned_nanousd += self._pool[call.model].price.nanousd(usage)
        for _ in range(SLOW_TURNS if fate.what == "slow" else 1):
            await asyncio.sleep(0)
        if fate.what == "broken":
            return ProviderFailure(FailureKind.ERROR, "PROVIDER_INTERRUPTED", billable=True, output_chars=3)
        text = {"unsure": "CONFIDENCE: 1", "other": f"#### {call.model}"}.get(fate.what, '#### 42 {"score": 0.9}')
        return answer(text, usage=None if fate.what == "uncounted" else usage)

    async def stream(self, call: ProviderCall) -> AsyncGenerator[StreamEvent, None]:
        result = await self.complete(call)
        if isinstance(result, Answer):
            yield AnswerDelta(result.message.text[:5])
            await asyncio.sleep(0)
            yield AnswerDelta(result.message.text[5:])
        yield result

    async def close(self) -> None:
        """Nothing is open."""


luck = st.lists(
    st.builds(
        Fate,
        st.sampled_from(["good", "good", "unsure", "other", "uncounted", "broken", "down", "slow"]),
        st.sampled_from([0.0, 0.3, 1.0]),
        st.sampled_from([0.0, 0.3, 1.0, 1.0]),
    ),
    min_size=1,
    max_size=12,
)
gates = st.lists(
    st.sampled_from(
        [
            SelfConfidenceSpec(),
            AgreementSpec(),
            AgreementSpec("c1", further_targets=("a2", "b1"), agreeing_min=2),
            AgreementSpec("b1", further_targets=("c2",), in_turn=True, count_earlier=True),
            JudgeSpec("c1"),
            SelfEvaluationSpec(),
        ]
    ),
    max_size=3,
)


@given(
    luck,
    st.sampled_from(list(Strategy)),
    st.fixed_dictionaries({tier: st.tuples(gates, st.sampled_from([None, StreamPrefix(2, 2.0)])) for tier in TARGETS}),
    st.booleans(),
    st.one_of(st.integers(1, 30_000_000), st.integers(1, 1_000_000_000)),
    st.sampled_from([None, 10, 300, 20_000]),
)
@example(  # who loses a race is cancelled, and may be paid all the same
    luck=[Fate("slow", 1.0, 1.0), Fate("good", 0.3, 0.3)],
    strategy=Strategy.RACE,
    shape={"simple": ([], None), "medium": ([], None), "complex": ([], None)},
    streaming=False,
    ceiling=1_000_000_000,
    limit=300,
)
@settings(max_examples=150)
def test_the_true_costs_of_all_calls_never_exceed_the_ceiling(
    luck: list[Fate],
    strategy: Strategy,
    shape: dict[str, tuple[list[GateSpec], StreamPrefix | None]],
    streaming: bool,
    ceiling: int,
    limit: int | None,
) -> None:
    config = configured(hedging={"share_max": 1.0, "delay_s_default": 0.001})
    pool = TargetPool(config, random=lambda: 0.5)
    till = Till(luck, pool)
    clock = FakeClock()
    executor = Executor(
        {"p": till}, pool, clock, confidence_min=0.5, calibration=BASELINE, hedging=config.executor.hedging
    )
    tiers = tuple(
        PlannedTier(tier, names, tuple(shape[tier][0]), stream_prefix=shape[tier][1]) for tier, names in TARGETS.items()
    )
    plan = Plan(tiers, strategy, cost_nanousd_max=ceiling)
    asked = chat(generation=GenerationParams(max_output_tokens=limit))

    async def run() -> int:
        try:
            if not streaming:
                return (await executor.execute(asked, plan, None, 60.0)).cost_nanousd
            async for event in executor.stream(asked, plan, None, 60.0):
                if isinstance(event, Execution):
                    return event.cost_nanousd
        except NoAnswerError as error:
            return error.failed.cost_nanousd
        raise AssertionError("an execution without an end")

    async def timed() -> int:
        task = asyncio.create_task(run())
        while not task.done():
            await asyncio.sleep(0)
            clock.advance(0.0001)
        return await task

    reported = asyncio.run(timed())
    assert till.earned_nanousd <= ceiling, "not a nano dollar beyond it"
    assert till.earned_nanousd <= reported <= ceiling, "and nothing is counted too low"
