"""The cascade on any plan, with any strategy and any luck."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.executor.cascade import ESCALATIONS_MAX, Cascade
from services.executor.hedging import Hedging
from services.executor.outcome import FailureKind, ProviderFailure
from services.executor.steps import Call, Cancel, CascadeError, Fail, FailReason, Judged, Return, Skip, Wait
from spillway.routing import Plan, PlannedTier, Strategy

DOWN = ProviderFailure(FailureKind.ERROR, "PROVIDER_5XX")
THROTTLED = ProviderFailure(FailureKind.THROTTLED, "PROVIDER_429", retry_after_s=0.2)
REJECTED = ProviderFailure(FailureKind.REJECTED, "PROVIDER_REJECTED")
ESTIMATE = 100
ANSWERS = ("accept", "soft", "hard", "empty", "second")
COMMITTED = ("commit-accept", "commit-soft", "commit-break")

tiers_strategy = st.lists(st.tuples(st.integers(1, 3), st.floats(0.5, 60.0)), min_size=1, max_size=5).map(
    lambda shapes: tuple(
        PlannedTier(f"t{rung}", tuple(f"t{rung}-{n}" for n in range(count)), attempt_timeout_s=timeout_s)
        for rung, (count, timeout_s) in enumerate(shapes)
    )
)


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one call: `took` is a share of the time it has."""

    what: str
    took: float
    cost: int


fates = st.lists(
    st.builds(
        Fate,
        st.sampled_from([*ANSWERS, *COMMITTED, "down", "throttled", "throttled", "skip", "open", "reject"]),
        st.floats(0.0, 1.0),
        st.integers(0, ESTIMATE),
    ),
    min_size=31,
    max_size=31,
)


class Driver:
    """Carries out what a cascade asks for, with luck that is given, and watches the rules."""

    def __init__(self, subject: Cascade, plan: Plan, deadline_s: float, luck: list[Fate]) -> None:
        self.subject = subject
        self.plan = plan
        self.deadline_s = deadline_s
        self.luck = iter(luck)
        self.now_s = 0.0
        self.spent = 0
        self.under_way: dict[int, tuple[Call, Fate, float]] = {}
        self.started: list[Call] = []
        self.ended: list[int] = []
        self.judged: dict[int, str] = {}
        self.rejected_tiers: set[str] = set()
        self.committed: int | None = None
        self.recesses = 0

    def run(self) -> Return | Fail:
        while True:
            action = self.subject.next(self.deadline_s - self.now_s)
            if isinstance(action, Return | Fail):
                assert not self.under_way, "nothing is left under way"
                assert sorted(self.ended) == list(range(len(self.started))), "each call is ended exactly once"
                return action
            if isinstance(action, Call):
                self.start(action)
            elif isinstance(action, Cancel):
                _, fate, _ = self.under_way[action.number]
                self.end(action.number, fate.cost)
                self.subject.cancelled(action.number, fate.cost)
            elif isinstance(action, Wait):
                self.wait(action.for_s)
            else:
                assert isinstance(action, Skip)
                assert self.committed is None

    def start(self, call: Call) -> None:
        assert self.committed is None, "nothing is called once a stream has begun"
        earlier = [other.target for other in self.started].count(call.target)
        assert earlier <= self.recesses, "no target twice, but after the one wait for it"
        assert call.tier.name not in self.rejected_tiers, "no tier twice because of quality"
        assert call.number == len(self.started)
        remaining_s = self.deadline_s - self.now_s
        assert 0 < call.timeout_s <= min(call.tier.attempt_timeout_s, remaining_s) + 1e-9
        assert call.timeout_s <= call.flow_timeout_s <= remaining_s + 1e-9
        ceiling = self.plan.cost_nanousd_max
        assert ceiling is None or self.spent + ESTIMATE * (len(self.under_way) + 1) <= ceiling
        fate = next(self.luck)
        self.started.append(call)
        self.under_way[call.number] = (call, fate, self.now_s + fate.took * call.timeout_s)
        if fate.what in {"skip", "open"}:
            self.end(call.number, 0)
            self.subject.skipped(call.number, 0.5, opens=fate.what == "open")

    def wait(self, for_s: float | None) -> None:
        if not self.under_way:
            assert for_s is not None
            assert 0 < for_s <= min(1.0, (self.deadline_s - self.now_s) * 0.1) + 1e-9, "it is no long wait"
            assert self.recesses == 0, "it is the only one"
            self.recesses += 1
            self.now_s += for_s
            return
        number, (call, fate, ends_at_s) = min(self.under_way.items(), key=lambda item: item[1][2])
        if for_s is not None and self.now_s + for_s < ends_at_s:
            assert for_s > 0
            self.now_s += for_s
            return
        self.now_s = max(self.now_s, ends_at_s)
        if fate.what in COMMITTED and self.committed is None:
            self.committed = number
            self.subject.committed(number)
            return
        what = fate.what.removeprefix("commit-") if self.committed == number or fate.what in COMMITTED else fate.what
        self.end(number, fate.cost)
        if what == "throttled":
            self.subject.unavailable(number, THROTTLED, fate.cost)
        elif what in {"down", "break"}:
            self.subject.unavailable(number, DOWN, fate.cost)
        elif what == "reject":
            self.subject.unavailable(number, REJECTED, fate.cost)
        else:
            self.judged[number] = what
            if what != "accept":
                self.rejected_tiers.add(call.tier.name)
            judged = Judged(number, what == "accept", what in {"hard", "empty"}, what == "empty", ("wrong",))
            self.subject.answered(number, judged, fate.cost, by_second=what == "second")

    def end(self, number: int, cost: int) -> None:
        del self.under_way[number]
        self.ended.append(number)
        self.spent += cost


