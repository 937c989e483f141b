"""The gate on log-probabilities: how sure the model was of its words, as the provider reports it.

Promises: pure; linear in the tokens. Three figures, natural logarithms: the mean over all tokens, the least of any
token, and the mean over the tokens of the final answer. The least is of tokens with a letter or digit in them: between
two ways to set a comma any model hesitates. Abstains without log-probabilities, and when the answer's span is asked
for but not found. The score is exp(mean), of the span if there is one: a typical token's probability, not
the probability that the answer is right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.executor.gates.final_answer import final_answer
from spillway.routing import GateVerdict, LogprobSpec, Verdict

__all__ = ["GATE", "Figures", "check", "figures"]

GATE: Final = "logprob"
TOKENS_MAX: Final = 200_000
_FLOOR: Final = -100.0  # what a provider calls minus infinity


@dataclass(frozen=True, slots=True)
class Figures:
    """`span_mean` is None when the answer marks no final answer."""

    mean: float
    least: float
    span_mean: float | None = None


def figures(logprobs: Sequence[tuple[str, float]]) -> Figures | None:
    """The three figures; None without log-probabilities."""
    tokens = [(text, _clean(value)) for text, value in logprobs[:TOKENS_MAX]]
    if not tokens:
        return None
    telling = [value for text, value in tokens if any(char.isalnum() for char in text)]
    values = [value for _, value in tokens]
    return Figures(math.fsum(values) / len(values), min(telling or values), _span_mean(tokens))


def check(logprobs: Sequence[tuple[str, float]], spec: LogprobSpec) -> GateVerdict:
    """PASS when every figure that has a least value reaches it."""
    found = figures(logprobs)
    if found is None:
        return GateVerdict(GATE, Verdict.ABSTAIN, "the provider gave no log-probabilities")
    typical = found.mean if found.span_mean is None else found.span_mean
    score = math.exp(typical)
    bounds = (
        ("mean", found.mean, spec.mean_min),
        ("least", found.least, spec.least_min),
        ("mean of the final answer", found.span_mean, spec.span_mean_min),
    )
    for name, value, least in bounds:
        if least is not None and value is not None and value < least:
            return GateVerdict(GATE, Verdict.FAIL, f"{name} {value:.3f} is below {least:g}", score)
    if spec.span_mean_min is not None and found.span_mean is None:
        return GateVerdict(GATE, Verdict.ABSTAIN, "no final answer to take the log-probability of", score)
    return GateVerdict(GATE, Verdict.PASS, f"mean {found.mean:.3f}, least {found.least:.3f}", score)


def _clean(value: float) -> float:
    return _FLOOR if math.isnan(value) else min(0.0, max(_FLOOR, value))


def _span_mean(tokens: Sequence[tuple[str, float]]) -> float | None:
    """The mean over the tokens that the final answer, where it stands last, touches."""
    text = "".join(part for part, _ in tokens)
    marked = final_answer(text)
    start = text.rfind(marked) if marked else -1
    if not marked or start < 0:
        return None
    end = start + len(marked)
    values = []
    at = 0
    for part, value in tokens:
        if at < end and at + len(part) > start:
            values.append(value)
        at += len(part)
    return math.fsum(values) / len(values) if values else None
