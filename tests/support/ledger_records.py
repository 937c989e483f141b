"""Records, feedback and grades for the ledger's tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from services.orchestrator.record import DecisionRecord, prompt_sha256, record_to_proto
from spillway.chat import FinishReason, Usage
from spillway.routing import (
    Attempt,
    AttemptOutcome,
    CacheKind,
    CacheOutcome,
    Classification,
    Complexity,
    CostSummary,
    GateVerdict,
    Grade,
    GradeSource,
    HopLatency,
    Layer,
    Plan,
    PlannedTier,
    RoutingDecision,
    TaskType,
    Verdict,
)
from spillway.v1 import ledger_pb2

__all__ = ["NOW", "grade", "record", "record_pb"]

NOW = 1_790_000_000.0

JUDGED = Classification(
    TaskType.MATH,
    Complexity.SIMPLE,
    (0.8, 0.15, 0.05),
    0.8,
    Layer.EMBEDDING,
    version="t-1",
    cluster="t-1/7",
    language="en",
)
ATTEMPTS = (
    Attempt(
        "simple",
        "small-1",
        "m1",
        "lab",
        AttemptOutcome.REJECTED,
        (GateVerdict("schema", Verdict.FAIL, "no JSON"), GateVerdict("composite", Verdict.FAIL, "P", 0.25)),
        usage=Usage(20, 5, 3, 1),
        cost_nanousd=300,
        latency_s=0.25,
        time_to_first_token_s=0.125,
        finish_reason=FinishReason.STOP,
    ),
    Attempt("complex", "large-1", "m2", "lab", AttemptOutcome.ACCEPTED, cost_nanousd=4_000, started_after_s=0.25),
)


def record(request_id: str, *, judged: Classification | None = JUDGED, **fields: Any) -> DecisionRecord:
    """A request that was escalated once; `fields` replace its own."""
    base = DecisionRecord(
        request_id=request_id,
        trace_id="0" * 32,
        received_at_unix_s=NOW,
        tenant="acme",
        end_user_hash="",
        endpoint="support/chat",
        tags=("a", "ü"),
        prompt_sha256=prompt_sha256("What is 2 + 2?"),
        prompt_head="",
        routing=RoutingDecision(
            policy_step="complexity",
            classification=judged,
            plan=Plan((PlannedTier("simple", ("small-1",)), PlannedTier("complex", ("large-1",)))),
            arm="routed",
        ),
        cache=CacheOutcome(CacheKind.MISS),
        attempts=ATTEMPTS,
        cost=CostSummary(4_300, 9_000, "large-1"),
        tier="complex",
        target="large-1",
        accepted=True,
        status_code=0,
        error_reason="",
        latency_s=0.5,
        hops=(HopLatency("classifier", 0.01), HopLatency("executor", 0.4)),
        config_version="abcdefabcdef",
        escalations=1,
        fallbacks=0,
    )
    return replace(base, **fields)


def record_pb(request_id: str, **fields: Any) -> ledger_pb2.DecisionRecord:
    """The same, as a message."""
    return record_to_proto(record(request_id, **fields))


def grade(grade_id: str, **fields: Any) -> Grade:
    """A canary's grade; `fields` replace its own."""
    base = Grade(
        grade_id=grade_id,
        request_id="r1",
        tenant="acme",
        source=GradeSource.CANARY,
        task_type=TaskType.MATH,
        tier="simple",
        target="small-1",
        flagship_target="large-1",
        score=0.75,
        flagship_score=1.0,
        judge_target="large-1",
        cost_nanousd=7,
        graded_at_unix_s=NOW,
    )
    return replace(base, **fields)
