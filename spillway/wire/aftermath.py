"""Feedback, grades, measured quality and jobs, and their proto twins."""

from __future__ import annotations

from spillway.routing import (
    Feedback,
    FeedbackKind,
    Grade,
    GradeSource,
    Job,
    JobState,
    JobSubmission,
    MeasuredQuality,
    WebhookDelivery,
)
from spillway.v1 import ledger_pb2, orchestrator_pb2
from spillway.wire.completion import (
    completion_from_proto,
    completion_request_from_proto,
    completion_request_to_proto,
    completion_to_proto,
)
from spillway.wire.fields import (
    TASK_TYPES,
    EnumMap,
    duration_from_proto,
    duration_to_proto,
    join,
    timestamp_from_proto,
    timestamp_to_proto,
)

__all__ = [
    "feedback_from_proto",
    "feedback_to_proto",
    "grade_from_proto",
    "grade_to_proto",
    "job_from_proto",
    "job_submission_from_proto",
    "job_submission_to_proto",
    "job_to_proto",
    "measured_quality_from_proto",
    "measured_quality_to_proto",
]

FEEDBACK_KINDS = EnumMap.build(orchestrator_pb2.SendFeedbackRequest.Kind, "KIND_", FeedbackKind)
GRADE_SOURCES = EnumMap.build(ledger_pb2.Grade.Source, "SOURCE_", GradeSource)
JOB_STATES = EnumMap.build(orchestrator_pb2.JobState, "JOB_STATE_", JobState)


def feedback_to_proto(value: Feedback) -> orchestrator_pb2.SendFeedbackRequest:
    return orchestrator_pb2.SendFeedbackRequest(
        request_id=value.request_id,
        tenant=value.tenant,
        kind=FEEDBACK_KINDS.to_proto(value.kind),
        comment=value.comment,
        retry=None if value.retry is None else completion_request_to_proto(value.retry),
    )


def feedback_from_proto(pb: orchestrator_pb2.SendFeedbackRequest, path: str = "") -> Feedback:
    """Raises WireError."""
    return Feedback(
        request_id=pb.request_id,
        tenant=pb.tenant,
        kind=FEEDBACK_KINDS.required(pb.kind, join(path, "kind")),
        comment=pb.comment,
        retry=completion_request_from_proto(pb.retry, join(path, "retry")) if pb.HasField("retry") else None,
    )


def grade_to_proto(value: Grade) -> ledger_pb2.Grade:
    return ledger_pb2.Grade(
        grade_id=value.grade_id,
        request_id=value.request_id,
        tenant=value.tenant,
        source=GRADE_SOURCES.to_proto(value.source),
        task_type=TASK_TYPES.to_proto(value.task_type),
        tier=value.tier,
        target=value.target,
        arm=value.arm,
        flagship_target=value.flagship_target,
        judge_target=value.judge_target,
        score=value.score,
        flagship_score=value.flagship_score,
        orders_agree=value.orders_agree,
        cost_nanousd=value.cost_nanousd,
        graded_at=timestamp_to_proto(value.graded_at_unix_s),
        outcome=value.outcome,
    )


def grade_from_proto(pb: ledger_pb2.Grade, path: str = "grade") -> Grade:
    """Raises WireError for a source or task type that is unset or unknown."""
    return Grade(
        grade_id=pb.grade_id,
        request_id=pb.request_id,
        tenant=pb.tenant,
        source=GRADE_SOURCES.required(pb.source, join(path, "source")),
        task_type=TASK_TYPES.required(pb.task_type, join(path, "task_type")),
        tier=pb.tier,
        target=pb.target,
        arm=pb.arm,
        flagship_target=pb.flagship_target,
        judge_target=pb.judge_target,
        score=pb.score,
        flagship_score=pb.flagship_score,
        orders_agree=pb.orders_agree,
        cost_nanousd=pb.cost_nanousd,
        graded_at_unix_s=timestamp_from_proto(pb.graded_at),
        outcome=pb.outcome,
    )


def measured_quality_to_proto(value: MeasuredQuality) -> ledger_pb2.MeasuredQuality:
    return ledger_pb2.MeasuredQuality(
        target=value.target,
        task_type=TASK_TYPES.to_proto(value.task_type),
        grades=value.grades,
        mean=value.mean,
        flagship_mean=value.flagship_mean,
        ratio_lower=value.ratio_lower,
        liked=value.liked,
        disliked=value.disliked,
    )


def measured_quality_from_proto(pb: ledger_pb2.MeasuredQuality, path: str = "quality") -> MeasuredQuality:
    """Raises WireError for a task type that is unset or unknown."""
    return MeasuredQuality(
        target=pb.target,
        task_type=TASK_TYPES.required(pb.task_type, join(path, "task_type")),
        grades=pb.grades,
        mean=pb.mean,
        flagship_mean=pb.flagship_mean,
        ratio_lower=pb.ratio_lower,
        liked=pb.liked,
        disliked=pb.disliked,
    )


def job_submission_to_proto(value: JobSubmission) -> orchestrator_pb2.SubmitJobRequest:
    return orchestrator_pb2.SubmitJobRequest(
        request=completion_request_to_proto(value.request),
        webhook_url=value.webhook_url,
        timeout=None if value.timeout_s is None else duration_to_proto(value.timeout_s),
    )


def job_submission_from_proto(pb: orchestrator_pb2.SubmitJobRequest, path: str = "") -> JobSubmission:
    """Raises WireError."""
    return JobSubmission(
        request=completion_request_from_proto(pb.request, join(path, "request")),
        webhook_url=pb.webhook_url,
        timeout_s=duration_from_proto(pb.timeout, join(path, "timeout")) if pb.HasField("timeout") else None,
    )


def job_to_proto(value: Job) -> orchestrator_pb2.Job:
    return orchestrator_pb2.Job(
        job_id=value.job_id,
        state=JOB_STATES.to_proto(value.state),
        completion=None if value.completion is None else completion_to_proto(value.completion),
        error_reason=value.error_reason,
        error_message=value.error_message,
        tries=value.tries,
        submitted_at=timestamp_to_proto(value.submitted_at_unix_s),
        changed_at=timestamp_to_proto(value.changed_at_unix_s),
        expires_at=None if value.expires_at_unix_s is None else timestamp_to_proto(value.expires_at_unix_s),
        deliveries=[
            orchestrator_pb2.WebhookDelivery(
                at=timestamp_to_proto(each.at_unix_s), status=each.status, error=each.error
            )
            for each in value.deliveries
        ],
    )


def job_from_proto(pb: orchestrator_pb2.Job, path: str = "job") -> Job:
    """Raises WireError."""
    return Job(
        job_id=pb.job_id,
        state=JOB_STATES.required(pb.state, join(path, "state")),
        completion=completion_from_proto(pb.completion, join(path, "completion"))
        if pb.HasField("completion")
        else None,
        error_reason=pb.error_reason,
        error_message=pb.error_message,
        tries=pb.tries,
        submitted_at_unix_s=timestamp_from_proto(pb.submitted_at),
        changed_at_unix_s=timestamp_from_proto(pb.changed_at),
        expires_at_unix_s=timestamp_from_proto(pb.expires_at) if pb.HasField("expires_at") else None,
        deliveries=tuple(
            WebhookDelivery(timestamp_from_proto(each.at), each.status, each.error) for each in pb.deliveries
        ),
    )
