"""Which records are kept, and what of them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from services.ledger.rows import ATTEMPTS_MAX, VERDICTS_MAX, check_batch_size, decision_rows
from spillway.v1 import chat_pb2, ledger_pb2
from spillway.validation import InvalidValue
from spillway.wire import WireError
from tests.support.ledger_records import record_pb


def spoilt(spoil: Any) -> ledger_pb2.DecisionRecord:
    pb = record_pb("r1")
    spoil(pb)
    return pb


def more_verdicts(pb: ledger_pb2.DecisionRecord) -> None:
    pb.attempts[0].verdicts.extend([pb.attempts[0].verdicts[0]] * VERDICTS_MAX)


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (lambda pb: setattr(pb, "request_id", ""), "request_id"),
        (lambda pb: setattr(pb, "request_id", "r" * 129), "request_id"),
        (lambda pb: setattr(pb, "request_id", "ü"), "request_id"),
        (lambda pb: setattr(pb, "tenant", "t" * 129), "tenant"),
        (lambda pb: setattr(pb, "endpoint", "e" * 1_025), "endpoint"),
        (lambda pb: setattr(pb, "prompt_head", "h" * 201), "prompt_head"),
        (lambda pb: setattr(pb, "prompt_sha256", "What is 2 + 2?"), "prompt_sha256"),
        (lambda pb: pb.ClearField("received_at"), "received_at"),
        (lambda pb: setattr(pb.received_at, "nanos", -1), "received_at"),
        (lambda pb: setattr(pb.received_at, "seconds", 2**40), "received_at"),
        (lambda pb: pb.tags.extend("abcdefghijklmnopq"), "tags"),
        (lambda pb: setattr(pb, "status_code", -1), "status_code"),
        (lambda pb: setattr(pb.cost, "cost_nanousd", -1), "cost.cost_nanousd"),
        (lambda pb: setattr(pb.latency, "seconds", -1), "latency"),
        (lambda pb: setattr(pb.hops[1].latency, "seconds", 2**40), "hops[1].latency"),
        (lambda pb: setattr(pb.attempts[1], "cost_nanousd", -5), "attempts[1].cost_nanousd"),
        (lambda pb: setattr(pb.attempts[1], "cost_excess_nanousd", 4_001), "attempts[1].cost_excess_nanousd"),
        (lambda pb: setattr(pb.attempts[0].started_after, "seconds", -1), "attempts[0].started_after"),
        (lambda pb: pb.attempts.extend([pb.attempts[0]] * ATTEMPTS_MAX), "attempts"),
        (
            more_verdicts,
            "attempts[0].verdicts",
        ),
    ],
)
def test_a_record_out_of_its_ranges_is_refused_by_the_name_of_the_field(spoil: Any, field: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        decision_rows(spoilt(spoil), "records[7]")
    assert [violation.path for violation in caught.value.violations] == [f"records[7].{field}"]


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (lambda pb: setattr(pb.cache, "kind", 99), "cache.kind"),
        (lambda pb: setattr(pb.attempts[0], "outcome", 0), "attempts[0].outcome"),
        (lambda pb: setattr(pb.routing.classification, "task_type", 99), "routing.classification.task_type"),
    ],
)
def test_a_word_that_this_version_does_not_know_is_refused_by_the_name_of_the_field(spoil: Any, field: str) -> None:
    with pytest.raises(WireError) as caught:
        decision_rows(spoilt(spoil), "records[7]")
    assert caught.value.path == f"records[7].{field}"


def test_a_record_of_more_than_a_megabyte_is_refused() -> None:
    with pytest.raises(InvalidValue, match="bytes"):
        decision_rows(spoilt(lambda pb: setattr(pb.routing, "reason", "x" * 2**20)))


def test_numbers_that_are_none_become_nothing() -> None:
    pb = spoilt(lambda pb: setattr(pb.attempts[0].verdicts[1], "score", math.nan))
    pb.routing.classification.confidence = math.inf
    rows = decision_rows(pb)
    assert rows.verdicts[1]["score"] is None
    assert rows.decision["confidence"] is None


def test_a_failed_request_without_judgement_plan_or_attempts_is_a_row_too() -> None:
    pb = ledger_pb2.DecisionRecord(request_id="r1", error_reason="NO_MODEL_AVAILABLE", status_code=14)
    pb.received_at.seconds = 1_790_000_000
    pb.cache.kind = chat_pb2.CacheOutcome.KIND_UNAVAILABLE
    rows = decision_rows(pb)
    assert (rows.attempts, rows.verdicts, rows.hops) == ((), (), ())
    assert (rows.decision["task_type"], rows.decision["strategy"], rows.decision["tier"]) == ("", "", "")


@pytest.mark.parametrize("count", [0, 1_001])
def test_a_batch_is_of_1_to_1000(count: int) -> None:
    with pytest.raises(InvalidValue, match="1 to 1,000"):
        check_batch_size(count, "records")
