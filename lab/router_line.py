"""One line of a file of prompts and outcomes, read as a value. Pure.

A line is one of
    a decision record, as the orchestrator's decision log has it: what the gates said of each tier's answer;
    {"prompt" | "messages", "outcomes": {TIER: true | false | 0..1}, "task_type"?, "costs"?: {TIER: number}};
    {"prompt" | "messages", "task" | "subject"?, "answers": {MODEL: {"correct"}}}, or with MODEL: true | false beside
    the prompt: runs of models, of which `models` says which model stands for which tier.

Of a record the outcome of a tier is what gates said that can tell a good answer from a bad one: the composite gate's
verdict, else a fail of any, else a pass of any. That an answer was neither empty nor a refusal proves nothing, so a
tier without further gates has no outcome.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from services.classifier.conversation import judged_text
from spillway.chat import Message, Role
from spillway.routing import Verdict, proves

__all__ = ["Line", "RefusedError", "Wanted", "parse_line"]

KIND_CHARACTERS_MAX: Final = 60
# Dearer than any call, and far from where arithmetic ends.
COST_USD_MAX: Final = 1e6
_COST_NANOUSD_DIGITS_MAX: Final = 15
OTHER: Final = "other"

_ROLES: Final = {str(role): role for role in Role}
_VERDICTS: Final = {f"VERDICT_{verdict.name}": verdict for verdict in Verdict}
_ANSWERS: Final = frozenset({"PURPOSE_ANSWER", "PURPOSE_HEDGE", ""})
_ANSWERED: Final = frozenset({"OUTCOME_ACCEPTED", "OUTCOME_REJECTED"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to read. `tiers`: cheapest first. `models`: which model stands for which tier, in runs of models.

    `outcomes` False: the prompts alone are wanted, whatever became of them.
    """

    tiers: tuple[str, ...]
    models: Mapping[str, str] = field(default_factory=dict)
    outcomes: bool = True


class RefusedError(ValueError):
    """A line does not fit; the message says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `prompt` None: none was kept. `cut`: only its head was."""

    prompt: str | None
    kind: str
    outcomes: Mapping[str, float]
    costs: Mapping[str, float]
    cut: bool = False


def parse_line(line: bytes, wanted: Wanted) -> Line:
    """Reads one line. Raises RefusedError."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise RefusedError("no JSON") from None
    if not isinstance(value, dict):
        raise RefusedError("no JSON object")
    if "prompt_sha256" in value:
        return _record(value, wanted)
    prompt = _prompt(value)
    kind = _plain(str(value.get("task_type") or value.get("task") or value.get("subject") or OTHER))
    if not wanted.outcomes:
        return Line(prompt, kind, {}, {})
    if "outcomes" in value:
        outcomes = _numbers(value["outcomes"], "outcomes", wanted.tiers, most=1.0)
        if not outcomes:
            raise RefusedError("outcomes: there are none")
        return Line(
            prompt, kind, outcomes, _numbers(value.get("costs") or {}, "costs", wanted.tiers, most=COST_USD_MAX)
        )
    if not wanted.models:
        raise RefusedError("there are no outcomes by tier, and no --tiers TIER=MODEL,... to tell tiers from models")
    runs = value.get("answers", value)
    return Line(prompt, kind, {tier: _correct(runs, model) for tier, model in wanted.models.items()}, {})


def _prompt(value: Mapping[str, Any]) -> str:
    """The prompt, or of messages what a head judges when it serves: the last user turn, with what it goes on with."""
    prompt = value.get("prompt")
    if prompt is None and isinstance(value.get("messages"), list):
        turns = [turn for turn in value["messages"] if isinstance(turn, dict) and isinstance(turn.get("role"), str)]
        prompt = judged_text(
            [
                Message.of(_ROLES[turn["role"]], _content(turn.get("content")) or "")
                for turn in turns
                if turn["role"] in _ROLES
            ]
        )
    if not isinstance(prompt, str) or not prompt.strip():
        raise RefusedError("there is no prompt, and no messages with a last user turn of text")
    return _text(prompt, "prompt")


def _text(text: str, name: str) -> str:
    """Text that can be written: half a surrogate pair, which JSON allows, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RefusedError(f"{name}: half a surrogate pair, which is no character") from None
    return text


