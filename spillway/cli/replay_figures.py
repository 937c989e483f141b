"""The arithmetic of a replay: what routing got right and cost, against sending everything to the flagship.

Promises: pure. An answer counts as right only if it is the recorded text of the model that gave it and that model's
answer was right; an error counts as wrong and free. Intervals are at 95 %: Wilson's for a share, and for the difference
of two shares on the same prompts Newcombe's (`spillway.intervals`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spillway.cli.recording import RecordedRow
from spillway.intervals import Interval, paired_difference, wilson
from spillway.routing import CacheKind, Completion

__all__ = [
    "MIX",
    "Figures",
    "Result",
    "figures",
    "figures_by_task",
    "judged",
]

MIX = "mix"


@dataclass(frozen=True, slots=True)
class Result:
    """One prompt's outcome. With an `error` (a reason) there was no answer."""

    row_id: str
    task: str
    correct: bool
    latency_s: float
    cost_nanousd: int = 0
    flagship_cost_nanousd: int = 0
    model: str = ""
    tier: str = ""
    accepted: bool = False
    mismatch: bool = False
    escalations: int = 0
    fallbacks: int = 0
    hit: bool = False
    trace_id: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a task's prompts came to. Without a baseline pass its accuracy is None and its cost is the suite's estimate.

    `escalation_rate` is the share of prompts answered above the tier where they started, for quality;
    `accuracy_difference` is routed minus flagship.
    """

    task: str
    prompts: int
    accuracy: Interval
    flagship_accuracy: Interval | None
    accuracy_difference: Interval | None
    cost_nanousd: int
    flagship_cost_nanousd: int
    savings: float | None
    tier_mix: Mapping[str, int]
    escalation_rate: float
    fallbacks: int
    cache_hits: int
    unproven: int
    mismatches: int
    errors: Mapping[str, int]
    flagship_errors: int
    latency_p50_s: float
    latency_p95_s: float


def judged(row: RecordedRow, completion: Completion, latency_s: float) -> Result:
    """The outcome of an answered prompt. Texts are compared without the white space around them, as gates strip it."""
    recorded = row.answers.get(completion.model)
    same = recorded is not None and recorded.text.strip() == completion.text.strip()
    return Result(
        row_id=row.row_id,
        task=row.task,
        correct=same and recorded is not None and recorded.correct,
        latency_s=latency_s,
        cost_nanousd=completion.cost.cost_nanousd,
        flagship_cost_nanousd=completion.cost.flagship_cost_nanousd,
        model=completion.model,
        tier=completion.tier,
        accepted=completion.accepted,
        mismatch=not same,
        escalations=completion.escalations,
        fallbacks=completion.fallbacks,
        hit=completion.cache.kind in {CacheKind.EXACT_HIT, CacheKind.SEMANTIC_HIT},
        trace_id=completion.trace_id,
    )


def figures_by_task(routed: Sequence[Result], flagship: Sequence[Result] | None) -> tuple[Figures, ...]:
    """The figures of each task, in the order of their first prompt, and of all prompts together."""
    tasks = list(dict.fromkeys(result.task for result in routed))
    parts = [
        figures(
            task,
            [result for result in routed if result.task == task],
            None if flagship is None else [result for result in flagship if result.task == task],
        )
        for task in tasks
    ]
    return (*parts, figures(MIX, routed, flagship))


def figures(task: str, routed: Sequence[Result], flagship: Sequence[Result] | None) -> Figures:
    """The figures of prompts that were routed and, when given, sent to the flagship, in the same order.

    `routed` is not empty. A prompt whose flagship call failed costs nothing there, which makes the flagship look
    cheaper than it is: the savings are then understated.
    """
    count = len(routed)
    latencies = sorted(result.latency_s for result in routed)
    cost = sum(result.cost_nanousd for result in routed)
    estimated = sum(result.flagship_cost_nanousd for result in routed)
    flagship_cost = estimated if flagship is None else sum(result.cost_nanousd for result in flagship)
    return Figures(
        task=task,
        prompts=count,
        accuracy=_share(routed),
        flagship_accuracy=None if flagship is None else _share(flagship),
        accuracy_difference=None if flagship is None else _difference(routed, flagship),
        cost_nanousd=cost,
        flagship_cost_nanousd=flagship_cost,
        savings=1 - cost / flagship_cost if flagship_cost else None,
        tier_mix=dict(Counter(result.tier for result in routed if result.tier).most_common()),
        escalation_rate=sum(result.escalations > 0 for result in routed) / count,
        fallbacks=sum(result.fallbacks for result in routed),
        cache_hits=sum(result.hit for result in routed),
        unproven=sum(not result.accepted and not result.error for result in routed),
        mismatches=sum(result.mismatch for result in routed),
        errors=dict(Counter(result.error for result in routed if result.error).most_common()),
        flagship_errors=0 if flagship is None else sum(bool(result.error) for result in flagship),
        latency_p50_s=_quantile(latencies, 0.50),
        latency_p95_s=_quantile(latencies, 0.95),
    )


def _share(results: Sequence[Result]) -> Interval:
    return wilson(sum(result.correct for result in results), len(results))


def _difference(routed: Sequence[Result], flagship: Sequence[Result]) -> Interval:
    pairs = Counter((ours.correct, theirs.correct) for ours, theirs in zip(routed, flagship, strict=True))
    return paired_difference(pairs[True, True], pairs[True, False], pairs[False, True], pairs[False, False])


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The nearest rank."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
