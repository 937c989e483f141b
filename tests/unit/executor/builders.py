"""Small values for the executor's tests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from services.executor.execution import Executor
from services.executor.gates.calibration import BASELINE
from services.executor.outcome import Answer, FailureKind, ProviderFailure
from services.executor.providers.provider import FakeProvider, FakeStep
from services.executor.targets import TargetPool
from services.runtime.clock import FakeClock
from spillway.chat import ChatRequest, FinishReason, Message, Role, Usage
from spillway.settings import Settings

USAGE = Usage(100, 10)
DOWN = ProviderFailure(FailureKind.ERROR, "PROVIDER_5XX")
REFUSED = ProviderFailure(FailureKind.REJECTED, "PROVIDER_REJECTED")
CUT = FinishReason.LENGTH


def chat(text: str = "What is 6 times 7?", **fields: Any) -> ChatRequest:
    return ChatRequest((Message.of(Role.USER, text),), **fields)


def answer(text: str, finish_reason: FinishReason = FinishReason.STOP, usage: Usage | None = USAGE) -> Answer:
    return Answer(Message.of(Role.ASSISTANT, text) if text else Message(Role.ASSISTANT), finish_reason, usage, "m")


def openai_response(message: object, **fields: object) -> bytes:
    """The body of a chat completion of OpenAI's with this one message."""
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], **fields}).encode()


def target(name: str, price: float = 1.0, **fields: Any) -> dict[str, Any]:
    prices = {"input_usd_per_mtok": price, "output_usd_per_mtok": 2 * price}
    return {"name": name, "provider": "p", "model": name, "price": prices, **fields}


def settings(**executor: Any) -> Settings:
    """Three tiers: simple (a1, a2), medium (b1), complex (c1, c2), at prices 1, 1, 5, 20, 20."""
    return Settings.model_validate(
        {
            "providers": {"p": {"base_url": "http://127.0.0.1:1/v1"}},
            "tiers": [
                {"name": "simple", "targets": [target("a1"), target("a2")]},
                {"name": "medium", "targets": [target("b1", 5.0)]},
                {"name": "complex", "targets": [target("c1", 20.0), target("c2", 20.0)]},
            ],
            "executor": executor,
        }
    )


class Bench:
    """An executor over a fake provider and a fake clock."""

    def __init__(self, steps: dict[str, Iterable[FakeStep | Answer | ProviderFailure | str]], **executor: Any) -> None:
        self.provider = FakeProvider(
            {
                name: [
                    step if isinstance(step, FakeStep) else FakeStep(answer(step) if isinstance(step, str) else step)
                    for step in given
                ]
                for name, given in steps.items()
            }
        )
        self.clock = FakeClock()
        configured = settings(**executor)
        self.pool = TargetPool(configured, random=lambda: 0.5)
        self.executor = Executor(
            {"p": self.provider},
            self.pool,
            self.clock,
            confidence_min=configured.executor.confidence_min,
            calibration=BASELINE,
            hedging=configured.executor.hedging,
        )

    @property
    def asked(self) -> list[str]:
        return [call.model for call in self.provider.calls]
