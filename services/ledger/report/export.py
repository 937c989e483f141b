"""A report as rows of (section, name, measure, value, low, high), for CSV, JSON and Parquet.

Promises: all three hold the same rows; money is in US dollars, times in seconds, shares in [0, 1]; a value that does
not exist has no row, and an interval that says nothing no bounds: every number is finite. In CSV a name that a
spreadsheet would take for a formula has an apostrophe before it. A file appears whole or not at all.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from services.ledger.report.figures import Report, TierFigures
from services.ledger.report.names import cell
from services.ledger.report.tallies import Group, Latency
from spillway.intervals import Interval

__all__ = ["FORMATS", "Measure", "export", "measures"]

_NANO: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure; `low` and `high` are its 95 % interval, where it has one."""

    section: str
    name: str
    measure: str
    value: float
    low: float | None = None
    high: float | None = None


def measures(report: Report) -> tuple[Measure, ...]:
    """The figures of a report, in the order of its sections."""
    return tuple(_measures(report))


def export(report: Report, path: Path) -> None:
    """Writes the rows; the ending of the file says how (.csv, .json, .parquet). Raises ValueError for another one."""
    write = FORMATS.get(path.suffix)
    if write is None:
        raise ValueError(f"{path}: the ending must be one of {', '.join(FORMATS)}")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(measures(report), unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _measures(report: Report) -> Iterator[Measure]:
    for group in (*((report.all,) if report.all else ()), *report.groups, *report.days):
        yield from _of(group, group.kind, group.name)
    for tier in report.tiers:
        yield from _of(tier, "tier", tier.tier)
    for hop, latency in report.hops.items():
        yield from _of(latency, "hop", hop)
    for section, counts in (
        ("policy step", report.policy_steps),
        ("drift", report.drift),
        ("feedback", report.feedback),
        ("confidence bin", {str(i): count for i, count in enumerate(report.confidence_counts)}),
    ):
        for name, count in counts.items():
            yield Measure(section, name, "psi" if section == "drift" else "count", float(count))
    for name, value in (
        ("gates_cost_usd", report.gates_cost_nanousd * _NANO),
        ("canary_cost_usd", report.canary_cost_nanousd * _NANO),
        ("audits_cost_usd", report.audits_cost_nanousd * _NANO),
        ("canary_grades", report.canary_grades),
        ("cost_unknown", report.cost_unknown),
        ("calls_bounded", report.calls_bounded),
    ):
        yield Measure("all", "all", name, float(value))


def _of(value: Group | TierFigures | Latency, section: str, name: str) -> Iterator[Measure]:
    for field in fields(value):
        found: Any = getattr(value, field.name)
        measure = field.name
        if isinstance(found, Interval):
            yield Measure(section, name, measure, found.value, _finite(found.low), _finite(found.high))
        elif isinstance(found, Latency):
            yield from (each for each in _of(found, section, name) if each.measure != "count")
        elif isinstance(found, int | float):
            if measure.endswith("_nanousd"):
                yield Measure(section, name, measure.removesuffix("_nanousd") + "_usd", found * _NANO)
            else:
                yield Measure(section, name, measure, float(found))


def _write_csv(rows: tuple[Measure, ...], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Measure)])
        for row in rows:
            writer.writerow([cell(each) if isinstance(each, str) else each for each in _row(row).values()])


def _write_json(rows: tuple[Measure, ...], path: Path) -> None:
    path.write_text(json.dumps([_row(row) for row in rows], indent=1, ensure_ascii=False), encoding="utf-8")


def _write_parquet(rows: tuple[Measure, ...], path: Path) -> None:
    import pyarrow as pa  # noqa: PLC0415 - only this format needs it
    from pyarrow import parquet  # noqa: PLC0415

    text, number = pa.string(), pa.float64()
    schema = pa.schema(
        [(field.name, text if field.name in {"section", "name", "measure"} else number) for field in fields(Measure)]
    )
    parquet.write_table(pa.Table.from_pylist([_row(row) for row in rows], schema=schema), path)


def _row(row: Measure) -> dict[str, str | float | None]:
    return {field.name: getattr(row, field.name) for field in fields(Measure)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


FORMATS: Final[dict[str, Callable[[tuple[Measure, ...], Path], None]]] = {
    ".csv": _write_csv,
    ".json": _write_json,
    ".parquet": _write_parquet,
}
