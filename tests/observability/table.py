"""The table of docs/metrics.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
PROCESSES = ("orchestrator", "classifier", "cache", "executor", "ledger")
# What takes thousands of requests: shown by the same code in this process.
SELDOM = {
    "spillway_label_drift",
    "spillway_label_drift_state",
    "spillway_escalation_share",
    "spillway_escalation_share_state",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    otel: str
    name: str
    kind: str
    labels: frozenset[str]
    processes: frozenset[str]
    sometimes: frozenset[str]
    """Processes that show it only when there was occasion to: in brackets."""


def table() -> dict[str, Row]:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if re.match(r"\| `(rpc|spillway)\.", line)
    ]
    return {
        name.strip("`"): Row(
            otel.strip("`"),
            name.strip("`"),
            kind,
            frozenset(re.findall(r"`(\w+)`", labels)),
            frozenset(PROCESSES if of == "all" else re.findall(r"\w+", of.partition("(")[0])),
            frozenset(re.findall(r"\w+", of.partition("(")[2])),
        )
        for otel, name, kind, labels, of, _ in rows
    }
