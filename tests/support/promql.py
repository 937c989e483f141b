"""What a PromQL query names: enough of the language for our own rules and dashboards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Selector", "selectors"]

_STRING = r'"(?:[^"\\]|\\.)*"'
_SELECTOR = re.compile(rf"([a-zA-Z_:][\w:]*)\s*(\{{(?:[^{{}}\"]|{_STRING})*\}})?\s*(\(?)")
_MATCHER = re.compile(rf"(\w+)\s*(?:=~|!~|!=|=)\s*({_STRING})")
_CLAUSE = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_WORDS = {"and", "or", "unless", "bool", "offset", "group_left", "group_right", "inf", "nan"}


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric's name in a query, and the labels that are asked for with it."""

    name: str
    labels: frozenset[str]


def selectors(query: str) -> Iterator[Selector]:
    """Every metric that `query` names."""
    text = _RANGE.sub("", _CLAUSE.sub("", query))
    for match in _SELECTOR.finditer(text):
        name, matchers, opening = match.groups()
        is_number = re.fullmatch(r"e\d*", name) and text[: match.start()][-1:].isdigit()
        if opening or name.lower() in _WORDS or is_number:
            continue
        yield Selector(name, frozenset(label for label, _ in _MATCHER.findall(matchers or "")))


def grouped_by(query: str) -> frozenset[str]:
    """Every label that a clause of `query` names."""
    return frozenset(
        label.strip() for _, labels in _CLAUSE.findall(query) for label in labels.split(",") if label.strip()
    )
