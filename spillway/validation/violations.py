"""What a check finds, and the error that it ends with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

__all__ = [
    "INVALID_FIELD",
    "INVALID_SCHEMA",
    "NAME_CHARS_MAX",
    "VIOLATIONS_MAX",
    "InvalidValue",
    "Violation",
    "between",
    "chars",
    "raise_if_any",
]

INVALID_FIELD: Final = "INVALID_FIELD"
INVALID_SCHEMA: Final = "INVALID_SCHEMA"

# Who breaks more rules than this need not hear of all of them.
VIOLATIONS_MAX: Final = 50
# Tiers and targets.
NAME_CHARS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with the field at `path`."""

    path: str
    message: str
    reason: str = INVALID_FIELD


class InvalidValue(ValueError):  # noqa: N818 - it is the value that is invalid
    """Ranges are broken. `violations` is not empty; `reason` is INVALID_SCHEMA when nothing but schemas is wrong."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(f"{violation.path} {violation.message}" for violation in violations))
        self.violations = tuple(violations)

    @property
    def reason(self) -> str:
        return INVALID_FIELD if any(v.reason == INVALID_FIELD for v in self.violations) else INVALID_SCHEMA


def raise_if_any(violations: Iterator[Violation]) -> None:
    """Raises InvalidValue with the first VIOLATIONS_MAX, if there is one."""
    found = tuple(islice(violations, VIOLATIONS_MAX))
    if found:
        raise InvalidValue(found)


def between(value: float | None, low: float, high: float, path: str) -> Iterator[Violation]:
    """Absent values are fine; NaN is not."""
    if value is not None and not low <= value <= high:
        yield Violation(path, f"must be between {low:g} and {high:g}")


def chars(value: str, chars_max: int, path: str) -> Iterator[Violation]:
    """A text of at most `chars_max` characters."""
    if len(value) > chars_max:
        yield Violation(path, f"must have at most {chars_max} characters")
