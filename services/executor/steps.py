"""What a cascade asks of its driver, and what the gates tell it: plain values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from spillway.routing import PlannedTier

__all__ = [
    "COST_CEILING",
    "Action",
    "Call",
    "Cancel",
    "CascadeError",
    "Fail",
    "FailReason",
    "Judged",
    "Return",
    "Skip",
    "Wait",
]

COST_CEILING: Final = "COST_CEILING"  # the error_reason of a Skip


class CascadeError(RuntimeError):
    """An input that its state does not allow. Always a defect of the driver."""


class FailReason(StrEnum):
    """Why there is no answer; the names are those of ErrorReason."""

    NO_MODEL_AVAILABLE = "NO_MODEL_AVAILABLE"
    COST_CEILING = "COST_CEILING"
    PROVIDER_REJECTED = "PROVIDER_REJECTED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    STREAM_INTERRUPTED = "STREAM_INTERRUPTED"
    OVERLOADED = "OVERLOADED"
    """Of an execution that got no place for any call; no cascade says it."""


@dataclass(frozen=True, slots=True)
class Call:
    """Ask `target`; what its gates ask others is their own affair.

    `number` names the call in everything that is said of it later; a cascade counts from 0.
    """

    tier: PlannedTier
    target: str
    timeout_s: float
    notes: tuple[str, ...] = ()
    is_last: bool = False
    """Whether its answer may be returned whatever the gates say of it (unless it is empty)."""
    number: int = 0
    is_hedge: bool = False
    """Whether it is a second call beside one that is slow."""
    is_fallback: bool = False
    """Whether it takes the place of a call that failed, so that the request costs a further call."""
    flow_timeout_s: float = 0.0
    """The time for the whole of it once its stream is committed: nothing can follow, so nothing is kept for it."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the call with this number, and say so with `cancelled`."""

    number: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Come back when a call under way has ended, or when `for_s` seconds have passed (None: never).

    Without a call under way it is a wait for targets that open after that time.
    """

    for_s: float | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """Record that a target was not called, and why."""

    tier: PlannedTier
    target: str
    error_reason: str


@dataclass(frozen=True, slots=True)
class Return:
    """The end: the answer of the attempt with this number."""

    attempt: int
    accepted: bool


@dataclass(frozen=True, slots=True)
class Fail:
    """The end: no answer. `retry_after_s` is the soonest time at which a target said to ask again."""

    reason: FailReason
    retry_after_s: float | None = None


Action = Call | Cancel | Wait | Skip | Return | Fail


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer as the gates see it. `attempt` is the driver's number for it; `notes` say what was wrong."""

    attempt: int
    accepted: bool
    is_hard_failure: bool = False
    is_empty: bool = False
    notes: tuple[str, ...] = ()
