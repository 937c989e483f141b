"""The arithmetic of a replay: what routing got right and cost, against sending everything to the flagship.

Promises: pure. An answer counts as right only if it is the recorded text of the model that gave it and that model's
answer was right; an error counts as wrong and free. Intervals are at 95 %: Wilson's for a share, and for the difference
of two shares on the same prompts Newcombe's (1998, Statistics in Medicine 17:2635, method 10), which needs no
resampling and holds for small counts and shares near 0 and 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spillway.cli.recording import RecordedRow
from spillway.routing import CacheKind, Completion

__all__ = [
    "MIX",
    "Figures",
    "Interval",
    "Result",
    "figures",
    "figures_by_task",
    "judged",
    "paired_difference",
    "wilson",
]

MIX = "mix"
Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its bounds."""

    value: float
    low: float
    high: float


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


def wilson(successes: int, count: int) -> Interval:
    """A share with Wilson's score interval. `count` is above 0."""
    share = successes / count
    centre = share + Z * Z / (2 * count)
    half = Z * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    scale = 1 + Z * Z / count
    return Interval(share, max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale))


def paired_difference(both: int, first_only: int, second_only: int, neither: int) -> Interval:
    """First share minus second share over the same prompts, with Newcombe's interval (method 10)."""
    count = both + first_only + second_only + neither
    first, second = wilson(both + first_only, count), wilson(both + second_only, count)
    product = (both + first_only) * (second_only + neither) * (both + second_only) * (first_only + neither)
    association: float = both * neither - first_only * second_only
    if association > 0:  # the continuity correction that makes it method 10; without it the interval is too narrow
        association = max(0.0, association - count / 2)
    phi = association / math.sqrt(product) if product else 0.0
    difference = (first_only - second_only) / count

    def margin(own: float, other: float) -> float:
        return math.sqrt(max(0.0, own * own - 2 * phi * own * other + other * other))

    return Interval(
        difference,
        difference - margin(first.value - first.low, second.high - second.value),
        difference + margin(first.high - first.value, second.value - second.low),
    )


def _share(results: Sequence[Result]) -> Interval:
    return wilson(sum(result.correct for result in results), len(results))


def _difference(routed: Sequence[Result], flagship: Sequence[Result]) -> Interval:
    pairs = Counter((ours.correct, theirs.correct) for ours, theirs in zip(routed, flagship, strict=True))
    return paired_difference(pairs[True, True], pairs[True, False], pairs[False, True], pairs[False, False])


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The nearest rank."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
