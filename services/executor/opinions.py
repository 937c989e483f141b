"""What the gates of a rung ask of models themselves about one answer: second opinions, self-evaluation, a judge.

Promises: every such call is an attempt of its own, with its span, its purpose and its cost, whatever becomes of it.
Opinions are asked at the same time as the answer (in turn: the first of them, each further one while the verdict is
open), and given up, cancelled and paid for, as soon as they cannot change the verdict any more. Graders are asked
afterwards, only about an answer that all other gates would take. All of it stays within the time of the call and within
the plan's ceiling. No call outlives its panel: who leaves it ends those still under way and waits until their leases
are given back. A call that is not made or fails is no error: its gate abstains and says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, Self

from services.executor.attempts import AttemptInProgress, Attempts
from services.executor.budget import ATTEMPT_S_MIN
from services.executor.gates import judge, self_evaluation
from services.executor.gates.composite import Evidence, Judgement, Opinion, judge_answer
from services.executor.gates.grading import Grade, Grader
from services.executor.gates.schema import Schemas
from services.executor.lease import Refusal
from services.executor.outcome import Answer
from services.executor.prompt import another_sample
from services.executor.steps import COST_CEILING, Call
from services.executor.tab import Tab
from services.executor.targets import TargetPool
from services.executor.unknown_targets import TARGET_UNKNOWN
from spillway.chat import ChatRequest, Message
from spillway.routing import (
    AgreementSpec,
    AttemptOutcome,
    AttemptPurpose,
    JudgeSpec,
    PlannedTier,
    SelfEvaluationSpec,
)

__all__ = ["Opinions", "Panel", "gate_targets", "seats"]

_WHY_NOT: Final = {COST_CEILING: "asking would cost more than is allowed"}


def gate_targets(tier: PlannedTier) -> tuple[str, ...]:
    """The targets that the gates of `tier` name, beside its own."""
    named: list[str] = []
    for gate in tier.gates:
        if isinstance(gate, AgreementSpec):
            named += (gate.second_target, *gate.further_targets)
        elif isinstance(gate, (SelfEvaluationSpec, JudgeSpec)):
            named.append(gate.target)
    return tuple(dict.fromkeys(filter(None, named)))


def seats(tier: PlannedTier, target: str, is_down: Callable[[str], bool]) -> tuple[str, ...]:
    """Who gives an opinion on the answer of `target`; "" for a seat that nobody can take.

    Without an agreement gate there are none. The first seat is the second target's, else the next one's of the tier.
    Where earlier rungs' answers count, an only target is not sampled twice unless it is named as its own second.
    """
    spec = _agreement(tier)
    if spec is None:
        return ()
    further = tuple("" if is_down(name) else name for name in spec.further_targets)
    if spec.second_target and spec.second_target != target and not is_down(spec.second_target):
        return (spec.second_target, *further)
    others = [name for name in tier.targets if name != target]
    if not others and not spec.second_target and spec.count_earlier:
        return further
    if not others and spec.second_target in {"", target}:
        return (target, *further)  # the only one: a second sample of it
    return (next((name for name in others if name not in further and not is_down(name)), ""), *further)


def _agreement(tier: PlannedTier) -> AgreementSpec | None:
    """The gate that says who is asked, and how."""
    return next((gate for gate in tier.gates if isinstance(gate, AgreementSpec)), None)


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


@dataclass(slots=True)
class _Seat:
    """A place for one opinion. `task` is None until its turn, `attempt` until the call begins.

    A `target` of "": nobody can take it.
    """

    target: str
    chat: ChatRequest
    task: asyncio.Task[None] | None = None
    attempt: AttemptInProgress | None = None

    @property
    def opinion(self) -> Opinion:
        """What was said here so far."""
        made = self.attempt
        return Opinion() if made is None else Opinion(made.answer, made.cost_nanousd, made.latency_s)


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
        self._ends_at_s = tab.now_s + call.timeout_s
        self._answers_from = call.target
        self._asked: list[AttemptInProgress] = []
        self._stand_in: AttemptInProgress | None = None
        self._seats: list[_Seat] = []
        self._graders: list[asyncio.Task[Grade]] = []

    @property
    def cost_nanousd(self) -> int:
        """What its calls have cost; whole once the panel is left."""
        return sum(attempt.cost_nanousd for attempt in self._asked)

    async def __aenter__(self) -> Self:
        taken = {self._call.target}
        for target in seats(self._call.tier, self._call.target, self._tab.is_down):
            # A target that is asked again is asked for another sample, or it would say the same.
            self._seats.append(_Seat(target, another_sample(self._chat) if target in taken else self._chat))
            taken.add(target)
        spec = _agreement(self._call.tier)
        while self._call_on_next() and not (spec is not None and spec.in_turn):
            pass
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _end([*self._pending(), *self._graders])
        for attempt in self._asked:
            if attempt.answer is not None and attempt is not self._stand_in:
                attempt.outcome = AttemptOutcome.EVIDENCE
                attempt.end_span()

    async def judge(self, answer: Answer) -> Judgement:
        """What the gates say of `answer`. Waits for opinions while they may matter, then asks the graders."""
        judgement, evidence = self._judged(answer)
        while judgement.is_open and (pending := self._awaited()):
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            judgement, evidence = self._judged(answer)
        if pending := self._pending():
            await _end(pending)
            judgement, evidence = self._judged(answer)  # with what the opinions have cost
        if not judgement.to_ask:
            return judgement
        grades = await self._grade(judgement.to_ask, judgement.answer.message)
        return judge_answer(answer, self._call.tier.gates, replace(evidence, grades=grades), self._schemas)

    async def stand_in(self) -> AttemptInProgress | None:
        """The first opinion to come, which takes the place of an answer that there is not; None when there is none."""
        while True:
            for seat in self._seats:
                if seat.attempt is not None and seat.attempt.answer is not None:
                    self._stand_in, seat.attempt = seat.attempt, None  # its own seat is empty now
                    self._answers_from = self._stand_in.target.name
                    return self._stand_in
            if not (pending := self._awaited()):
                return None
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)

    def _judged(self, answer: Answer) -> tuple[Judgement, Evidence]:
        evidence = replace(self._evidence, opinions=tuple(seat.opinion for seat in self._seats))
        return judge_answer(answer, self._call.tier.gates, evidence, self._schemas), evidence

    def _call_on_next(self) -> bool:
        """Asks for the next opinion; False when there is nobody left to ask."""
        seat = next((seat for seat in self._seats if seat.target and seat.task is None), None)
        if seat is None:
            return False
        seat.task = asyncio.create_task(self._opine(seat, self._ends_at_s - self._tab.now_s))
        return True

    async def _opine(self, seat: _Seat, timeout_s: float) -> None:
        def begun(attempt: AttemptInProgress) -> None:
            seat.attempt = attempt

        await self._ask(seat.target, seat.chat, AttemptPurpose.SECOND_OPINION, timeout_s, begun)

    async def _grade(self, graders: Sequence[Grader], answer: Message) -> tuple[Grade, ...]:
        self._graders = [asyncio.create_task(self._ask_grader(spec, answer)) for spec in dict.fromkeys(graders)]
        return tuple(await asyncio.gather(*self._graders))

    async def _ask_grader(self, spec: Grader, answer: Message) -> Grade:
        left_s = self._ends_at_s - self._tab.now_s
        if left_s < ATTEMPT_S_MIN:
            return Grade(spec, None, "no time was left")
        if isinstance(spec, JudgeSpec):
            purpose, chat = AttemptPurpose.JUDGE, judge.prompt(spec, self._evidence.chat, answer)
        else:
            purpose, chat = AttemptPurpose.SELF_EVALUATION, self_evaluation.prompt(self._evidence.chat, answer)
        attempt = await self._ask(spec.target or self._answers_from, chat, purpose, left_s)
        if isinstance(attempt, str):
            return Grade(spec, None, _WHY_NOT.get(attempt, "the grader is not available"))
        text = None if attempt.answer is None else attempt.answer.message.text
        missing = "" if attempt.answer else "the grader did not answer"
        return Grade(spec, text, missing, attempt.cost_nanousd, attempt.latency_s)

    async def _ask(
        self,
        target: str,
        chat: ChatRequest,
        purpose: AttemptPurpose,
        timeout_s: float,
        begun: Callable[[AttemptInProgress], None] | None = None,
    ) -> AttemptInProgress | str:
        """The attempt, once it has ended; or the reason why it was not made, which is on the tab too."""
        if target not in self._pool:
            self._tab.skip(self._call.tier, target, TARGET_UNKNOWN, purpose)
            return TARGET_UNKNOWN
        granted = self._tab.offer(target, chat)
        refused, lease = COST_CEILING, None
        if granted is not None:
            taken = self._pool.take(target, self._tab.now_s)
            refused, lease = (taken.error_reason, None) if isinstance(taken, Refusal) else ("", taken)
        if granted is None or lease is None:
            self._tab.skip(self._call.tier, target, refused, purpose)
            return refused
        attempt = self._tab.begin(self._call.tier, target, granted, purpose)
        self._asked.append(attempt)
        if begun is not None:
            begun(attempt)
        await self._attempts.complete(attempt, lease, granted.chat, timeout_s)
        return attempt

    def _awaited(self) -> list[asyncio.Task[None]]:
        """The opinions under way; when there are none, the one whose turn it is, if there is time for it."""
        has_time = self._ends_at_s - self._tab.now_s >= ATTEMPT_S_MIN
        if not (pending := self._pending()) and has_time and self._call_on_next():
            return self._pending()
        return pending

    def _pending(self) -> list[asyncio.Task[None]]:
        return [seat.task for seat in self._seats if seat.task is not None and not seat.task.done()]


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancels what is under way and waits for the end of it."""
    under_way = [task for task in tasks if not task.done()]
    for task in under_way:
        task.cancel()
    if under_way:
        await asyncio.wait(under_way)