def _plain(kind: str) -> str:
    """A kind of work as a label: short, and nothing in it that a terminal would obey or that cannot be written."""
    kept = kind[:KIND_CHARACTERS_MAX]
    return "".join(character if character.isprintable() else "?" for character in kept)


def _content(content: Any) -> str | None:
    """A turn's text: a string, or parts of which some are text."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else None


def _numbers(value: Any, name: str, tiers: Sequence[str], *, most: float) -> dict[str, float]:
    if not isinstance(value, dict):
        raise RefusedError(f"{name}: no object of tiers")
    found = {}
    for tier, number in value.items():
        if tier not in tiers:
            raise RefusedError(f"{name}: there is no tier {str(tier)[:80]!r}, only {', '.join(tiers)}")
        if number is None:
            continue
        if not isinstance(number, bool | int | float) or not 0.0 <= number <= most:
            raise RefusedError(f"{name}.{tier}: neither true, false nor a number from 0 to {most:,.0f}")
        found[tier] = float(number)
    return found


def _correct(runs: Any, model: str) -> float:
    answer = runs.get(model) if isinstance(runs, dict) else None
    correct = answer.get("correct") if isinstance(answer, dict) else answer
    if not isinstance(correct, bool | int | float) or not 0.0 <= correct <= 1.0:
        raise RefusedError(f"there is no outcome of model {model[:80]!r}")
    return float(correct)


def _record(value: Mapping[str, Any], wanted: Wanted) -> Line:
    """A decision record. Fields that it lacks are those that protobuf's JSON leaves out."""
    head = value.get("prompt_head") or ""
    if not isinstance(head, str):
        raise RefusedError("prompt_head: no text")
    attempts = value.get("attempts", [])
    if not isinstance(attempts, list) or not all(isinstance(attempt, dict) for attempt in attempts):
        raise RefusedError("attempts: no list of objects")
    whole = hashlib.sha256(head.encode("utf-8", "surrogatepass")).hexdigest() == value["prompt_sha256"]
    outcomes: dict[str, float] = {}
    costs: dict[str, float] = {}
    for attempt in attempts if wanted.outcomes else []:
        tier, purpose, outcome = (str(attempt.get(name) or "") for name in ("tier", "purpose", "outcome"))
        if tier not in wanted.tiers or purpose not in _ANSWERS or outcome not in _ANSWERED:
            continue
        said = _said(attempt.get("verdicts", []))
        if said is not None:
            # Two targets of a tier may have been tried; the later answer is the one that counted.
            outcomes[tier] = said
        cost = attempt.get("cost_nanousd", 0)
        if isinstance(cost, int | str) and str(cost).isdecimal():
            if len(str(cost)) > _COST_NANOUSD_DIGITS_MAX:
                raise RefusedError(f"cost_nanousd: more than {_COST_NANOUSD_DIGITS_MAX} digits")
            costs[tier] = int(cost) / 1e9
    return Line(
        _text(head, "prompt_head") if head.strip() else None,
        _kind(value),
        outcomes,
        costs,
        cut=bool(head) and not whole,
    )


def _kind(value: Mapping[str, Any]) -> str:
    routing = value.get("routing")
    judged = routing.get("classification") if isinstance(routing, dict) else None
    name = judged.get("task_type") if isinstance(judged, dict) else None
    return _plain(name.removeprefix("TASK_TYPE_").lower()) if isinstance(name, str) else OTHER


def _said(verdicts: Any) -> float | None:
    """1 for a good answer, 0 for a bad one, None when no gate could tell."""
    if not isinstance(verdicts, list) or not all(isinstance(verdict, dict) for verdict in verdicts):
        raise RefusedError("verdicts: no list of objects")
    found = [
        (str(verdict.get("gate")), _VERDICTS[str(verdict.get("verdict"))])
        for verdict in verdicts
        if str(verdict.get("verdict")) in _VERDICTS
    ]
    said = proves(found)
    return None if said is None else float(said)
