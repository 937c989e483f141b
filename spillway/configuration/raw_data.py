"""Finding one's way in the data of a configuration file, whatever shape it has.

Promises: what is not of the shape that is looked for is passed over; its errors of type are somebody else's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from spillway.configuration.document import Document, Place

__all__ = ["check_order", "check_unique", "items", "known", "mapping", "strings", "targets_of", "text"]


def mapping(value: Any) -> dict[str, Any]:
    """The mapping, or an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any, place: Place) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The mappings in a list, with their places."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            if isinstance(item, dict):
                yield (*place, i), item


def strings(value: Any, place: Place) -> Iterator[tuple[Place, str]]:
    """The texts in a list, with their places."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            if isinstance(item, str):
                yield (*place, i), item


def text(value: Any) -> str:
    """The text, or an empty one."""
    return value if isinstance(value, str) else ""


def targets_of(tiers: list[tuple[Place, dict[str, Any]]]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The targets of all tiers."""
    for place, tier in tiers:
        yield from items(tier.get("targets"), (*place, "targets"))


def known(document: Document, place: Place, value: Any, names: Collection[str], kind: str) -> None:
    """Adds a problem when `value` is a name that does not exist; empty means the default."""
    if isinstance(value, str) and value and value not in names:
        document.add(place, f"there is no {kind} {value!r}")


def check_unique(document: Document, named: Iterator[tuple[Place, dict[str, Any]]], kind: str) -> None:
    """Adds a problem for each name that was there before."""
    first: dict[str, int] = {}
    for place, item in named:
        name = text(item.get("name"))
        if name in first:
            document.add((*place, "name"), f"is the name of another {kind} too, in line {first[name]}")
        elif name:
            first[name] = document.line((*place, "name"))


def check_order(
    document: Document, place: Place, item: dict[str, Any], low: str, high: str, *, zero_is_unlimited: bool = False
) -> None:
    """Adds a problem when the most is below the least."""
    least, most = item.get(low), item.get(high)
    if not isinstance(least, int | float) or not isinstance(most, int | float) or (zero_is_unlimited and most == 0):
        return
    if least > most:
        document.add((*place, high), f"is below {low}")
