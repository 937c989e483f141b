"""How soon a drop of quality raises the canary's alarm on recorded answers, and how often it is raised without one.

    python -m lab.canary_trial FILE... [--cheap M] [--second M] [--flagship M] [--seeds N] [--grades N]

The questions are those on which two cheap models agree (the executor's agreement gate), that is those that would be
accepted below the flagship; a drop is the flagship's correctness less the cheap answer's. Each seed draws a stream of
questions with replacement and is tested after every grade, as the orchestrator does it: for all kinds of work together
and for each one. What is planted: in each kind of work answers are made wrong (or right) at random until the true mean
drop is what the world says. Nothing is fitted, so there is nothing to hold out.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lab.answer_table import PRICES, build
from lab.recorded import RecordError, read_lines, recorded
from services.orchestrator.canary.drift import (
    BLOCK_GRADES,
    BLOCKS_KEPT,
    OVERALL,
    STAKES,
    UNITS,
    evidence_min,
)
from spillway.intervals import wilson
from spillway.routing import TaskType

__all__ = ["Answers", "World", "alarms", "first_alarms", "main"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Judge = Callable[[npt.NDArray[np.bool_], npt.NDArray[np.bool_], np.random.Generator], Ints]

DROP_MAX: Final = 0.03
FALSE_ALARM_MAX: Final = 0.05
CHUNK: Final = 250  # streams that are drawn and tested at once


@dataclass(frozen=True, slots=True)
class Answers:
    """Of n questions: the kind of work, and whether the cheap answer and the flagship's are right."""

    kinds: tuple[TaskType, ...]
    cheap: npt.NDArray[np.bool_]
    flagship: npt.NDArray[np.bool_]

    def drop(self, kind: TaskType | None = None) -> float:
        """The mean drop, of all or of one kind of work."""
        rows = self.rows(kind)
        return float(self.flagship[rows].mean() - self.cheap[rows].mean())

    def rows(self, kind: TaskType | None) -> Ints:
        """Where the questions of a kind stand."""
        return np.flatnonzero([kind is None or each is kind for each in self.kinds])

    def flips(self, drop: float | None) -> Floats:
        """The chance to flip each cheap answer's rightness, so that each kind of work drops by `drop`."""
        chances = np.zeros(len(self.kinds))
        for kind in set(self.kinds) if drop is not None else ():
            rows, more = self.rows(kind), (drop or 0.0) - self.drop(kind)
            moved = rows[self.cheap[rows] == (more > 0)]
            chances[moved] = abs(more) * len(rows) / len(moved)
        return chances


@dataclass(frozen=True, slots=True)
class World:
    """`drop` is the true mean drop in every kind of work, None for what was recorded; none before the grade `since`."""

    name: str
    drop: float | None
    judge: Judge
    since: int = 0


def exact(cheap: npt.NDArray[np.bool_], flagship: npt.NDArray[np.bool_], _: np.random.Generator) -> Ints:
    """Grades are 1 for right and 0 for wrong."""
    return UNITS * (flagship.astype(np.int64) - cheap.astype(np.int64))


