"""One answer beside the flagship's: the flagship is asked, then the judge, twice.

Promises: every call is an execution of one named target, without gates, and within what is left of the money that was
reserved. What it has cost is on the tab, however it ends: a call whose cost nobody can tell counts with its bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import grpc

from services.orchestrator.canary.judging import PairGrades, combine, pair_chat, read_grades
from services.orchestrator.canary.sample import Comparison, Sample
from services.orchestrator.canary.spending import Bound, Bounds
from services.orchestrator.hops import ExecutionError, ExecutorHop
from services.runtime.errors import SpillwayError
from spillway.chat import ChatRequest, FinishReason, Message
from spillway.routing import Execution, Plan, PlannedTier, Strategy
from spillway.settings import Target

__all__ = ["CanaryOutcome", "Comparing", "NoGrade", "Tab"]

# Errors after which a model may have been called, although the executor does not say so.
_WITHOUT_A_WORD: Final = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL}
)
_COMPLETE: Final = frozenset({FinishReason.STOP, FinishReason.TOOL_CALLS})
_NOTHING: Final = Bound(0, 0)


class CanaryOutcome(StrEnum):
    """What became of an answer that was drawn: a grade, or why there is none."""

    GRADED = "graded"
    LEFT_OUT = "left_out"
    OVER_BUDGET = "over_budget"
    OVER_QUOTA = "over_quota"
    FLAGSHIP_FAILED = "flagship_failed"
    FLAGSHIP_INCOMPLETE = "flagship_incomplete"
    JUDGE_FAILED = "judge_failed"
    JUDGE_UNREADABLE = "judge_unreadable"
    BROKEN = "broken"
    CUT_OFF = "cut_off"


@dataclass(slots=True)
class Tab:
    """What one canary has spent; `under_way` bounds the call of which it is not known yet."""

    left_nanousd: int = 0
    cost_nanousd: int = 0
    tokens: int = 0
    under_way: Bound = _NOTHING

    def spend(self, cost_nanousd: int, tokens: int) -> None:
        self.cost_nanousd += cost_nanousd
        self.left_nanousd = max(0, self.left_nanousd - cost_nanousd)
        self.tokens += tokens
        self.under_way = _NOTHING

    def spend_bound(self) -> None:
        self.spend(self.under_way.cost_nanousd, self.under_way.tokens)


class NoGrade(Exception):  # noqa: N818 - an ending, no error
    """The comparison ends here."""

    def __init__(self, outcome: CanaryOutcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Comparing:
    """One comparison. `word` draws a random word; `timeout_s` bounds each call."""

    executor: ExecutorHop
    word: Callable[[], str]
    sample: Sample
    compared: Comparison
    bounds: Bounds
    tab: Tab
    timeout_s: float

    async def grades(self, output_tokens: int) -> PairGrades:
        """The grades; the flagship may write `output_tokens`. Raises NoGrade."""
        sample = self.sample
        generation = replace(sample.chat.generation, max_output_tokens=output_tokens)
        theirs = await self._ask_flagship(replace(sample.chat, generation=generation))
        if not theirs.accepted or theirs.finish_reason not in _COMPLETE:
            raise NoGrade(CanaryOutcome.FLAGSHIP_INCOMPLETE)
        one = await self._ask_judge(sample.message, theirs.message)
        other = await self._ask_judge(theirs.message, sample.message)
        return combine(one, other)

    async def _ask_flagship(self, chat: ChatRequest) -> Execution:
        compared = self.compared
        where = PlannedTier(compared.flagship_tier, (compared.flagship.name,))
        return await self._ask(chat, where, compared.flagship, self.bounds.flagship)

    async def _ask_judge(self, first: Message, second: Message) -> tuple[int, int]:
        compared, word = self.compared, self.word()
        chat = pair_chat(self.sample.chat, first, second, word)
        where = PlannedTier(compared.judge_tier, (compared.judge.name,))
        said = await self._ask(chat, where, compared.judge, self.bounds.judge, CanaryOutcome.JUDGE_FAILED)
        grades = read_grades(said.message.text, word)
        if grades is None:
            raise NoGrade(CanaryOutcome.JUDGE_UNREADABLE)
        return grades

    async def _ask(
        self,
        chat: ChatRequest,
        where: PlannedTier,
        target: Target,
        bound: Bound,
        failed: CanaryOutcome = CanaryOutcome.FLAGSHIP_FAILED,
    ) -> Execution:
        tab, timeout_s = self.tab, self.timeout_s
        ceiling_nanousd = tab.left_nanousd if bound.cost_nanousd else None  # None: it is free
        if ceiling_nanousd == 0:
            raise NoGrade(failed)
        plan = Plan(
            tiers=(replace(where, attempt_timeout_s=timeout_s),),
            strategy=Strategy.DIRECT,
            escalations_max=0,
            cost_nanousd_max=ceiling_nanousd,
        )
        tab.under_way = bound
        try:
            execution = await self.executor.execute(
                chat, plan, task_type=self.sample.task_type, timeout_s=timeout_s, again=_not_again
            )
        except ExecutionError as error:
            tab.spend(error.failed.cost_nanousd, 0)
            raise NoGrade(failed) from error
        except SpillwayError as error:
            if error.code not in _WITHOUT_A_WORD:
                tab.under_way = _NOTHING
            tab.spend_bound()
            raise NoGrade(failed) from error
        usage = execution.usage_total
        tab.spend(execution.cost_nanousd, usage.input_tokens + usage.output_tokens)
        return execution


async def _not_again() -> None:
    """What was lost may have cost all that it could."""
