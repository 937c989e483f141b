"""Plans of gated tiers, run over scripted models: who was asked, for what, and what came of it."""

from __future__ import annotations

import json
from typing import Any

from services.executor.providers.provider import FakeStep
from spillway.chat import ChatRequest
from spillway.routing import Attempt, Execution, GateSpec, Plan, PlannedTier, Verdict
from tests.unit.executor.builders import DOWN, Bench, chat

__all__ = ["CALL_NANOUSD", "HANG", "graded", "made", "plan", "run", "verdict"]

HANG = FakeStep(DOWN, hang=True)
CALL_NANOUSD = 100 * 1_000 + 10 * 2_000  # at a1's and a2's price


def graded(score: float) -> str:
    """What a grader writes."""
    return f"Let me see. {json.dumps({'reason': 'because', 'score': score})}"


def plan(*gates: GateSpec, targets: tuple[str, ...] = ("a1", "a2"), timeout_s: float = 60.0, **fields: Any) -> Plan:
    """Simple with these gates, then complex."""
    simple = PlannedTier("simple", targets, gates, timeout_s, escape_valve=fields.pop("escape_valve", False))
    return Plan((simple, PlannedTier("complex", ("c1",))), **fields)


async def run(bench: Bench, given: Plan, request: ChatRequest | None = None) -> Execution:
    return await bench.executor.execute(request or chat(), given, None, 60.0)


def made(execution: Execution) -> list[tuple[str, str, str]]:
    """Which calls were made, for what, and what became of each."""
    return [(a.target, a.purpose.value, a.outcome.value) for a in execution.attempts]


def verdict(attempt: Attempt, gate: str) -> Verdict:
    """What one gate said of an attempt."""
    return next(found.verdict for found in attempt.verdicts if found.gate == gate)
