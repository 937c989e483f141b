"""What the executor did, on the wire: verdicts, attempts, executions."""

from __future__ import annotations

from spillway.routing import (
    AnswerDelta,
    Attempt,
    AttemptPurpose,
    Execution,
    FailedExecution,
    GateVerdict,
)
from spillway.v1 import chat_pb2, executor_pb2
from spillway.wire.chat import (
    message_from_proto,
    message_to_proto,
    tool_call_from_proto,
    tool_call_to_proto,
    usage_from_proto,
    usage_to_proto,
)
from spillway.wire.fields import (
    ATTEMPT_OUTCOMES,
    ATTEMPT_PURPOSES,
    FINISH_REASONS,
    VERDICTS,
    duration_from_proto,
    duration_to_proto,
    finish_reason_from_proto,
    join,
)

__all__ = [
    "answer_delta_from_proto",
    "answer_delta_to_proto",
    "attempt_from_proto",
    "attempt_to_proto",
    "execution_from_proto",
    "execution_to_proto",
    "failed_execution_from_proto",
    "failed_execution_to_proto",
    "gate_verdict_from_proto",
    "gate_verdict_to_proto",
]


def gate_verdict_to_proto(value: GateVerdict) -> chat_pb2.GateVerdict:
    return chat_pb2.GateVerdict(
        gate=value.gate,
        verdict=VERDICTS.to_proto(value.verdict),
        score=value.score,
        reason=value.reason,
        cost_nanousd=value.cost_nanousd,
        latency=duration_to_proto(value.latency_s),
    )


def gate_verdict_from_proto(pb: chat_pb2.GateVerdict, path: str = "verdict") -> GateVerdict:
    """Raises WireError for a verdict that is unset or unknown."""
    return GateVerdict(
        gate=pb.gate,
        verdict=VERDICTS.required(pb.verdict, join(path, "verdict")),
        score=pb.score if pb.HasField("score") else None,
        reason=pb.reason,
        cost_nanousd=pb.cost_nanousd,
        latency_s=duration_from_proto(pb.latency, join(path, "latency")),
    )


def attempt_to_proto(value: Attempt) -> chat_pb2.Attempt:
    first_token_s = value.time_to_first_token_s
    return chat_pb2.Attempt(
        tier=value.tier,
        target=value.target,
        model=value.model,
        provider=value.provider,
        outcome=ATTEMPT_OUTCOMES.to_proto(value.outcome),
        verdicts=[gate_verdict_to_proto(verdict) for verdict in value.verdicts],
        usage=None if value.usage is None else usage_to_proto(value.usage),
        cost_nanousd=value.cost_nanousd,
        started_after=duration_to_proto(value.started_after_s),
        latency=duration_to_proto(value.latency_s),
        time_to_first_token=None if first_token_s is None else duration_to_proto(first_token_s),
        error_reason=value.error_reason,
        finish_reason=FINISH_REASONS.to_proto(value.finish_reason),
        purpose=ATTEMPT_PURPOSES.to_proto(value.purpose),
        cost_excess_nanousd=value.cost_excess_nanousd,
    )


def attempt_from_proto(pb: chat_pb2.Attempt, path: str = "attempt") -> Attempt:
    """Raises WireError for an outcome that is unset or unknown."""
    verdicts = join(path, "verdicts")
    return Attempt(
        tier=pb.tier,
        target=pb.target,
        model=pb.model,
        provider=pb.provider,
        outcome=ATTEMPT_OUTCOMES.required(pb.outcome, join(path, "outcome")),
        verdicts=tuple(gate_verdict_from_proto(verdict, f"{verdicts}[{i}]") for i, verdict in enumerate(pb.verdicts)),
        usage=usage_from_proto(pb.usage) if pb.HasField("usage") else None,
        cost_nanousd=pb.cost_nanousd,
        started_after_s=duration_from_proto(pb.started_after, join(path, "started_after")),
        latency_s=duration_from_proto(pb.latency, join(path, "latency")),
        time_to_first_token_s=(
            duration_from_proto(pb.time_to_first_token, join(path, "time_to_first_token"))
            if pb.HasField("time_to_first_token")
            else None
        ),
        error_reason=pb.error_reason,
        finish_reason=finish_reason_from_proto(pb.finish_reason, join(path, "finish_reason")),
        purpose=ATTEMPT_PURPOSES.optional(pb.purpose, join(path, "purpose")) or AttemptPurpose.ANSWER,
        cost_excess_nanousd=pb.cost_excess_nanousd,
    )


def answer_delta_to_proto(value: AnswerDelta) -> executor_pb2.AnswerDelta:
    return executor_pb2.AnswerDelta(text=value.text, tool_calls=[tool_call_to_proto(call) for call in value.tool_calls])


def answer_delta_from_proto(pb: executor_pb2.AnswerDelta) -> AnswerDelta:
    return AnswerDelta(text=pb.text, tool_calls=tuple(tool_call_from_proto(call) for call in pb.tool_calls))


def execution_to_proto(value: Execution) -> executor_pb2.Execution:
    return executor_pb2.Execution(
        message=message_to_proto(value.message),
        finish_reason=FINISH_REASONS.to_proto(value.finish_reason),
        accepted=value.accepted,
        tier=value.tier,
        target=value.target,
        model=value.model,
        attempts=[attempt_to_proto(attempt) for attempt in value.attempts],
        usage_total=usage_to_proto(value.usage_total),
        usage=usage_to_proto(value.usage),
        cost_nanousd=value.cost_nanousd,
        escalations=value.escalations,
        fallbacks=value.fallbacks,
    )


def execution_from_proto(pb: executor_pb2.Execution, path: str = "execution") -> Execution:
    """Raises WireError."""
    attempts = join(path, "attempts")
    return Execution(
        message=message_from_proto(pb.message, join(path, "message")),
        finish_reason=finish_reason_from_proto(pb.finish_reason, join(path, "finish_reason")),
        accepted=pb.accepted,
        tier=pb.tier,
        target=pb.target,
        model=pb.model,
        attempts=tuple(attempt_from_proto(attempt, f"{attempts}[{i}]") for i, attempt in enumerate(pb.attempts)),
        usage=usage_from_proto(pb.usage),
        usage_total=usage_from_proto(pb.usage_total),
        cost_nanousd=pb.cost_nanousd,
        escalations=pb.escalations,
        fallbacks=pb.fallbacks,
    )


def failed_execution_to_proto(value: FailedExecution) -> executor_pb2.FailedExecution:
    return executor_pb2.FailedExecution(
        attempts=[attempt_to_proto(attempt) for attempt in value.attempts],
        cost_nanousd=value.cost_nanousd,
        escalations=value.escalations,
        fallbacks=value.fallbacks,
    )


def failed_execution_from_proto(pb: executor_pb2.FailedExecution, path: str = "failed_execution") -> FailedExecution:
    """Raises WireError."""
    attempts = join(path, "attempts")
    return FailedExecution(
        attempts=tuple(attempt_from_proto(attempt, f"{attempts}[{i}]") for i, attempt in enumerate(pb.attempts)),
        cost_nanousd=pb.cost_nanousd,
        escalations=pb.escalations,
        fallbacks=pb.fallbacks,
    )
