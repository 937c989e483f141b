"""What the executor needs of a place that serves models, and a fake that needs no network.

Both the fake and the adapters pass tests/contract/executor.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import Protocol

from services.executor.outcome import Answer, FailureKind, ProviderFailure
from spillway.chat import ChatRequest
from spillway.routing import AnswerDelta

__all__ = ["FakeProvider", "FakeStep", "Provider", "ProviderCall", "StreamEvent"]

StreamEvent = AnswerDelta | Answer | ProviderFailure


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One call. `timeout_s` bounds the whole of it, from the connection to the last byte.

    With `want_logprobs` the answer has log-probabilities where the provider gives them.
    """

    model: str
    chat: ChatRequest
    timeout_s: float
    want_logprobs: bool = False


class Provider(Protocol):
    """A place that serves models. Safe for many calls at once on one event loop.

    Nothing that the provider does is raised: it comes back as a ProviderFailure. Cancelling a call ends it promptly,
    also on the provider's side, and CancelledError passes through.
    """

    async def complete(self, call: ProviderCall) -> Answer | ProviderFailure:
        """The whole answer."""
        ...

    def stream(self, call: ProviderCall) -> AsyncGenerator[StreamEvent, None]:
        """Pieces of text as they are written, then exactly one Answer (with everything) or ProviderFailure.

        Close the generator to end the call early.
        """
        ...

    async def close(self) -> None:
        """Closes every connection. Calls under way fail."""
        ...


@dataclass(frozen=True, slots=True)
class FakeStep:
    """What one call of the fake comes to. `hang` never ends before its timeout; `cut_after` breaks a stream.

    `chunk_chars` is how much text one piece of a stream has.
    """

    result: Answer | ProviderFailure
    hang: bool = False
    cut_after: int | None = None
    chunk_chars: int = 4


class FakeProvider:
    """A provider in memory: each model's steps serve its calls in order, and the last one repeats."""

    def __init__(self, steps: dict[str, Iterable[FakeStep]]) -> None:
        self._steps = {model: deque(given) for model, given in steps.items()}
        self.calls: list[ProviderCall] = []
        self.cancelled = 0
        self.in_flight = 0

    async def complete(self, call: ProviderCall) -> Answer | ProviderFailure:
        step = self._begin(call)
        if not step.hang:
            await asyncio.sleep(0)
            return step.result
        return await self._hang(call)

    async def stream(self, call: ProviderCall) -> AsyncGenerator[StreamEvent, None]:
        step = self._begin(call)
        if step.hang:
            yield await self._hang(call)
            return
        if isinstance(step.result, ProviderFailure):
            yield step.result
            return
        text = step.result.message.text
        for index, start in enumerate(range(0, len(text), step.chunk_chars)):
            if index == step.cut_after:
                yield ProviderFailure(FailureKind.ERROR, "PROVIDER_INTERRUPTED", billable=True, output_chars=start)
                return
            await asyncio.sleep(0)
            yield AnswerDelta(text[start : start + step.chunk_chars])
        yield step.result

    async def close(self) -> None:
        """Nothing is open."""

    def _begin(self, call: ProviderCall) -> FakeStep:
        self.calls.append(call)
        steps = self._steps.get(call.model)
        if not steps:
            return FakeStep(ProviderFailure(FailureKind.AUTH, "PROVIDER_NOT_FOUND"))
        return steps.popleft() if len(steps) > 1 else steps[0]

    async def _hang(self, call: ProviderCall) -> ProviderFailure:
        self.in_flight += 1
        try:
            async with asyncio.timeout(call.timeout_s):
                await asyncio.Event().wait()
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1
        return ProviderFailure(FailureKind.TIMEOUT, "PROVIDER_TIMEOUT", billable=True)
