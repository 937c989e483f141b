"""What people and judges made of answers, and what that says of the targets. Plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from spillway.routing.completion import CompletionRequest
from spillway.routing.judgement import TaskType

__all__ = ["Feedback", "FeedbackKind", "Grade", "GradeSource", "MeasuredQuality"]


class FeedbackKind(StrEnum):
    """What a person made of an answer."""

    THUMBS_UP = "thumbs_up"
    THUMBS_DOWN = "thumbs_down"
    REGENERATED = "regenerated"
    ACCEPTED = "accepted"
    EDITED = "edited"
    COMPLAINT = "complaint"


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a person made of the answer to a request; with `retry`, the request again, for the flagship to answer."""

    request_id: str
    tenant: str
    kind: FeedbackKind
    comment: str = ""
    retry: CompletionRequest | None = None


class GradeSource(StrEnum):
    """Where a grade comes from."""

    CANARY = "canary"
    EVALUATION = "evaluation"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Grade:
    """What a judge made of an answer beside the flagship's to the same request.

    `score` and `flagship_score` are in [0, 1], means over both orders of presentation. `cost_nanousd` is what the
    flagship's answer and the judge cost. With an `outcome` it is no grade but what was spent without one (of source
    AUDIT: what an audit of a cached answer came to), and the scores say nothing.
    """

    grade_id: str
    request_id: str
    tenant: str
    source: GradeSource
    task_type: TaskType
    tier: str
    target: str
    flagship_target: str
    score: float
    flagship_score: float
    arm: str = ""
    judge_target: str = ""
    orders_agree: bool = True
    cost_nanousd: int = 0
    graded_at_unix_s: float = 0.0
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class MeasuredQuality:
    """How good a target's answers to one kind of work were, beside the flagship's to the same requests.

    `ratio_lower` is the lower end of the 95 % interval of mean / flagship_mean, 0 with fewer than two grades.
    """

    target: str
    task_type: TaskType
    grades: int
    mean: float
    flagship_mean: float
    ratio_lower: float
    liked: int = 0
    disliked: int = 0
