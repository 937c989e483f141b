"""The optional small-LLM layer: whether it is asked at all, for how long, and what a failure means.

Promises: asked only below `confidence_max`, for at most `share_max` of the prompts, with at most IN_FLIGHT_MAX
questions under way; never longer than `timeout_s` and a share of the time that the caller has left; after FAILURES_MAX
failures in a row it is left alone for PAUSE_S. Whatever goes wrong, there is a result that says so, and the layer below
stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from services.classifier.small_llm import AskShare, Opinion, UnreadableOpinionError, question, read_opinion
from services.runtime.clock import Clock
from services.runtime.cooldown import Cooldown
from spillway.chat import ChatRequest, Message

__all__ = ["Asked", "Asker", "AskerError", "Asking", "Reply", "SmallLlmLayer"]

# The rest of the caller's time is for the answer's way back.
TIME_SHARE: Final = 0.8
# With less no model answers: not worth its price.
TIME_S_MIN: Final = 0.05
IN_FLIGHT_MAX: Final = 32
FAILURES_MAX: Final = 3
PAUSE_S: Final = 30.0


class Asking(StrEnum):
    """What became of the question; a bounded set, for metrics."""

    ANSWERED = "answered"
    SURE = "sure"
    SHARE_USED = "share_used"
    LEFT_ALONE = "left_alone"
    BUSY = "busy"
    NO_TIME = "no_time"
    TIMEOUT = "timeout"
    FAILED = "failed"
    UNREADABLE = "unreadable"


_REASONS: Final = {
    Asking.ANSWERED: "the small LLM answered",
    Asking.SURE: "sure enough without a small LLM",
    Asking.SHARE_USED: "the small LLM's share is used up",
    Asking.LEFT_ALONE: "the small LLM is left alone after failures",
    Asking.BUSY: "too many questions to the small LLM are under way",
    Asking.NO_TIME: "no time was left for the small LLM",
    Asking.TIMEOUT: "the small LLM took too long",
    Asking.FAILED: "the small LLM failed",
    Asking.UNREADABLE: "the small LLM's answer was unreadable",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of one prompt's question. `cost_nanousd` and `took_s` are 0 where none was sent."""

    asking: Asking
    opinion: Opinion | None = None
    cost_nanousd: int = 0
    took_s: float = 0.0

    @property
    def reason(self) -> str:
        """In words."""
        return _REASONS[self.asking]

    @property
    def was_sent(self) -> bool:
        """Whether a model was asked."""
        return self.asking in {Asking.ANSWERED, Asking.TIMEOUT, Asking.FAILED, Asking.UNREADABLE}


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer, and what it cost."""

    text: str
    cost_nanousd: int = 0


class AskerError(Exception):
    """No answer. The message holds no prompt."""

    def __init__(self, message: str, *, cost_nanousd: int = 0) -> None:
        super().__init__(message)
        self.cost_nanousd = cost_nanousd


class Asker(Protocol):
    """Asks the model."""

    async def ask(self, chat: ChatRequest, *, timeout_s: float) -> Reply:
        """Raises AskerError, TimeoutError when it took longer than `timeout_s`."""


class SmallLlmLayer:
    """Belongs to one event loop."""

    def __init__(
        self, asker: Asker, clock: Clock, *, confidence_max: float, share_max: float, timeout_s: float
    ) -> None:
        self._asker = asker
        self._clock = clock
        self._confidence_max = confidence_max
        self._timeout_s = timeout_s
        self._share = AskShare(share_max)
        self._cooldown = Cooldown(pause_s=PAUSE_S, failures_max=FAILURES_MAX)
        self._in_flight = 0

    async def judge(self, messages: Sequence[Message], *, confidence: float, time_s: float | None) -> Asked:
        """Asks about a conversation that the layer below is only so confident of; `time_s` is what the caller has.

        Every prompt passes here exactly once, those that the layers below are sure of too: the share is of all. Raises
        nothing of its own; cancellation passes through.
        """
        self._share.seen()
        if confidence >= self._confidence_max:
            return Asked(Asking.SURE)
        limit_s = self._timeout_s if time_s is None else min(self._timeout_s, time_s * TIME_SHARE)
        if limit_s < TIME_S_MIN:
            return Asked(Asking.NO_TIME)
        if self._in_flight >= IN_FLIGHT_MAX:
            return Asked(Asking.BUSY)
        ticket = self._cooldown.enter(self._clock.monotonic())
        if ticket is None:
            return Asked(Asking.LEFT_ALONE)
        if not self._share.take():
            self._cooldown.abandoned(ticket)
            return Asked(Asking.SHARE_USED)
        self._in_flight += 1
        try:
            asked = await self._ask(messages, limit_s)
        except asyncio.CancelledError:
            self._cooldown.abandoned(ticket)
            raise
        finally:
            self._in_flight -= 1
        if asked.opinion is not None:
            self._cooldown.succeeded(ticket)
        else:
            # An answer that cannot be read is paid for and helps nobody, again and again.
            self._cooldown.failed(ticket, self._clock.monotonic())
        return asked

    async def _ask(self, messages: Sequence[Message], limit_s: float) -> Asked:
        started_s = self._clock.monotonic()

        def asked(asking: Asking, cost_nanousd: int = 0, opinion: Opinion | None = None) -> Asked:
            return Asked(asking, opinion, cost_nanousd, self._clock.monotonic() - started_s)

        try:
            async with asyncio.timeout(limit_s):
                reply = await self._asker.ask(question(messages), timeout_s=limit_s)
        except TimeoutError:
            return asked(Asking.TIMEOUT)
        except AskerError as error:
            return asked(Asking.FAILED, error.cost_nanousd)
        try:
            opinion = read_opinion(reply.text)
        except UnreadableOpinionError:
            return asked(Asking.UNREADABLE, reply.cost_nanousd)
        return asked(Asking.ANSWERED, reply.cost_nanousd, opinion)
