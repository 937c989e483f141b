"""The one short wait of an execution whose targets are all closed for a moment: throttled, or with an open breaker.

Promises: pure; time is what remains of the deadline, in seconds. Who said after how long to ask again is believed.
There is one wait at most, of `RECESS_S_MAX` and `RECESS_SHARE_MAX` of the remaining time at most, and only when nothing
but such closings kept every target from answering: whoever is down for another reason is not waited for.
"""

from __future__ import annotations

from typing import Final

from services.executor.standing import Rung

__all__ = ["RECESS_SHARE_MAX", "RECESS_S_MAX", "Recess"]

RECESS_S_MAX: Final = 1.0
RECESS_SHARE_MAX: Final = 0.1
_RECESS_S_MIN: Final = 0.01
_MOMENT_S: Final = 1e-6  # what is less is rounding


class Recess:
    """Of one execution. Part of the cascade, which keeps it up to date."""

    def __init__(self) -> None:
        self._new: list[tuple[Rung, str, float]] = []  # closed since `observe`, with the seconds for which
        self._closed: list[tuple[Rung, str, float]] = []  # with what remains of the deadline when it opens
        self._is_over = False
        self._ends_with_s: float | None = None

    def closed(self, rung: Rung, target: str, for_s: float) -> None:
        """The target said to ask again after `for_s`, just now."""
        self._new.append((rung, target, for_s))

    def forgo(self) -> None:
        """A target failed otherwise: there will be no wait."""
        self._is_over = True

    def observe(self, remaining_s: float) -> None:
        """Says what time it is."""
        self._closed += [(rung, target, remaining_s - for_s) for rung, target, for_s in self._new]
        self._new.clear()

    def begin(self, remaining_s: float, first_rung: int) -> int | None:
        """Begins the wait if it is worth it, and puts what opens soon back; the lowest rung of it.

        Rungs below `first_rung` stay as they are.
        """
        if self._is_over:
            return None
        self._is_over = True
        longest_s = min(RECESS_S_MAX, remaining_s * RECESS_SHARE_MAX)
        soon = [
            (rung, target, opens_with_s)
            for rung, target, opens_with_s in self._closed
            if rung.index >= first_rung and remaining_s - opens_with_s <= longest_s
        ]
        if not soon:
            return None
        for rung, target, _ in soon:
            rung.untried.append(target)
        self._ends_with_s = min(max(opens_with_s for *_, opens_with_s in soon), remaining_s - _RECESS_S_MIN)
        return min(rung.index for rung, *_ in soon)

    def left_s(self, remaining_s: float) -> float:
        """How much longer to wait; 0 when there is nothing to wait for."""
        if self._ends_with_s is None:
            return 0.0
        left_s = remaining_s - self._ends_with_s
        if left_s <= _MOMENT_S:
            self._ends_with_s = None
            return 0.0
        return left_s
