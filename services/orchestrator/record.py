"""The decision record of one request: what is kept of it, and how it is written down.

Promises: pure. A prompt appears only as the SHA-256 of the last user turn, and as its first characters when the
configuration says how many. The person who asks appears only as a hash that differs from tenant to tenant. The JSON
form is protobuf's own mapping of spillway.v1.DecisionRecord, with the names of the .proto file, on one line.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from google.protobuf import json_format

from spillway import wire
from spillway.routing import Attempt, CacheOutcome, CostSummary, GradeSource, HopLatency, RoutingDecision
from spillway.v1 import ledger_pb2

__all__ = ["DecisionRecord", "end_user_hash", "grade_id", "json_line", "prompt_sha256", "record_to_proto"]


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """See spillway.v1.DecisionRecord. `status_code` is the gRPC number; `error_reason` is empty for an answer.

    `cost_unknown`: models may have been called that are neither in `attempts` nor in `cost`.
    """

    request_id: str
    trace_id: str
    received_at_unix_s: float
    tenant: str
    end_user_hash: str
    endpoint: str
    tags: tuple[str, ...]
    prompt_sha256: str
    prompt_head: str
    routing: RoutingDecision
    cache: CacheOutcome
    attempts: tuple[Attempt, ...]
    cost: CostSummary
    tier: str
    target: str
    accepted: bool
    status_code: int
    error_reason: str
    latency_s: float
    hops: tuple[HopLatency, ...]
    config_version: str
    escalations: int
    fallbacks: int
    cost_unknown: bool = False
    user_tier: str = ""
    key_id: str = ""
    job_id: str = ""
    shared: bool = False
    namespace: str = ""


def grade_id(source: GradeSource, tenant: str, request_id: str) -> str:
    """The same for the same request, so that a grade which is sent again is kept once."""
    named = f"{source.value}:{len(tenant)}:{tenant}{request_id}"
    return hashlib.sha256(named.encode("utf-8", "replace")).hexdigest()


def prompt_sha256(text: str) -> str:
    """Of the last user turn, hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def end_user_hash(tenant: str, end_user: str) -> str:
    """SHA-256 of both, hex; the tenant's length keeps ("a", "bc") and ("ab", "c") apart. Empty without an end user."""
    if not end_user:
        return ""
    return hashlib.sha256(f"{len(tenant)}:{tenant}{end_user}".encode("utf-8", "surrogatepass")).hexdigest()


def record_to_proto(record: DecisionRecord) -> ledger_pb2.DecisionRecord:
    """The record as a message."""
    return ledger_pb2.DecisionRecord(
        request_id=record.request_id,
        trace_id=record.trace_id,
        received_at=wire.timestamp_to_proto(record.received_at_unix_s),
        tenant=record.tenant,
        end_user_hash=record.end_user_hash,
        endpoint=record.endpoint,
        tags=record.tags,
        prompt_sha256=record.prompt_sha256,
        prompt_head=record.prompt_head,
        routing=wire.routing_decision_to_proto(record.routing),
        cache=wire.cache_finding_to_proto(record.cache),
        attempts=[wire.attempt_to_proto(attempt) for attempt in record.attempts],
        cost=wire.cost_summary_to_proto(record.cost),
        tier=record.tier,
        target=record.target,
        accepted=record.accepted,
        status_code=record.status_code,
        error_reason=record.error_reason,
        latency=wire.duration_to_proto(record.latency_s),
        hops=[wire.hop_latency_to_proto(hop) for hop in record.hops],
        config_version=record.config_version,
        escalations=record.escalations,
        fallbacks=record.fallbacks,
        cost_unknown=record.cost_unknown,
        user_tier=record.user_tier,
        key_id=record.key_id,
        job_id=record.job_id,
        shared=record.shared,
        namespace=record.namespace,
    )


def json_line(record: DecisionRecord) -> bytes:
    """The record as one line of JSON, with its line feed."""
    pb = record_to_proto(record)
    text = json_format.MessageToJson(pb, preserving_proto_field_name=True, indent=None, ensure_ascii=False)
    # JSON leaves these two unescaped; some readers of lines take them for line ends.
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode() + b"\n"
