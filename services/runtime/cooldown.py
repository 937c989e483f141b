"""Leaves a failed server alone for a while: an outage costs one slow request now and then, not every one.

Promises: pure, time comes in; after `failures_max` failures in a row nobody asks for `pause_s`, then one probe does,
and its result decides; a result counts only for the state in which its call began, so a late failure from before a
recovery changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cooldown", "Ticket"]


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to make one call; to be handed back exactly once, with its result."""

    era: int
    probe: bool


class Cooldown:
    """Belongs to one event loop. Times are monotonic seconds."""

    def __init__(self, *, pause_s: float, failures_max: int = 1) -> None:
        self._pause_s = pause_s
        self._failures_max = failures_max
        self._failures = 0  # in a row, while it is taken to be well
        self._era = 0  # counts changes of state
        self._asks_again_at_s: float | None = None  # None: the server is well
        self._probing = False

    def enter(self, now_s: float) -> Ticket | None:
        """A ticket, or None while the server is left alone."""
        if self._asks_again_at_s is None:
            return Ticket(self._era, probe=False)
        if self._probing or now_s < self._asks_again_at_s:
            return None
        self._probing = True
        return Ticket(self._era, probe=True)

    def succeeded(self, ticket: Ticket) -> None:
        """The server answered in time, be it with an error."""
        if ticket.era == self._era:
            self._failures = 0
            if ticket.probe:
                self._change(None)

    def failed(self, ticket: Ticket, now_s: float) -> None:
        """The server did not answer in time, or could not be reached."""
        if ticket.era != self._era:
            return
        self._failures += 1
        if ticket.probe or self._failures >= self._failures_max:
            self._change(now_s + self._pause_s)

    def abandoned(self, ticket: Ticket) -> None:
        """The caller left before there was a result."""
        if ticket.era == self._era and ticket.probe:
            self._probing = False

    def _change(self, asks_again_at_s: float | None) -> None:
        self._era += 1
        self._failures = 0
        self._asks_again_at_s = asks_again_at_s
        self._probing = False