@given(
    tiers_strategy,
    st.sampled_from(list(Strategy)),
    st.integers(0, 2),
    st.none() | st.integers(0, 900),
    st.floats(0.0, 120.0),
    fates,
    st.floats(0.0, 5.0),
    st.booleans(),
    st.dictionaries(st.sampled_from([f"t{rung}-{n}" for rung in range(5) for n in range(3)]), st.floats(0.0, 30.0)),
)
@settings(max_examples=400)
def test_every_run_ends_and_keeps_the_rules(
    tiers: tuple[PlannedTier, ...],
    strategy: Strategy,
    escalations_max: int,
    ceiling: int | None,
    deadline_s: float,
    luck: list[Fate],
    delay_s: float,
    may_hedge: bool,
    typical_s: dict[str, float],
) -> None:
    names = [name for tier in tiers for name in tier.targets]
    plan = Plan(tiers, strategy, escalations_max, ceiling)
    hedging = Hedging(dict.fromkeys(names, delay_s), lambda: may_hedge)
    subject = Cascade(plan, dict.fromkeys(names, ESTIMATE), typical_s, hedging)
    driver = Driver(subject, plan, deadline_s, luck)
    end = driver.run()
    order = [call.tier.name for call in driver.started]
    assert driver.now_s <= deadline_s + 1e-6, "never past the deadline"
    assert ceiling is None or driver.spent <= ceiling, "never past the cost ceiling"
    assert subject.escalations <= (ESCALATIONS_MAX if strategy is Strategy.WATERFALL else escalations_max)
    hedges = [call for call in driver.started if call.is_hedge]
    assert len(hedges) <= (strategy is Strategy.HEDGED and may_hedge)
    if strategy is not Strategy.RACE:
        assert driver.recesses or order == sorted(order), "only upwards"
    else:
        assert subject.escalations == 0
    if strategy is Strategy.DIRECT:
        assert set(order) <= {tiers[0].name}
    if driver.committed is not None:
        broke = driver.committed not in driver.judged
        assert end == (
            Fail(FailReason.STREAM_INTERRUPTED)
            if broke
            else Return(driver.committed, driver.judged[driver.committed] == "accept")
        ), "what has begun is the answer or the end"
    elif "accept" in driver.judged.values():
        assert end == Return(next(n for n, what in driver.judged.items() if what == "accept"), accepted=True)
    elif isinstance(end, Return):
        assert not end.accepted
        assert driver.judged[end.attempt] != "empty"
    with pytest.raises(CascadeError):
        subject.next(1.0)


@given(tiers_strategy, st.floats(0.1, 120.0), st.lists(st.floats(0.0, 30.0), min_size=15, max_size=15))
def test_the_last_rung_always_has_its_share(
    tiers: tuple[PlannedTier, ...], deadline_s: float, latencies_s: list[float]
) -> None:
    names = [name for tier in tiers for name in tier.targets]
    subject = Cascade(Plan(tiers), dict.fromkeys(names, 1), dict(zip(names, latencies_s, strict=False)))
    remaining_s = deadline_s
    timed_out = ProviderFailure(FailureKind.TIMEOUT, "PROVIDER_TIMEOUT")
    while True:
        action = subject.next(remaining_s)
        assert isinstance(action, Call), "the last rung is reached, whatever times out below it"
        if action.tier is tiers[-1]:
            break
        remaining_s -= action.timeout_s
        subject.unavailable(action.number, timed_out, 0)
    assert remaining_s >= deadline_s / 2 ** (len(tiers) - 1) - 0.02 * len(names) - 1e-9
