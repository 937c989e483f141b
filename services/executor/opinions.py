"""What the gates of a rung ask of models themselves about one answer: second opinions.

Promises: opinions are asked at the same time as the answer; each is an attempt of its own, with its span, its purpose
and its cost, whatever becomes of it. None outlives its panel: who leaves it ends the calls that are still under way
and waits until their leases are given back. A call that is not made or fails is no error: its gate abstains.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import TracebackType
from typing import Self

from services.executor.attempts import AttemptInProgress, Attempts
from services.executor.cascade import Call
from services.executor.gates import hard_failure
from services.executor.gates.composite import Evidence, Judgement, judge
from services.executor.gates.schema import Schemas
from services.executor.outcome import Answer, ProviderFailure
from services.executor.prompt import another_sample
from services.executor.tab import Tab
from services.executor.targets import Refusal, TargetPool
from spillway.chat import ChatRequest
from spillway.routing import AttemptOutcome, AttemptPurpose, Verdict

__all__ = ["Opinions", "Panel"]


class Opinions:
    """Opens panels, for one process."""

    def __init__(self, attempts: Attempts, pool: TargetPool, schemas: Schemas) -> None:
        self.attempts = attempts
        self.pool = pool
        self.schemas = schemas

    def panel(self, tab: Tab, call: Call, chat: ChatRequest, evidence: Evidence) -> Panel:
        """The panel on the answer to `call`, which is asked with `chat`. Its attempts go on `tab`.

        Begin the attempt of the call itself first: attempts are reported in the order in which they began.
        """
        return Panel(self, tab, call, chat, evidence)


class Panel:
    """One answer's panel; a context manager, in which opinions are under way."""

    def __init__(self, opinions: Opinions, tab: Tab, call: Call, chat: ChatRequest, evidence: Evidence) -> None:
        self._attempts = opinions.attempts
        self._pool = opinions.pool
        self._schemas = opinions.schemas
        self._tab = tab
        self._call = call
        self._chat = chat
        self._evidence = evidence
        self._asked: list[AttemptInProgress] = []
        self._second: AttemptInProgress | None = None
        self._second_task: asyncio.Task[Answer | ProviderFailure] | None = None
        self._stand_in: AttemptInProgress | None = None

    @property
    def cost_nanousd(self) -> int:
        """What its calls have cost; whole once the panel is left."""
        return sum(attempt.cost_nanousd for attempt in self._asked)

    async def __aenter__(self) -> Self:
        target = self._call.second_target
        if target:
            lease = self._pool.take(target, self._tab.now_s)
            if isinstance(lease, Refusal):
                self._tab.skip(self._call.tier, target, lease.error_reason, AttemptPurpose.SECOND_OPINION)
            else:
                chat = another_sample(self._chat) if target == self._call.target else self._chat
                self._second = self._tab.begin(self._call.tier, target, AttemptPurpose.SECOND_OPINION)
                self._asked.append(self._second)
                asking = self._attempts.complete(self._second, lease, chat, self._call.timeout_s)
                self._second_task = asyncio.create_task(asking)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._second_task is not None:
            self._second_task.cancel()
            await asyncio.wait({self._second_task})
        for attempt in self._asked:
            if attempt.answer is not None and attempt is not self._stand_in:
                attempt.outcome = AttemptOutcome.EVIDENCE
                attempt.end_span()

    async def judge(self, answer: Answer) -> Judgement:
        """What the gates say of `answer`. Waits for opinions only while they are of use."""
        evidence = self._evidence
        if self._second is not None and self._second_task is not None and _is_worth_opinions(answer):
            await self._second_task
            evidence = self._with_second(self._second)
        return judge(answer, self._call.tier.gates, evidence, self._schemas)

    async def stand_in(self) -> AttemptInProgress | None:
        """The opinion that takes the place of an answer that there is not; None when there is none."""
        if self._second is None or self._second_task is None:
            return None
        await self._second_task
        if self._second.answer is not None:
            self._stand_in, self._second = self._second, None
        return self._stand_in

    def _with_second(self, second: AttemptInProgress) -> Evidence:
        return replace(
            self._evidence,
            second=second.answer.message if second.answer else None,
            second_cost_nanousd=second.cost_nanousd,
            second_latency_s=second.latency_s,
        )


def _is_worth_opinions(answer: Answer) -> bool:
    """Whether opinions on it are still of use: not when it is no answer at all."""
    return hard_failure.check(answer).verdict is Verdict.PASS
