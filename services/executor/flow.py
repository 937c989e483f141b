"""One answer while it is written: when it may begin to flow to the caller, and what of it.

Promises: pure; time is an argument, monotonic seconds. Nothing flows before its stream is committed, and a stream is
committed once, when
- nothing can replace the answer any more (the last rung that may be reached, alone under way), and either its tier has
  no gates of its own and the request asks for no form, or the tier has a stream prefix: at its first visible character;
- or the tier has a stream prefix and the gates that can read it have nothing against it: when it is long enough, or
  so much time has passed since its first piece.
A prefix that the gates reject ends the call, before the caller has seen anything of it; on the last rung that may be
reached it only keeps the answer back until it is whole. What is meant for Spillway is taken out of everything that
flows.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from services.executor.gates import prefix
from services.executor.gates.stream_filter import StreamFilter
from services.executor.steps import Call
from spillway.routing import GateVerdict

__all__ = ["Decision", "Flow"]

_CHARS_PER_TOKEN: Final = 4


class Decision(StrEnum):
    """What to do with a stream."""

    HOLD = "hold"
    COMMIT = "commit"
    REJECT = "reject"


class Flow:
    """One stream. `is_plain`: the request asks for no form. `confidence`: the prompt asks for a confidence line."""

    def __init__(self, call: Call, *, is_plain: bool, confidence: bool) -> None:
        self._call = call
        self._flows_at_once = call.tier.stream_prefix is not None or (is_plain and not call.tier.gates)
        self._filter = StreamFilter(confidence=confidence)
        self._raw = ""  # everything, until the prefix has been read
        self._held = ""
        self._sent: list[str] = []
        self._first_at_s: float | None = None
        self._is_read = call.tier.stream_prefix is None  # whether there is no prefix left to read
        self.is_committed = False
        self.is_written = False
        self.chars = 0
        self.verdict: GateVerdict | None = None

    @property
    def sent(self) -> str:
        """All that has left, joined."""
        return "".join(self._sent)

    @property
    def due_at_s(self) -> float | None:
        """When to decide again, if nothing is written until then; None: no need."""
        if self._is_read or self._first_at_s is None or self.is_committed or self.is_written:
            return None
        prefix_spec = self._call.tier.stream_prefix
        return None if prefix_spec is None else self._first_at_s + prefix_spec.wait_s

    def feed(self, text: str, now_s: float) -> None:
        """The next piece."""
        if self._first_at_s is None and text:
            self._first_at_s = now_s
        self.chars += len(text)
        if not self._is_read:
            self._raw += text
        self._held += self._filter.feed(text)

    def finish(self) -> None:
        """All is written. What was not committed by now is judged whole."""
        self._held += self._filter.finish()
        self.is_written = True

    def decide(self, now_s: float, *, is_alone: bool) -> Decision:
        """What to do now. COMMIT and REJECT are said once."""
        if self.is_committed or self.is_written or not self._held.strip():
            return Decision.HOLD
        if self._call.is_last and is_alone and self._flows_at_once:
            return self._commit()
        spec = self._call.tier.stream_prefix
        if spec is None or self._is_read or self._first_at_s is None:
            return Decision.HOLD
        if len(self._raw) < spec.tokens * _CHARS_PER_TOKEN and now_s - self._first_at_s < spec.wait_s:
            return Decision.HOLD
        self._is_read = True
        self.verdict = prefix.rejection(self._raw, self._call.tier.gates)
        self._raw = ""
        if self.verdict is None:
            return self._commit()
        return Decision.HOLD if self._call.is_last else Decision.REJECT

    def take(self) -> str:
        """What may leave now; it counts as sent. Empty before the stream is committed."""
        if not self.is_committed or not self._held:
            return ""
        held, self._held = self._held, ""
        self._sent.append(held)
        return held

    def _commit(self) -> Decision:
        self.is_committed = True
        self._is_read = True
        self._raw = ""
        return Decision.COMMIT
