"""What callers notice of the ledger: requests through the whole suite while it is well, killed, and frozen.

    python -m bench.ledger [--rounds 6] [--requests 200] [--callers 4] [--json FILE]

One suite of processes, as `spillway up` runs it, over the sandbox. In every round each state of the ledger gets the
same number of requests, none of which the cache knows, in an order that moves on from round to round; "well again" is a
second measurement of the healthy state, so that its ratio shows what noise alone does. Reported are p50 and p99 over
all requests, and the ratio of p99 to the healthy one's: the median over rounds, with a 95 % interval by the bootstrap
over rounds (seed 6). At the end the ledger, which is well again, must hold one decision for each request: none failed,
none was lost, since the queue had room for all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from spillway.client import AsyncClient
from spillway.errors import RequestError
from tests.support.suite import Suite

HEALTHY: Final = "well"
STATES: Final = (HEALTHY, "well again", "killed", "frozen")
BOOTSTRAPS: Final = 2_000
SEED: Final = 6
# The reporter asks a ledger that was away after ten seconds at the latest.
CATCH_UP_S: Final = 60.0


@dataclass(slots=True)
class Measured:
    """Of one state: latencies in milliseconds, one list a round, and how many requests failed."""

    latencies_ms: list[list[float]] = field(default_factory=list)
    failed: int = 0

    @property
    def all_ms(self) -> list[float]:
        return [each for one in self.latencies_ms for each in one]


@dataclass(frozen=True, slots=True)
class Row:
    """One state's figures. `ratio` is of its p99 to the healthy state's, round by round."""

    state: str
    requests: int
    failed: int
    p50_ms: float
    p99_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def ask(target: str, name: str, *, requests: int, callers: int) -> tuple[list[float], int]:
    """Latencies in milliseconds of requests that are new to the suite, and how many failed."""
    latencies: list[float] = []
    failed = 0
    numbers = iter(range(requests))

    async def call(client: AsyncClient) -> None:
        nonlocal failed
        for number in numbers:
            started = time.perf_counter()
            try:
                await client.complete(f"Which river flows through the village {name}-{number}?")
            except RequestError:
                failed += 1
            latencies.append((time.perf_counter() - started) * 1_000)

    async with AsyncClient(target, timeout_s=60) as client:
        await asyncio.gather(*(call(client) for _ in range(callers)))
    return latencies, failed


def begin(suite: Suite, state: str) -> None:
    """Brings the ledger into the state."""
    if state == "killed":
        suite.processes["ledger"].kill()
    elif state == "frozen":
        suite.processes["ledger"].signal(signal.SIGSTOP)


def end(suite: Suite, state: str) -> None:
    """Brings it back."""
    if state == "killed":
        suite.restart("ledger")
    elif state == "frozen":
        suite.processes["ledger"].signal(signal.SIGCONT)


def measure(suite: Suite, *, rounds: int, requests: int, callers: int) -> dict[str, Measured]:
    """All rounds."""
    found = {state: Measured() for state in STATES}
    asyncio.run(ask(suite.target, "warm", requests=requests, callers=callers))
    sent = requests
    for number in range(rounds):
        for place in range(len(STATES)):
            state = STATES[(place + number) % len(STATES)]
            begin(suite, state)
            try:
                name = f"{state}-{number}"
                latencies, failed = asyncio.run(ask(suite.target, name, requests=requests, callers=callers))
            finally:
                end(suite, state)
            found[state].latencies_ms.append(latencies)
            found[state].failed += failed
            sent += requests
            settle(suite, sent)  # what waited for the ledger is not the next state's to carry
    return found


def kept(suite: Suite) -> int:
    """How many decisions the ledger holds."""
    with sqlite3.connect(suite.folder / "ledger.sqlite") as session:
        return int(session.execute("SELECT count(*) FROM decisions").fetchone()[0])


def settle(suite: Suite, sent: int) -> None:
    """Waits until the ledger holds all that was sent; says so when it never does."""
    deadline = time.monotonic() + CATCH_UP_S
    while kept(suite) < sent:
        if time.monotonic() > deadline:
            sys.exit(f"the ledger holds {kept(suite)} decisions of {sent} requests")
        time.sleep(0.1)


def row(state: str, measured: Measured, healthy: Measured) -> Row:
    """The figures of one state."""
    ratios = [
        quantile(one, 0.99) / quantile(base, 0.99)
        for one, base in zip(measured.latencies_ms, healthy.latencies_ms, strict=True)
    ]
    chance = random.Random(SEED)
    drawn = [statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(BOOTSTRAPS)]
    return Row(
        state=state,
        requests=len(measured.all_ms),
        failed=measured.failed,
        p50_ms=quantile(measured.all_ms, 0.5),
        p99_ms=quantile(measured.all_ms, 0.99),
        ratio=statistics.median(ratios),
        ratio_low=quantile(drawn, 0.025),
        ratio_high=quantile(drawn, 0.975),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--requests", type=int, default=200, help="of each state in each round")
    parser.add_argument("--callers", type=int, default=4)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spillway-bench-") as folder, Suite(Path(folder), ledger=True) as suite:
        found = measure(suite, rounds=options.rounds, requests=options.requests, callers=options.callers)
        total = kept(suite)
    rows = [row(state, found[state], found[HEALTHY]) for state in STATES]
    sys.stdout.write(
        f"{options.rounds} rounds of {options.requests} requests, {options.callers} callers, {os.cpu_count()} CPUs, "
        f"load {os.getloadavg()[0]:.1f}\n"
        f"{'ledger':<11} {'requests':>8} {'failed':>6} {'p50 ms':>7} {'p99 ms':>7} {'p99 / well (95 %)':>20}\n"
    )
    for each in rows:
        interval = f"{each.ratio:.2f} ({each.ratio_low:.2f} to {each.ratio_high:.2f})"
        sys.stdout.write(
            f"{each.state:<11} {each.requests:>8} {each.failed:>6} {each.p50_ms:>7.1f} {each.p99_ms:>7.1f} "
            f"{interval:>20}\n"
        )
    sent = options.requests * (1 + options.rounds * len(STATES))
    sys.stdout.write(f"decisions in the ledger at the end: {total} of {sent} requests\n")
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