def noisy(misread: float, right: tuple[int, int], wrong: tuple[int, int]) -> Judge:
    """A judge that misreads an answer in `misread` of its looks and gives tenths from within two ranges; the answer
    that it sees first gets a tenth more in half of the cases. Two looks, with the places exchanged."""

    def graded(cheap: npt.NDArray[np.bool_], flagship: npt.NDArray[np.bool_], random: np.random.Generator) -> Ints:
        total = np.zeros(cheap.shape, dtype=np.int64)
        for first in (cheap, flagship):
            for answer, sign in ((flagship, 1), (cheap, -1)):
                seen = answer ^ (random.random(answer.shape) < misread)
                high = random.integers(*right, size=answer.shape, endpoint=True)
                low = random.integers(*wrong, size=answer.shape, endpoint=True)
                bonus = (random.random(answer.shape) < 0.5) & (answer is first)
                total += sign * np.minimum(np.where(seen, high, low) + bonus, UNITS // 2)
        return total

    return graded


def first_alarms(drops: Ints, lengths: Ints, drop_max: float, enough: float) -> Ints:
    """After how many grades each row's test alarms; 0 for never. `drops` [S, n] in 1 / UNITS; a row ends at its length.

    The same test as `services.orchestrator.canary.drift`, of many streams at once.
    """
    streams, grades = drops.shape
    starts = -(-grades // BLOCK_GRADES)
    prior = np.array([0.5, *(0.5 / (index * (index + 1)) for index in range(1, starts))])
    shares = (np.arange(-UNITS, UNITS + 1) / UNITS - drop_max) / (1 + drop_max)
    growth = 1 + shares[:, None] * np.asarray(STAKES)
    won = np.ones((streams, starts, len(STAKES)))
    found = np.zeros(streams, dtype=np.int64)
    going = np.arange(streams)
    for grade in range(grades):
        going = going[lengths[going] > grade]
        if not len(going):
            break
        block = grade // BLOCK_GRADES
        oldest = max(1, block - BLOCKS_KEPT + 1)
        factor = growth[drops[going, grade] + UNITS]
        won[going, 0] *= factor
        wealth = prior[0] * won[going, 0].mean(axis=1) + 0.5 / (block + 1)
        if block >= 1:
            won[going, oldest : block + 1] *= factor[:, None]
            wealth += won[going, oldest : block + 1].mean(axis=2) @ prior[oldest : block + 1]
        raised = wealth >= math.exp(enough)
        found[going[raised]] = grade + 1
        going = going[~raised]
    return found


def alarms(answers: Answers, world: World, *, seeds: int, grades: int, seed: int) -> Ints:
    """After how many grades, of all kinds together, the first alarm of any test comes in each stream; 0: never."""
    random = np.random.default_rng(seed)
    drawn = random.integers(len(answers.kinds), size=(seeds, grades))
    late = np.arange(grades) >= world.since
    chances = np.where(late, answers.flips(world.drop)[drawn], answers.flips(0.0 if world.since else world.drop)[drawn])
    cheap = answers.cheap[drawn] ^ (random.random(drawn.shape) < chances)
    drops = world.judge(cheap, answers.flagship[drawn], random)
    whole = np.full(seeds, grades)
    overall = first_alarms(drops, whole, DROP_MAX, evidence_min(OVERALL, FALSE_ALARM_MAX))
    first = np.where(overall == 0, grades + 1, overall)
    names = np.asarray([kind.value for kind in answers.kinds])[drawn]
    for kind in sorted({kind.value for kind in answers.kinds}):
        mine = names == kind
        lengths = mine.sum(axis=1)
        order = np.argsort(~mine, axis=1, kind="stable")[:, : lengths.max()]
        own = first_alarms(
            np.take_along_axis(drops, order, axis=1), lengths, DROP_MAX, evidence_min(kind, FALSE_ALARM_MAX)
        )
        place = np.take_along_axis(order, np.maximum(own - 1, 0)[:, None], axis=1)[:, 0] + 1
        first = np.minimum(first, np.where(own == 0, grades + 1, place))
    return np.where(first > grades, 0, first)


def accepted(files: Sequence[Path], cheap: str, second: str, flagship: str) -> Answers:
    """The questions on which the two cheap models agree. Raises RecordError and OSError."""
    table = build(recorded(read_lines(files)), [cheap, second, flagship])
    rows = np.flatnonzero(table.agrees[:, 0, 1] == 1)
    kinds = tuple(table.task_types[row] or TaskType.OTHER for row in rows)
    return Answers(kinds, table.correct[rows, 0], table.correct[rows, 2])


def _quantile(values: Ints, share: float, grades: int) -> str:
    """After how many grades `share` of the seeds have alarmed, with the 95 % interval of the order statistic."""
    n = len(values)
    order = np.sort(np.where(values == 0, grades + 1, values))
    spread = 1.96 * math.sqrt(n * share * (1 - share))
    places = (share * n, share * n - spread, share * n + spread)
    value, low, high = (order[min(n - 1, max(0, math.ceil(each) - 1))] for each in places)
    shown = ["never" if each > grades else f"{each:,}" for each in (value, low, high)]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


WORLDS: Final = (
    World("no drop", 0.0, exact),
    World("drop 3 % (the limit)", 0.03, exact),
    World("as recorded", None, exact),
    World("drop 5 %", 0.05, exact),
    World("drop 10 %", 0.10, exact),
    World("drop 5 % after 5,000 grades", 0.05, exact, since=5_000),
    World("drop 10 % after 5,000 grades", 0.10, exact, since=5_000),
    World("no drop, judge misreads 5 %", 0.0, noisy(0.05, (10, 10), (0, 0))),
    World("drop 5 %, judge misreads 5 %", 0.05, noisy(0.05, (10, 10), (0, 0))),
    World("no drop, mild noisy judge", 0.0, noisy(0.05, (8, 10), (0, 4))),
    World("drop 5 %, mild noisy judge", 0.05, noisy(0.05, (8, 10), (0, 4))),
    World("drop 10 %, mild noisy judge", 0.10, noisy(0.05, (8, 10), (0, 4))),
)


def main(arguments: Sequence[str]) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m lab.canary_trial")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--cheap", default="gpt-4o-mini-2024-07-18", choices=sorted(PRICES))
    parser.add_argument("--second", default="Meta-Llama-3.1-70B-Instruct", choices=sorted(PRICES))
    parser.add_argument("--flagship", default="claude-3-5-sonnet-20241022", choices=sorted(PRICES))
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--grades", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=20_261)
    options = parser.parse_args(arguments)
    try:
        answers = accepted(options.files, options.cheap, options.second, options.flagship)
    except (RecordError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    write = sys.stdout.write
    write(f"{options.cheap}, accepted when {options.second} agrees, beside {options.flagship}\n")
    for kind in (None, *sorted(set(answers.kinds))):
        n = len(answers.rows(kind))
        write(f"  {kind.value if kind else 'all':8} {n:5} accepted, mean drop {100 * answers.drop(kind):+.2f} points\n")
    write(f"{options.seeds} seeds from {options.seed}, {options.grades:,} grades each, drop_max {DROP_MAX}, ")
    write(f"false_alarm_max {FALSE_ALARM_MAX}\n\n{'world':30} {'alarmed':>24}  grades until half, until 90 %\n")
    for number, world in enumerate(WORLDS):
        first = np.concatenate(
            [
                alarms(answers, world, seeds=min(CHUNK, options.seeds - at), grades=options.grades, seed=seed)
                for at in range(0, options.seeds, CHUNK)
                for seed in [options.seed + 100_000 * number + at]
            ]
        )
        write(_row(world, first, options.grades))
        sys.stdout.flush()
    return 0


def _row(world: World, first: Ints, grades: int) -> str:
    early = (first > 0) & (first <= world.since)
    after = np.where(first > 0, first - world.since, 0)[~early]
    count, left = int((after > 0).sum()), len(after)
    share = wilson(count, left)
    said = (
        f"{world.name:30} {count:5}/{left} {100 * count / left:5.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"
    )
    if world.drop is not None and world.drop > DROP_MAX:
        length = grades - world.since
        said += f"  {_quantile(after, 0.5, length)}, {_quantile(after, 0.9, length)}"
    return said + (f"; {early.sum()} before\n" if world.since else "\n")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
