"""In which order the targets of a tier are asked.

Promises: pure; randomness is passed in. Every target is in the result once: what is behind the first is where a request
falls back to. Three ways:

    order         as listed
    weighted      by chance, each first in proportion to its weight, and the same among the rest
    least_loaded  the better of two picked by chance is first, the rest follow from the best on

Two choices instead of the best of all, so that many executors that know the same do not all choose the same
(Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing"). Better is: less expected time until an answer,
(calls under way + 1) x average latency / share of calls that succeed. Dividing by the successes keeps a target that
fails fast from looking fast. A latency that is not known yet counts as the least known one, so a new target is tried.

Slow start: a target that is back from an outage is asked first with a chance that grows from `SHARE_MIN` to 1 over the
configured time; otherwise it goes behind those that are well, whichever way they are ordered. Targets with an open
breaker come last, except in `order`, where they are passed over in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["SHARE_MIN", "Balance", "Candidate", "arrange", "slow_start_share"]

Balance = Literal["order", "weighted", "least_loaded"]
Random = Callable[[], float]

SHARE_MIN: Final = 0.1  # of a target that has just come back: enough to learn from
_SUCCESSES_MIN: Final = 0.1
_LATENCY_UNKNOWN_S: Final = 1.0  # of all of them: then only the calls under way count


@dataclass(frozen=True, slots=True)
class Candidate:
    """A target as the balancer sees it. `share` is 1 except in slow start; `latency_s` is None while unknown."""

    name: str
    weight: float = 1.0
    share: float = 1.0
    is_open: bool = False
    in_flight: int = 0
    latency_s: float | None = None
    failure_ratio: float = 0.0


def slow_start_share(closed_for_s: float | None, slow_start_s: float) -> float:
    """The chance of a target to be asked first, `closed_for_s` after it came back (None: it was never away)."""
    if closed_for_s is None or closed_for_s >= slow_start_s:
        return 1.0
    return max(SHARE_MIN, closed_for_s / slow_start_s)


def arrange(balance: Balance, candidates: Sequence[Candidate], random: Random) -> tuple[str, ...]:
    """The names in the order in which to ask. `random` gives floats in [0, 1)."""
    front: list[Candidate] = []
    recovering: list[Candidate] = []
    closed_off: list[Candidate] = []
    for one in candidates:
        if one.is_open and balance != "order":
            closed_off.append(one)
        elif one.share < 1.0 and random() >= one.share:
            recovering.append(one)
        else:
            front.append(one)
    if balance == "weighted":
        front = _by_weight(front, random)
    elif balance == "least_loaded":
        front = _by_load(front, random)
    return tuple(one.name for one in (*front, *recovering, *closed_off))


def _by_weight(candidates: Sequence[Candidate], random: Random) -> list[Candidate]:
    """A sample without replacement, by weight (Efraimidis and Spirakis: the order of u^(1/w))."""
    keys = {one.name: random() ** (1.0 / one.weight) for one in candidates}
    return sorted(candidates, key=lambda one: keys[one.name], reverse=True)


def _by_load(candidates: Sequence[Candidate], random: Random) -> list[Candidate]:
    if len(candidates) < 2:
        return list(candidates)
    known_s = [one.latency_s for one in candidates if one.latency_s is not None]
    unknown_s = min(known_s, default=_LATENCY_UNKNOWN_S)

    def expected_s(one: Candidate) -> float:
        latency_s = unknown_s if one.latency_s is None else one.latency_s
        return (one.in_flight + 1) * latency_s / max(1.0 - one.failure_ratio, _SUCCESSES_MIN)

    first = int(random() * len(candidates))
    second = (first + 1 + int(random() * (len(candidates) - 1))) % len(candidates)
    chosen = min(candidates[first], candidates[second], key=expected_s)
    return [chosen, *sorted((one for one in candidates if one is not chosen), key=expected_s)]
