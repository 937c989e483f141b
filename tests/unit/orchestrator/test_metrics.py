"""What is counted, and that no label comes from outside its set."""

from __future__ import annotations

import asyncio
from itertools import product

import pytest

from services.orchestrator.audits import AuditOutcome
from services.orchestrator.hops import ExecutionError, Unanswered
from services.orchestrator.metrics import DROPPED, RequestMetrics
from services.orchestrator.run import Run
from services.runtime.errors import SpillwayError, Unavailable
from spillway.routing import CacheKind, FailedExecution
from tests.support.metric_points import Meters
from tests.unit.orchestrator.fakes import Bench, cached, executed
from tests.unit.orchestrator.ladder import request_of


class Counted(Meters):
    """The metrics of one bench, and what they have come to."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics = RequestMetrics(self.meter, ["simple", "medium", "complex"])

    async def end(self, bench: Bench) -> None:
        run = bench.pipeline.begin(request_of(), remaining_s=30)
        try:
            await bench.pipeline.complete(run)
        except SpillwayError:
            assert run.status_code != 0
        self.metrics.ended(run)


async def test_an_answer_counts_with_its_cost_its_tier_and_its_escalations() -> None:
    counted = Counted()
    await counted.end(Bench())
    assert counted.counted("spillway.requests") == [({"outcome": "accepted", "tier": "medium", "cache": "miss"}, 1)]
    assert counted.counted("spillway.cost") == [({"tier": "medium"}, 4_350)]
    assert counted.counted("spillway.flagship_cost") == [({"tier": "medium"}, 24_000)]
    assert counted.counted("spillway.escalations") == [({"tier": "medium"}, 1)]
    assert counted.counted("spillway.requests.escalated") == [({"tier": "medium"}, 1)]
    assert counted.counted("spillway.fallbacks") == []


def test_answers_count_from_zero_so_that_the_first_of_each_kind_is_seen() -> None:
    points = Counted().points("spillway.requests")
    assert {value for _, value in points} == {0}
    shown = {(each["tier"], each["outcome"], each["cache"]) for each, _ in points}
    assert shown == set(product(("simple", "medium", "complex"), ("accepted", "unproven"), CacheKind))


async def test_an_answer_without_proof_counts_apart() -> None:
    counted, bench = Counted(), Bench()
    bench.executor.gives = executed(accepted=False)
    bench.classifier.says = Unanswered("unavailable")
    await counted.end(bench)
    assert counted.counted("spillway.requests")[0][0]["outcome"] == "unproven"
    assert counted.counted("spillway.done_without") == [({"service": "classifier"}, 1)]


@pytest.mark.parametrize(
    ("reason", "label"), [("NO_MODEL_AVAILABLE", "NO_MODEL_AVAILABLE"), ("made up by a stranger", "OTHER")]
)
async def test_a_failure_counts_by_a_reason_that_is_known(reason: str, label: str) -> None:
    counted, bench = Counted(), Bench()
    bench.executor.gives = Unavailable(reason, "text")
    await counted.end(bench)
    assert counted.counted("spillway.requests") == [({"outcome": label, "tier": "none", "cache": "miss"}, 1)]


async def test_what_was_done_in_vain_counts_with_its_cost() -> None:
    counted, bench = Counted(), Bench()
    failed = FailedExecution(executed().attempts[:2], 350, escalations=2, fallbacks=2)
    bench.executor.gives = ExecutionError(Unavailable("NO_MODEL_AVAILABLE", "no model could answer"), failed)
    await counted.end(bench)
    assert counted.counted("spillway.cost") == [({"tier": "none"}, 350)]
    assert counted.counted("spillway.escalations") == [({"tier": "none"}, 2)]
    assert counted.counted("spillway.requests.escalated") == [({"tier": "none"}, 1)]
    assert counted.counted("spillway.fallbacks") == [({"tier": "none"}, 2)]


async def test_a_cached_answer_of_a_tier_that_is_gone_has_the_label_other() -> None:
    counted, bench = Counted(), Bench()
    bench.cache.exact = cached(CacheKind.EXACT_HIT, tier="retired")
    await counted.end(bench)
    assert counted.counted("spillway.requests") == [({"outcome": "accepted", "tier": "other", "cache": "exact_hit"}, 1)]


def test_what_is_dropped_counts_by_kind() -> None:
    counted = Counted()
    counted.metrics.dropped("store")
    counted.metrics.dropped("record", 3)
    assert sorted(counted.counted("spillway.background.dropped"), key=repr) == [
        ({"kind": "record"}, 3),
        ({"kind": "store"}, 1),
    ]


def test_a_loss_is_seen_from_the_first_on_since_what_is_lost_counts_from_zero() -> None:
    counted = Counted()
    for kind in DROPPED:
        assert ({"kind": kind}, 0) in counted.points("spillway.background.dropped")
    assert ({"tier": "none"}, 0) in counted.points("spillway.escalations")


async def test_a_tier_that_is_added_while_running_counts_from_zero_under_its_own_name() -> None:
    counted, bench = Counted(), Bench()
    bench.cache.exact = cached(CacheKind.EXACT_HIT, tier="fast")
    counted.metrics.reconfigure(["simple", "fast", "complex"])
    assert ({"tier": "fast"}, 0) in counted.points("spillway.escalations")
    await counted.end(bench)
    assert [labels["tier"] for labels, _ in counted.counted("spillway.requests")] == ["fast"]
    assert {labels["tier"] for labels, _ in counted.points("spillway.cost")} == {
        "none",
        "simple",
        "medium",
        "complex",
        "fast",
    }


def test_what_waits_is_shown_by_kind() -> None:
    counted, waiting = Counted(), [3]
    counted.metrics.watch({"background": lambda: len(waiting), "outcome": lambda: waiting[0]})
    assert counted.points("spillway.background.waiting") == [({"kind": "background"}, 1), ({"kind": "outcome"}, 3)]


async def test_who_shared_anothers_answer_counts_as_a_hit_and_apart() -> None:
    counted, bench = Counted(), Bench()
    runs = [bench.pipeline.begin(request_of(), remaining_s=30) for _ in range(2)]

    async def call(run: Run) -> None:
        await bench.pipeline.complete(run)
        bench.pipeline.finish(run)
        counted.metrics.ended(run)

    await asyncio.gather(*(call(run) for run in runs))
    assert counted.points("spillway.shared") == [({}, 1)]
    assert sorted(each["cache"] for each, _ in counted.counted("spillway.requests")) == ["exact_hit", "miss"]
    assert sum(cost for _, cost in counted.counted("spillway.cost")) == 4_350


def test_audits_count_by_outcome_and_their_cost_apart_from_the_requests() -> None:
    counted = Counted()
    counted.metrics.audited(AuditOutcome.WRONG, 300)
    counted.metrics.audited(AuditOutcome.LEFT_OUT, 0)
    audits = {labels["outcome"]: count for labels, count in counted.counted("spillway.audits")}
    assert audits == {"wrong": 1, "left_out": 1}
    assert counted.counted("spillway.audit_cost") == [({}, 300)]
