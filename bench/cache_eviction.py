"""LRU, SIEVE and GreedyDual-Size-Frequency on one replayed trace: hits, and what they saved.

    python -m bench.cache_eviction [--requests 200000] [--seeds 5]

The trace is drawn: questions by a Zipf law whose popular ones change slowly, answers with log-normal sizes and costs (a
cost goes with the size, and with which model answered: dear ones cost thirty times as much). Every policy sees the same
requests and has the same bytes: 2, 5, 10 and 20 % of what all distinct answers would take. Figures are means over the
seeds with their standard error.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from services.cache.store.eviction import Evictor

QUESTIONS: Final = 50_000
SHARES: Final = (0.02, 0.05, 0.10, 0.20)
ZIPF: Final = 0.9
DRIFT_PER_REQUEST: Final = 0.02
DEAR_SHARE: Final = 0.2
DEAR_FACTOR: Final = 30.0


class Policy(Protocol):
    """A cache of sizes."""

    def hit(self, key: int) -> bool: ...

    def add(self, key: int, size_bytes: int, cost_nanousd: int) -> None: ...


class Lru:
    def __init__(self, bytes_max: int) -> None:
        self._bytes_max, self._bytes = bytes_max, 0
        self._sizes: OrderedDict[int, int] = OrderedDict()

    def hit(self, key: int) -> bool:
        if key not in self._sizes:
            return False
        self._sizes.move_to_end(key)
        return True

    def add(self, key: int, size_bytes: int, cost_nanousd: int) -> None:
        while self._sizes and self._bytes + size_bytes > self._bytes_max:
            self._bytes -= self._sizes.popitem(last=False)[1]
        self._sizes[key] = size_bytes
        self._bytes += size_bytes


class Sieve:
    """Zhang and others, NSDI 2024: a queue, a bit for each entry, and a hand that clears bits until it finds none."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max, self._bytes = bytes_max, 0
        self._entries: OrderedDict[int, list[int]] = OrderedDict()  # the oldest first: size, visited
        self._hand: list[int] = []  # keys that the hand has still to pass, the oldest last

    def hit(self, key: int) -> bool:
        entry = self._entries.get(key)
        if entry is None:
            return False
        entry[1] = 1
        return True

    def add(self, key: int, size_bytes: int, cost_nanousd: int) -> None:
        while self._entries and self._bytes + size_bytes > self._bytes_max:
            if not self._hand:
                self._hand = list(reversed(self._entries))
            passed = self._hand.pop()
            entry = self._entries.get(passed)
            if entry is None:
                continue
            if entry[1]:
                entry[1] = 0
            else:
                self._bytes -= self._entries.pop(passed)[0]
        self._entries[key] = [size_bytes, 0]
        self._bytes += size_bytes


class Gdsf:
    """The product's own."""

    def __init__(self, bytes_max: int) -> None:
        self._evictor = Evictor(entries_max=10**9, tenant_entries_max=10**9, bytes_max=bytes_max)
        self._keys: set[str] = set()

    def hit(self, key: int) -> bool:
        if str(key) not in self._keys:
            return False
        self._evictor.use(str(key))
        return True

    def add(self, key: int, size_bytes: int, cost_nanousd: int) -> None:
        evicted = self._evictor.add(str(key), tenant="", size_bytes=size_bytes, cost_nanousd=cost_nanousd)
        self._keys.difference_update(evicted)
        self._keys.add(str(key))


POLICIES: Final[dict[str, Callable[[int], Policy]]] = {"LRU": Lru, "SIEVE": Sieve, "GDSF": Gdsf}


@dataclass(frozen=True, slots=True)
class Trace:
    requests: list[int]
    sizes: list[int]
    costs: list[int]


def draw(requests: int, seed: int) -> Trace:
    rng = np.random.default_rng(seed)
    ranks = np.arange(1, QUESTIONS + 1) ** -ZIPF
    drawn = rng.choice(QUESTIONS, size=requests, p=ranks / ranks.sum())
    drifted = (drawn + (np.arange(requests) * DRIFT_PER_REQUEST).astype(int)) % QUESTIONS
    order = rng.permutation(QUESTIONS)
    sizes = 3_000 + rng.lognormal(7.0, 1.0, QUESTIONS)
    factor = np.where(rng.random(QUESTIONS) < DEAR_SHARE, DEAR_FACTOR, 1.0)
    costs = sizes * factor * rng.lognormal(0.0, 0.5, QUESTIONS) * 10
    return Trace(order[drifted].tolist(), sizes.astype(int).tolist(), costs.astype(int).tolist())


def replay(trace: Trace, policy: Policy) -> tuple[float, float]:
    """The share of requests that were hits, and of the cost that they saved."""
    hits = saved = total = 0
    for key in trace.requests:
        total += trace.costs[key]
        if policy.hit(key):
            hits += 1
            saved += trace.costs[key]
        else:
            policy.add(key, trace.sizes[key], trace.costs[key])
    return hits / len(trace.requests), saved / total


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cache_eviction")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    traces = [draw(arguments.requests, seed) for seed in range(arguments.seeds)]
    sys.stdout.write(f"{arguments.requests} requests, seeds 0 to {arguments.seeds - 1}\n")
    sys.stdout.write("room   policy   hits             cost saved\n")
    for share in SHARES:
        for name, policy in POLICIES.items():
            figures = [replay(trace, policy(int(share * sum(trace.sizes)))) for trace in traces]
            columns = "   ".join(with_error([figure[at] for figure in figures]) for at in (0, 1))
            sys.stdout.write(f"{share:4.0%}   {name:6}   {columns}\n")


def with_error(values: list[float]) -> str:
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {error:.3f}"


if __name__ == "__main__":
    main()
