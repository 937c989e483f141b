"""A canary among scripted models."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.orchestrator.canary.canary import Admit, Canary, CanaryOutcome
from services.orchestrator.canary.drift_store import DriftStore, MemoryDrift
from services.orchestrator.canary.monitor import Alarm, DriftMonitor
from services.orchestrator.canary.sample import Sample
from services.orchestrator.hops import Again
from services.runtime.clock import FakeClock
from services.runtime.errors import SpillwayError
from spillway.chat import ChatRequest, FinishReason, Message, Role, Usage
from spillway.routing import AnswerDelta, Execution, Grade, Plan, TaskType, TierOutcome
from spillway.settings import Settings
from tests.support.waiting import until
from tests.unit.orchestrator.ladder import settings_of

__all__ = ["Models", "Nest", "canary_settings", "sample"]

CALL_NANOUSD = 1_000
THEIRS = "Lyon, says the flagship."
OURS = "Paris, says the cheap one."


def canary_settings(**canary: Any) -> Settings:
    return settings_of(canary={"share": 1.0, "cost_usd_per_day": 100.0, **canary})


def sample(request_id: str = "r1", *, text: str = OURS, task_type: TaskType = TaskType.CODE, **more: Any) -> Sample:
    fields: dict[str, Any] = {
        "tenant": "acme",
        "chat": ChatRequest((Message.of(Role.USER, "What is the capital of France?"),)),
        "tier": "simple",
        "target": "simple-1",
        "message": Message.of(Role.ASSISTANT, text),
        "usage": Usage(20, 5),
    } | more
    return Sample(request_id=request_id, task_type=task_type, **fields)


@dataclass
class Models:
    """The flagship answers THEIRS; the judge grades by what each answer says. `held` keeps every call until set."""

    ours: int = 9
    theirs: int = 6
    first_bonus: int = 0
    says: list[str | SpillwayError | Execution] = field(default_factory=list)  # instead, in turn
    held: asyncio.Event | None = None
    asked: list[tuple[ChatRequest, Plan, TaskType | None, float]] = field(default_factory=list)
    under_way: int = 0
    under_way_most: int = 0

    async def execute(
        self, chat: ChatRequest, plan: Plan, *, task_type: TaskType | None, timeout_s: float, again: Again | None = None
    ) -> Execution:
        self.asked.append((chat, plan, task_type, timeout_s))
        self.under_way += 1
        self.under_way_most = max(self.under_way, self.under_way_most)
        try:
            await (self.held.wait() if self.held else asyncio.sleep(0))
        finally:
            self.under_way -= 1
        scripted = self.says.pop(0) if self.says else self._say(chat)
        if isinstance(scripted, SpillwayError):
            raise scripted
        return scripted if isinstance(scripted, Execution) else self.execution(scripted, plan)

    def stream(
        self, chat: ChatRequest, plan: Plan, *, task_type: TaskType | None, timeout_s: float, again: Again | None = None
    ) -> AsyncGenerator[AnswerDelta | Execution, None]:
        raise AssertionError("nobody reads along")

    def _say(self, chat: ChatRequest) -> str:
        text = chat.messages[-1].text
        found = re.search(r"<FIRST ANSWER (\w+)>\n(.*)\n</FIRST", text)
        if found is None:
            return THEIRS
        grades = (self.ours, self.theirs) if found[2] == OURS else (self.theirs, self.ours)
        return f'{{"mark": "{found[1]}", "first": {min(10, grades[0] + self.first_bonus)}, "second": {grades[1]}}}'

    @staticmethod
    def execution(
        text: str, plan: Plan, *, accepted: bool = True, finish_reason: FinishReason = FinishReason.STOP
    ) -> Execution:
        name = plan.tiers[0].targets[0]
        usage = Usage(10, 4)
        message = Message.of(Role.ASSISTANT, text)
        return Execution(
            message, finish_reason, accepted, plan.tiers[0].name, name, name, (), usage, usage, CALL_NANOUSD
        )


class Nest:
    """One canary with all that surrounds it."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        models: Models | None = None,
        store: DriftStore | None = None,
        admit: Admit | None = None,
        draws: Sequence[float] = (),
    ) -> None:
        self.settings = settings or canary_settings()
        self.clock = FakeClock()
        self.models = models or Models()
        self.alarms: list[Alarm] = []
        self.uncounted = 0
        self.grades: list[Grade] = []
        self.ungraded: list[Grade] = []
        self.learned: list[TierOutcome] = []
        self.outcomes: list[tuple[CanaryOutcome, int]] = []
        self._draws = list(draws)
        self.monitor = DriftMonitor(
            self.settings,
            store=store or MemoryDrift(),
            clock=self.clock,
            on_alarm=self.alarms.append,
            on_uncounted=self._count,
        )
        self.canary = Canary(
            self.settings,
            executor=self.models,
            monitor=self.monitor,
            clock=self.clock,
            draw=lambda: self._draws.pop(0) if self._draws else 0.0,
            on_grade=lambda grade: (self.ungraded if grade.outcome else self.grades).append(grade),
            on_outcome=lambda outcome, cost_nanousd, _: self.outcomes.append((outcome, cost_nanousd)),
            on_learned=self.learned.extend,
            admit=admit,
        )

    def _count(self) -> None:
        self.uncounted += 1

    async def settled(self) -> None:
        """Until nothing is under way and nothing waits."""
        await until(lambda: not (self.canary.under_way or self.canary.waiting))
