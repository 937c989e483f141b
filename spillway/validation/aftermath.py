"""The ranges of feedback, grades and jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from spillway.routing import Feedback, FeedbackKind, Grade, GradeSource, JobSubmission
from spillway.validation.request import (
    REQUEST_ID_CHARS_MAX,
    TENANT_CHARS_MAX,
    check_completion_request,
    completion_request,
)
from spillway.validation.violations import NAME_CHARS_MAX, Violation, between, chars, raise_if_any

__all__ = ["GRADES_MAX", "JOB_TIMEOUT_S_MAX", "check_feedback", "check_grades", "check_job_key", "check_job_submission"]

COMMENT_CHARS_MAX: Final = 2_000
WEBHOOK_URL_CHARS_MAX: Final = 2_000
JOB_TIMEOUT_S_MAX: Final = 86_400.0
ID_CHARS_MAX: Final = 64
GRADES_MAX: Final = 1_000
OUTCOME_CHARS_MAX: Final = 64

_DISLIKES: Final = frozenset({FeedbackKind.THUMBS_DOWN, FeedbackKind.REGENERATED, FeedbackKind.COMPLAINT})
_ID: Final = re.compile(r"[!-~]+")
_PRINTABLE_ASCII: Final = re.compile(r"[ -~]+")


def check_feedback(value: Feedback) -> None:
    """Raises InvalidValue. Of a retry, what it asks is checked, its limits included."""
    raise_if_any(_feedback(value))
    if value.retry is not None:
        check_completion_request(value.retry, "retry")


def check_job_submission(value: JobSubmission) -> None:
    """Raises InvalidValue. Which hosts a webhook may name is for who sends it."""
    raise_if_any(_job_submission(value))


def check_job_key(job_id: str, tenant: str) -> None:
    """Raises InvalidValue."""
    raise_if_any(iter([*_identifier(job_id, "job_id"), *chars(tenant, TENANT_CHARS_MAX, "tenant")]))


def check_grades(values: Sequence[Grade]) -> None:
    """Raises InvalidValue."""
    raise_if_any(_grades(values))


def _identifier(value: str, path: str) -> Iterator[Violation]:
    if not value or len(value) > ID_CHARS_MAX or not _ID.fullmatch(value):
        yield Violation(path, f"must have 1 to {ID_CHARS_MAX} printable ASCII characters, no spaces")


def _request_id(value: str, path: str) -> Iterator[Violation]:
    if not value or len(value) > REQUEST_ID_CHARS_MAX or not _PRINTABLE_ASCII.fullmatch(value):
        yield Violation(path, f"must have 1 to {REQUEST_ID_CHARS_MAX} printable ASCII characters")


def _feedback(value: Feedback) -> Iterator[Violation]:
    yield from _request_id(value.request_id, "request_id")
    yield from chars(value.tenant, TENANT_CHARS_MAX, "tenant")
    yield from chars(value.comment, COMMENT_CHARS_MAX, "comment")
    if value.retry is not None and value.kind not in _DISLIKES:
        yield Violation("retry", "only for an answer that was not good: thumbs down, regenerated, a complaint")


def _job_submission(value: JobSubmission) -> Iterator[Violation]:
    yield from completion_request(value.request, "request.")
    yield from chars(value.webhook_url, WEBHOOK_URL_CHARS_MAX, "webhook_url")
    if value.timeout_s is not None and not 0 < value.timeout_s <= JOB_TIMEOUT_S_MAX:
        yield Violation("timeout", "must be above 0 and at most 24 hours")


def _grades(values: Sequence[Grade]) -> Iterator[Violation]:
    if not 1 <= len(values) <= GRADES_MAX:
        yield Violation("grades", f"must be 1 to {GRADES_MAX:,}")
    for i, grade in enumerate(values[:GRADES_MAX]):
        path = f"grades[{i}]"
        yield from _identifier(grade.grade_id, f"{path}.grade_id")
        yield from _request_id(grade.request_id, f"{path}.request_id")
        yield from chars(grade.tenant, TENANT_CHARS_MAX, f"{path}.tenant")
        for name in ("tier", "target", "arm", "flagship_target", "judge_target"):
            yield from chars(getattr(grade, name), NAME_CHARS_MAX, f"{path}.{name}")
        yield from chars(grade.outcome, OUTCOME_CHARS_MAX, f"{path}.outcome")
        if grade.source is GradeSource.AUDIT and not grade.outcome:
            yield Violation(f"{path}.outcome", "must be set for an audit")
        yield from between(grade.score, 0, 1, f"{path}.score")
        yield from between(grade.flagship_score, 0, 1, f"{path}.flagship_score")
        if grade.cost_nanousd < 0:
            yield Violation(f"{path}.cost_nanousd", "must be at least 0")
