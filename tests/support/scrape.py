"""What processes show to Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Family", "families", "scrape"]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric of one process. `name` is what a query names, less the suffixes of a histogram."""

    name: str
    kind: str
    labels: frozenset[str]
    values: tuple[tuple[dict[str, str], float], ...]


def families(text: str) -> dict[str, Family]:
    """By name. The info about the process itself is left out."""
    found: dict[str, Family] = {}
    for family in text_string_to_metric_families(text):
        if family.name == "target" or family.name.startswith("target_"):
            continue
        name = family.name + "_total" if family.type == "counter" else family.name
        labels = frozenset(label for sample in family.samples for label in sample.labels if label != "le")
        values = tuple((dict(sample.labels), sample.value) for sample in family.samples)
        found[name] = Family(name, family.type, labels, values)
    return found


def scrape(addresses: Iterable[tuple[str, str]]) -> dict[str, dict[str, Family]]:
    """(process, host:port) of each -> its metrics."""
    return {
        process: families(httpx.get(f"http://{listen}/metrics", timeout=20, trust_env=False).raise_for_status().text)
        for process, listen in addresses
    }
