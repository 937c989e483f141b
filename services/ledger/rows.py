"""Records, feedback and grades as rows of `schema`, and back.

Promises: pure; nothing of a record is lost (`record_json` has all of it). What a record must be, to be kept, is checked
here: ranges, sizes, and that a prompt is there as a hash and a head of at most 200 characters only. WireError and
InvalidValue name the field.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration

from spillway import wire
from spillway.routing import Attempt, CacheOutcome, Feedback, Grade, RoutingDecision
from spillway.v1 import ledger_pb2
from spillway.validation import TAGS_MAX, TENANT_CHARS_MAX, InvalidValue, Violation

__all__ = [
    "RECORDS_MAX",
    "DecisionRows",
    "Row",
    "check_batch_size",
    "decision_rows",
    "feedback_row",
    "grade_row",
    "record_from_json",
    "to_us",
]

Row = dict[str, Any]

RECORDS_MAX: Final = 1_000  # of ledger.proto
RECORD_BYTES_MAX: Final = 1_048_576
ATTEMPTS_MAX: Final = 128
VERDICTS_MAX: Final = 64
HOPS_MAX: Final = 64
TEXT_CHARS_MAX: Final = 1_024
HEAD_CHARS_MAX: Final = 200  # of ledger.proto
REQUEST_ID_CHARS_MAX: Final = 128
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_REQUEST_ID: Final = re.compile(r"[ -~]+")
# 1970 to 9999, as protobuf's JSON can say it.
_UNIX_S_MAX: Final = 253_402_300_799
# Longer than anything is waited for; and far from the end of 64 bits of microseconds.
_DURATION_S_MAX: Final = 1e9

_TEXTS: Final = (
    *("trace_id", "tenant", "end_user_hash", "endpoint", "tier", "target", "error_reason", "config_version"),
    *("user_tier", "key_id", "job_id", "namespace"),
)


@dataclass(frozen=True, slots=True)
class DecisionRows:
    """One record: its row in `decisions`, and those of its parts, which lack only the decision's id.

    `key` is tenant, request id and `failed_at_us`: no two records in the ledger have the same.
    """

    key: tuple[str, str, int]
    decision: Row
    attempts: tuple[Row, ...]
    verdicts: tuple[Row, ...]
    hops: tuple[Row, ...]


def to_us(seconds: float) -> int:
    """Whole microseconds."""
    return round(seconds * 1e6)


def check_batch_size(count: int, path: str) -> None:
    """Raises InvalidValue."""
    if not 1 <= count <= RECORDS_MAX:
        raise InvalidValue([Violation(path, f"must be 1 to {RECORDS_MAX:,}")])


def decision_rows(pb: ledger_pb2.DecisionRecord, path: str = "record") -> DecisionRows:
    """Raises InvalidValue, WireError."""
    violations = [Violation(f"{path}.{field}", message) for field, message in _wrong(pb)]
    if violations:
        raise InvalidValue(violations)
    routing = wire.routing_decision_from_proto(pb.routing, f"{path}.routing")
    cache = wire.cache_finding_from_proto(pb.cache, f"{path}.cache")
    attempts = tuple(wire.attempt_from_proto(attempt, f"{path}.attempts[{i}]") for i, attempt in enumerate(pb.attempts))
    return DecisionRows(
        key=(pb.tenant, pb.request_id, _failed_at_us(pb)),
        decision=_decision(pb, routing, cache),
        attempts=tuple(_attempt(number, attempt) for number, attempt in enumerate(attempts)),
        verdicts=tuple(_verdicts(attempts)),
        hops=tuple(
            {"number": number, "hop": hop.hop, "latency_us": _us(hop.latency)} for number, hop in enumerate(pb.hops)
        ),
    )


def feedback_row(value: Feedback, feedback_id: str, received_at_unix_s: float) -> Row:
    """Its retry is not kept."""
    return {
        "feedback_id": feedback_id,
        "tenant": value.tenant,
        "request_id": value.request_id,
        "kind": value.kind.value,
        "comment": value.comment,
        "received_at_us": to_us(received_at_unix_s),
    }


def grade_row(value: Grade) -> Row:
    """As it is."""
    return {
        "grade_id": value.grade_id,
        "tenant": value.tenant,
        "request_id": value.request_id,
        "source": value.source.value,
        "task_type": value.task_type.value,
        "tier": value.tier,
        "target": value.target,
        "arm": value.arm,
        "flagship_target": value.flagship_target,
        "judge_target": value.judge_target,
        "score": value.score,
        "flagship_score": value.flagship_score,
        "orders_agree": value.orders_agree,
        "cost_nanousd": value.cost_nanousd,
        "graded_at_us": to_us(value.graded_at_unix_s),
        "outcome": value.outcome,
    }


def record_from_json(text: str) -> ledger_pb2.DecisionRecord:
    """What `record_json` holds, of this version or another."""
    return json_format.Parse(text, ledger_pb2.DecisionRecord(), ignore_unknown_fields=True)


def _received_at_us(pb: ledger_pb2.DecisionRecord) -> int:
    return pb.received_at.seconds * 1_000_000 + pb.received_at.nanos // 1_000


def _failed_at_us(pb: ledger_pb2.DecisionRecord) -> int:
    """0 for an answer; of a failed run when it came in, which tells the runs of a request id apart."""
    return _received_at_us(pb) if pb.status_code else 0


def _decision(pb: ledger_pb2.DecisionRecord, routing: RoutingDecision, cache: CacheOutcome) -> Row:
    judged, plan = routing.classification, routing.plan
    return {
        "tenant": pb.tenant,
        "request_id": pb.request_id,
        "received_at_us": _received_at_us(pb),
        "failed_at_us": _failed_at_us(pb),
        "trace_id": pb.trace_id,
        "end_user_hash": pb.end_user_hash,
        "user_tier": pb.user_tier,
        "endpoint": pb.endpoint,
        "tags_json": json.dumps(list(pb.tags), ensure_ascii=False),
        "namespace": pb.namespace,
        "key_id": pb.key_id,
        "job_id": pb.job_id,
        "prompt_sha256": pb.prompt_sha256,
        "task_type": judged.task_type.value if judged else "",
        "complexity": judged.complexity.value if judged else "",
        "language": judged.language if judged else "",
        "confidence": _finite(judged.confidence if judged else None),
        "classifier_layer": judged.layer.value if judged else "",
        "classifier_version": judged.version if judged else "",
        "cluster": judged.cluster if judged else "",
        "policy_step": routing.policy_step,
        "rule": routing.rule,
        "arm": routing.arm,
        "strategy": plan.strategy.value if plan else "",
        "first_tier": plan.tiers[0].name if plan and plan.tiers else "",
        "degraded_json": json.dumps(list(routing.degraded), ensure_ascii=False),
        "cache_kind": cache.kind.value,
        "cache_entry_key": cache.entry_key,
        "cache_similarity": _finite(cache.similarity),
        "tier": pb.tier,
        "target": pb.target,
        "accepted": pb.accepted,
        "status_code": pb.status_code,
        "error_reason": pb.error_reason,
        "shared": pb.shared,
        "cost_unknown": pb.cost_unknown,
        "cost_nanousd": pb.cost.cost_nanousd,
        "cost_excess_nanousd": min(sum(each.cost_excess_nanousd for each in pb.attempts), pb.cost.cost_nanousd),
        "flagship_cost_nanousd": pb.cost.flagship_cost_nanousd,
        "flagship_target": pb.cost.flagship_target,
        "escalations": pb.escalations,
        "fallbacks": pb.fallbacks,
        "latency_us": _us(pb.latency),
        "config_version": pb.config_version or routing.config_version,
        "record_json": json_format.MessageToJson(pb, preserving_proto_field_name=True, indent=None, ensure_ascii=False),
    }


def _attempt(number: int, value: Attempt) -> Row:
    usage, first_s = value.usage, value.time_to_first_token_s
    return {
        "number": number,
        "tier": value.tier,
        "target": value.target,
        "model": value.model,
        "provider": value.provider,
        "purpose": value.purpose.value,
        "outcome": value.outcome.value,
        "error_reason": value.error_reason,
        "finish_reason": value.finish_reason.value,
        "input_tokens": usage.input_tokens if usage else 0,
        "output_tokens": usage.output_tokens if usage else 0,
        "cached_input_tokens": usage.cached_input_tokens if usage else 0,
        "reasoning_tokens": usage.reasoning_tokens if usage else 0,
        "cost_nanousd": value.cost_nanousd,
        "cost_excess_nanousd": value.cost_excess_nanousd,
        "started_after_us": to_us(value.started_after_s),
        "latency_us": to_us(value.latency_s),
        "time_to_first_token_us": None if first_s is None else to_us(first_s),
    }


def _verdicts(attempts: Sequence[Attempt]) -> Iterator[Row]:
    for attempt_number, attempt in enumerate(attempts):
        for number, verdict in enumerate(attempt.verdicts):
            yield {
                "attempt_number": attempt_number,
                "number": number,
                "gate": verdict.gate,
                "verdict": verdict.verdict.value,
                "score": _finite(verdict.score),
                "cost_nanousd": verdict.cost_nanousd,
                "latency_us": to_us(verdict.latency_s),
            }


def _wrong(pb: ledger_pb2.DecisionRecord) -> Iterator[tuple[str, str]]:
    """What of the record is out of its range: (field, what is wrong)."""
    if pb.ByteSize() > RECORD_BYTES_MAX:
        yield "", f"must have at most {RECORD_BYTES_MAX:,} bytes"
        return
    if not pb.request_id or len(pb.request_id) > REQUEST_ID_CHARS_MAX or not _REQUEST_ID.fullmatch(pb.request_id):
        yield "request_id", f"must have 1 to {REQUEST_ID_CHARS_MAX} printable ASCII characters"
    if len(pb.tenant) > TENANT_CHARS_MAX:
        yield "tenant", f"must have at most {TENANT_CHARS_MAX} characters"
    for name in _TEXTS:
        if len(getattr(pb, name)) > TEXT_CHARS_MAX:
            yield name, f"must have at most {TEXT_CHARS_MAX:,} characters"
    if len(pb.prompt_head) > HEAD_CHARS_MAX:
        yield "prompt_head", f"must have at most {HEAD_CHARS_MAX} characters"
    if pb.prompt_sha256 and not _SHA256.fullmatch(pb.prompt_sha256):
        yield "prompt_sha256", "must be 64 hex digits"
    for name, count_max in (("tags", TAGS_MAX), ("attempts", ATTEMPTS_MAX), ("hops", HOPS_MAX)):
        if len(getattr(pb, name)) > count_max:
            yield name, f"must be at most {count_max}"
    yield from _wrong_numbers(pb)


def _wrong_numbers(pb: ledger_pb2.DecisionRecord) -> Iterator[tuple[str, str]]:
    at = pb.received_at
    if not pb.HasField("received_at") or not 0 < at.seconds <= _UNIX_S_MAX or not 0 <= at.nanos < 1_000_000_000:
        yield "received_at", "must be set, from 1970 to 9999"
    at_least_0: Mapping[str, int] = {
        "status_code": pb.status_code,
        "escalations": pb.escalations,
        "fallbacks": pb.fallbacks,
        "cost.cost_nanousd": pb.cost.cost_nanousd,
        "cost.flagship_cost_nanousd": pb.cost.flagship_cost_nanousd,
    }
    for name, number in at_least_0.items():
        if number < 0:
            yield name, "must be at least 0"
    yield from _wrong_duration(pb.latency, "latency")
    for i, hop in enumerate(pb.hops[:HOPS_MAX]):
        yield from _wrong_duration(hop.latency, f"hops[{i}].latency")
    for i, attempt in enumerate(pb.attempts[:ATTEMPTS_MAX]):
        path = f"attempts[{i}]"
        if attempt.cost_nanousd < 0:
            yield f"{path}.cost_nanousd", "must be at least 0"
        if not 0 <= attempt.cost_excess_nanousd <= max(attempt.cost_nanousd, 0):
            yield f"{path}.cost_excess_nanousd", "must be at least 0 and at most cost_nanousd"
        if len(attempt.verdicts) > VERDICTS_MAX:
            yield f"{path}.verdicts", f"must be at most {VERDICTS_MAX}"
        for name in ("started_after", "latency", "time_to_first_token"):
            yield from _wrong_duration(getattr(attempt, name), f"{path}.{name}")


def _wrong_duration(value: Duration, path: str) -> Iterator[tuple[str, str]]:
    if not 0 <= value.seconds <= _DURATION_S_MAX or not 0 <= value.nanos < 1_000_000_000:
        yield path, "must be at least 0 and no longer than anything lasts"


def _us(value: Duration) -> int:
    return value.seconds * 1_000_000 + value.nanos // 1_000


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
