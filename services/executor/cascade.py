"""The cascade: which models to ask, when to stop, and which answer to return. A machine without I/O or clock.

Its driver repeats: `next()` for an action; carry it out; feed what happened. Calls have numbers, and several may be
under way. It promises
- rungs in the plan's order, cheapest first, and none again after one of its answers was rejected;
- a rejected answer escalates to the next rung, at most `escalations_max` times;
- a target that is not available falls back to the next of its rung, then to the next rung (no escalation);
- no step that may exceed the cost ceiling, what is under way counted, none without time (the rules stand in `budget`);
- an accepted answer is returned at once. Unproven answers are returned only when nothing can follow: that of the last
  rung that may be reached unless it is empty, else the highest that failed only soft gates;
- when all targets are closed for a moment only, it waits once and tries those again that open (see `recess`);
- a request that a provider refuses is tried nowhere else;
- once a stream is committed (its caller has seen some of it) nothing else is called, and it is the answer or the end;
- every call that it starts is ended exactly once: answered, unavailable, skipped, or cancelled at its own word.

The strategies
- CHEAP_FIRST: one call at a time, as said above. DIRECT: the first rung only.
- RACE: the first target of every rung at once; the first accepted answer wins. When all together would exceed the cost
  ceiling the dearest is skipped, until they fit. A target that fails is replaced by the next of its rung. No
  escalations: nobody waits for a rejection. When none is accepted, the rules for unproven answers hold.
- HEDGED: as CHEAP_FIRST, but once per execution a second call starts beside a slow one: of the rung's next target, else
  of the next rung's first one. Rejections wait for the other call: its answer may still be accepted. What is an early
  bad sign (a rejected prefix, a failure) ends the first call, so the next one starts at once and is no hedge.
- WATERFALL: for work that can wait. Every tier in turn until an answer is accepted: the plan's own limit of escalations
  does not count, only the general one (`ESCALATIONS_MAX`: the first three tiers that answer), and no call is given up
  early. It is never configured, only asked for by a request.

    state       input                                                       next state
    READY       next() -> Call | Skip | Wait                                READY
                next() -> Cancel                                            CANCELLING
                next() -> Return | Fail                                     DONE
                answered() | unavailable() | skipped() | committed()        READY
    CANCELLING  cancelled()                                                 READY
    DONE        nothing
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from services.executor.budget import (
    ATTEMPT_S_MIN,
    CostCeiling,
    attempt_timeout_s,
    early_timeout_s,
    rung_reserve_s,
)
from services.executor.hedging import Hedging
from services.executor.outcome import FailureKind, ProviderFailure
from services.executor.recess import Recess
from services.executor.standing import Rung, Standing, UnderWay
from services.executor.steps import (
    COST_CEILING,
    Action,
    Call,
    Cancel,
    CascadeError,
    Fail,
    FailReason,
    Judged,
    Return,
    Skip,
    Wait,
)
from spillway.routing import Plan, Strategy

__all__ = ["ESCALATIONS_MAX", "Cascade"]

ESCALATIONS_MAX: Final = 2


class _State(StrEnum):
    READY = "ready"
    CANCELLING = "cancelling"
    DONE = "done"


class Cascade:
    """One execution. `estimates_nanousd` holds the most that one call of each target of the plan may cost.

    `least_nanousd` is what must be left for a call that is then made smaller; without it calls keep their size.
    `typical_s` is the time within which nearly all calls of a target end, for those of which it is known. `hedging` is
    needed for HEDGED; without it nothing is hedged.
    """

    def __init__(
        self,
        plan: Plan,
        estimates_nanousd: Mapping[str, int],
        typical_s: Mapping[str, float] | None = None,
        hedging: Hedging | None = None,
        *,
        least_nanousd: Mapping[str, int] | None = None,
    ) -> None:
        tiers = plan.tiers[:1] if plan.strategy is Strategy.DIRECT else plan.tiers
        self._rungs = [Rung(index, tier, list(tier.targets)) for index, tier in enumerate(tiers)]
        self._standing = Standing(self._rungs)
        self._recess = Recess()
        self._strategy = plan.strategy
        is_patient = plan.strategy is Strategy.WATERFALL
        self._escalations_max = ESCALATIONS_MAX if is_patient else plan.escalations_max
        self._estimates = estimates_nanousd
        self._least = estimates_nanousd if least_nanousd is None else least_nanousd
        self._typical_s = typical_s or {}
        self._hedging = hedging if plan.strategy is Strategy.HEDGED else None
        self._ceiling = CostCeiling(plan.cost_nanousd_max)
        self._state = _State.READY
        self._at = 0  # the rung that is walked
        self._highest = 0  # the highest rung that was called
        self._calls: dict[int, UnderWay] = {}
        self._numbered = 0
        self._cancelling = -1
        self._committed: int | None = None
        self._unreplaced = 0  # calls that failed, and which none has followed yet
        self._end: Return | Fail | None = None
        self.fallbacks = 0

    @property
    def escalations(self) -> int:
        """How often a higher rung was called because an answer had been rejected."""
        return 0 if self._strategy is Strategy.RACE else self._standing.rejected_below(self._highest)

    def is_alone(self, number: int) -> bool:
        """Whether no other call is under way."""
        return self._calls.keys() == {number}

    @property
    def is_decided(self) -> bool:
        """Whether the end is known, so that nothing else may begin to flow."""
        return self._end is not None

    def next(self, remaining_s: float) -> Action:
        """What to do now, with `remaining_s` seconds left of the whole deadline."""
        self._require(_State.READY)
        self._recess.observe(remaining_s)
        if self._end is None and self._committed is None:
            left_s = self._recess.left_s(remaining_s)
            if left_s > 0:
                return Wait(left_s)
            action = self._race(remaining_s) if self._strategy is Strategy.RACE else self._walk(remaining_s)
            if action is not None:
                return action
        for number in self._calls:
            if number != self._committed:
                self._state = _State.CANCELLING
                self._cancelling = number
                return Cancel(number)
        if self._end is None:
            return Wait()
        self._state = _State.DONE
        return self._end

    def answered(self, number: int, judged: Judged, spent_nanousd: int, *, by_second: bool = False) -> None:
        """The call was answered. `by_second`: the target was not available, and an opinion stands in for it."""
        ended = self._ended(number, spent_nanousd)
        self.fallbacks += by_second
        if judged.accepted or self._committed == number:
            self._end = Return(judged.attempt, judged.accepted)
            return
        self._at = max(self._at, ended.rung.index + 1)
        self._unreplaced = 0
        self._standing.rejected(ended, judged, may_follow=self._strategy is Strategy.RACE)

    def unavailable(self, number: int, failure: ProviderFailure, spent_nanousd: int) -> None:
        """The call failed."""
        ended = self._ended(number, spent_nanousd)
        if self._committed == number:
            self._end = Fail(FailReason.STREAM_INTERRUPTED)
        elif failure.kind is FailureKind.REJECTED:
            self._standing.no_more = FailReason.PROVIDER_REJECTED
        else:
            ended.rung.has_failed = True
            self._unreplaced += not ended.rung.is_rejected
            self._standing.lost(failure.retry_after_s)
            opens = failure.retry_after_s is not None and failure.kind is not FailureKind.SPEND_CAP
            self._note_closing(ended, failure.retry_after_s if opens else None)

    def skipped(
        self, number: int, retry_after_s: float | None, *, opens: bool = False, too_costly: bool = False
    ) -> None:
        """The call was not made: no place, an open breaker, or no further call to spare for a failed one.

        `opens`: by itself, after that time. `too_costly`: what its gates ask would not fit either.
        """
        ended = self._ended(number, 0)
        if too_costly:
            self._standing.any_too_costly = True
            self._unreplaced += ended.call.is_fallback
            if ended.call.is_hedge:  # when the call beside it has ended there may be money for it
                ended.rung.untried.insert(0, ended.call.target)
            return
        self._note_closing(ended, retry_after_s if opens else None)
        ended.rung.has_failed = True
        self._unreplaced += ended.call.is_fallback
        self._standing.lost(retry_after_s)

    def committed(self, number: int) -> None:
        """The caller has seen the beginning of this call's answer."""
        self._require(_State.READY)
        if number not in self._calls or self._committed is not None or self._end is not None:
            raise CascadeError(f"call {number} cannot be committed")
        self._committed = number

    def cancelled(self, number: int, spent_nanousd: int) -> None:
        """The call was ended, as asked."""
        self._require(_State.CANCELLING)
        if number != self._cancelling:
            raise CascadeError(f"call {self._cancelling} was to be cancelled, not {number}")
        self._state = _State.READY
        self._ended(number, spent_nanousd)

    def _walk(self, remaining_s: float) -> Action | None:
        """One rung after the other. None when it has come to its end."""
        if self._calls:
            return self._beside(remaining_s)
        if not self._is_over():
            while self._at < len(self._rungs):
                if remaining_s < ATTEMPT_S_MIN:
                    self._end = self._standing.without_answer(FailReason.DEADLINE_EXCEEDED)
                    return None
                rung = self._rungs[self._at]
                action = self._step(rung, remaining_s) if rung.untried else None
                if action is not None:
                    return action
                self._at += 1
            return self._close(remaining_s)
        return None

    def _beside(self, remaining_s: float) -> Action:
        """What to do while calls are under way: wait, or hedge the only one that is slow."""
        hedging = self._hedging
        if hedging is None or len(self._calls) > 1 or self._standing.no_more is not None:
            return Wait()
        slow = next(iter(self._calls.values()))
        delay_s = hedging.delays_s[slow.call.target]
        for_s = remaining_s - (slow.began_with_s - delay_s)
        if delay_s >= slow.call.timeout_s:
            return Wait()
        if for_s > 0:
            return Wait(for_s)
        self._hedging = None  # once per execution, whatever comes of it
        rung = slow.rung
        if not rung.untried and not slow.call.is_last:
            rung = self._rungs[rung.index + 1]
        if rung.untried and hedging.permit():
            return self._step(rung, remaining_s, is_hedge=True) or Wait()
        return Wait()

    def _step(self, rung: Rung, remaining_s: float, *, is_hedge: bool = False) -> Call | Skip | None:
        """The next call of the rung, or None when its time is up."""
        target = rung.untried[0]
        tier = rung.tier
        above = self._rungs[rung.index :]
        if rung.reserve_s is None:
            firsts = [other.tier.targets[0] for other in above]
            rung.reserve_s = rung_reserve_s(remaining_s, [self._typical_s.get(first) for first in firsts])
        has_fallback = len(rung.untried) > 1
        timeout_s = attempt_timeout_s(remaining_s, rung.reserve_s, tier.attempt_timeout_s, has_fallback=has_fallback)
        if timeout_s is None:
            self._standing.any_unavailable = True
            return None
        if not self._admits(self._least[target]):
            self._standing.any_too_costly = True
            if not is_hedge:  # when the call beside it has ended there may be money for it
                rung.untried.pop(0)
            return Skip(tier, target, COST_CEILING)
        rung.untried.pop(0)
        early_s = early_timeout_s(self._typical_s.get(target))
        may_be_early = (has_fallback or len(above) > 1) and self._strategy is not Strategy.WATERFALL
        if early_s is not None and may_be_early:
            timeout_s = min(timeout_s, early_s)
        return self._start(rung, target, timeout_s, remaining_s, is_hedge=is_hedge)

    def _race(self, remaining_s: float) -> Action | None:
        """All rungs at once. None when it has come to its end."""
        busy = {under_way.rung.index for under_way in self._calls.values()}
        idle = [rung for rung in self._rungs if rung.untried and not rung.is_rejected and rung.index not in busy]
        if idle and remaining_s >= ATTEMPT_S_MIN and self._standing.no_more is None:
            is_alone = len(idle) == 1 and not self._calls
            needed = self._least if is_alone else self._estimates
            if not self._admits(sum(needed[rung.untried[0]] for rung in idle)):
                dearest = max(reversed(idle), key=lambda rung: self._estimates[rung.untried[0]])
                self._standing.any_too_costly = True
                return Skip(dearest.tier, dearest.untried.pop(0), COST_CEILING)
            rung = idle[0]
            has_fallback = len(rung.untried) > 1
            timeout_s = attempt_timeout_s(remaining_s, 0.0, rung.tier.attempt_timeout_s, has_fallback=has_fallback)
            if timeout_s is not None:
                return self._start(rung, rung.untried.pop(0), timeout_s, remaining_s)
        if self._calls:
            return Wait()
        if not self._is_over():
            return self._close(remaining_s, FailReason.DEADLINE_EXCEEDED if idle else None)
        return None

    def _close(self, remaining_s: float, reason: FailReason | None = None) -> Wait | None:
        """Sets the end when no answer can follow, or waits, once, for what opens soon."""
        end = self._standing.without_answer(reason)
        if isinstance(end, Fail) and end.reason is FailReason.NO_MODEL_AVAILABLE:
            rejected = [rung.index + 1 for rung in self._rungs if rung.is_rejected]
            lowest = self._recess.begin(remaining_s, max(rejected, default=0))
            if lowest is not None:
                self._at = lowest
                return Wait(self._recess.left_s(remaining_s))
        self._end = end
        return None

    def _note_closing(self, ended: UnderWay, for_s: float | None) -> None:
        if for_s is None:
            self._recess.forgo()
        else:
            self._recess.closed(ended.rung, ended.call.target, for_s)

    def _start(self, rung: Rung, target: str, timeout_s: float, remaining_s: float, *, is_hedge: bool = False) -> Call:
        is_fallback = self._unreplaced > 0 and not is_hedge
        self._unreplaced -= is_fallback
        if not is_hedge:
            self.fallbacks += rung.has_failed and target not in rung.called
            rung.has_failed = False
        rung.called.add(target)
        call = Call(
            rung.tier,
            target,
            timeout_s,
            notes=self._standing.notes if self._strategy is not Strategy.RACE else (),
            is_last=self._is_last(rung),
            number=self._numbered,
            is_hedge=is_hedge,
            is_fallback=is_fallback,
            flow_timeout_s=max(timeout_s, min(rung.tier.attempt_timeout_s, remaining_s)),
        )
        self._numbered += 1
        self._highest = max(self._highest, rung.index)
        self._calls[call.number] = UnderWay(call, rung, self._estimates[target], remaining_s)
        return call

    def _is_last(self, rung: Rung) -> bool:
        """Whether no answer of a higher rung may follow because of quality, should all below it be rejected too."""
        if rung.index == len(self._rungs) - 1:
            return True
        if self._strategy is Strategy.RACE:
            return False
        under_way = {other.rung.index for other in self._calls.values()}
        below = [other for other in self._rungs[: rung.index] if other.is_rejected or other.index in under_way]
        return len(below) >= self._escalations_max

    def _admits(self, estimate_nanousd: int) -> bool:
        under_way = sum(under_way.estimate_nanousd for under_way in self._calls.values())
        return self._ceiling.admits(under_way + estimate_nanousd)

    def _is_over(self) -> bool:
        """Whether nothing may be called any more; the end is then set."""
        self._end = self._standing.end()
        return self._end is not None

    def _ended(self, number: int, spent_nanousd: int) -> UnderWay:
        self._require(_State.READY)
        if number not in self._calls:
            raise CascadeError(f"call {number} is not under way")
        self._ceiling.spend(spent_nanousd)
        return self._calls.pop(number)

    def _require(self, state: _State) -> None:
        if self._state is not state:
            raise CascadeError(f"the cascade is {self._state}, not {state}")
