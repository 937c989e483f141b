"""What types alone cannot say about gates: targets that exist, expressions that compile, ranges."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from spillway.configuration.document import Document, Place
from spillway.configuration.raw_data import check_order, items, known, strings
from spillway.patterns import PatternError, compile_pattern

__all__ = ["check_gates"]


def check_gates(
    document: Document, place: Place, gates: Any, targets: Collection[str], own: Collection[str] | None = None
) -> None:
    """Adds what is wrong. Opinions are asked of `own` targets, those of the gates' tier; where it is None, of any."""
    asked, kind = (targets, "target") if own is None else (own, "target in this tier called")
    for gate_place, gate in items(gates, place):
        if gate.get("kind") == "agreement":
            known(document, (*gate_place, "second_target"), gate.get("second_target"), asked, kind)
            for further_place, further in strings(gate.get("further_targets"), (*gate_place, "further_targets")):
                known(document, further_place, further, asked, kind)
        elif gate.get("kind") in {"self_evaluation", "judge"}:
            known(document, (*gate_place, "target"), gate.get("target"), targets, "target")
        elif gate.get("kind") == "rules":
            _check_rules_gate(document, gate_place, gate)


def _check_rules_gate(document: Document, place: Place, gate: dict[str, Any]) -> None:
    for key in ("must_match", "must_not_match"):
        for pattern_place, pattern in strings(gate.get(key), (*place, key)):
            try:
                compile_pattern(pattern)
            except PatternError as error:
                why = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
                document.add(pattern_place, f"cannot be used as a regular expression ({why})")
    check_order(document, place, gate, "chars_min", "chars_max", zero_is_unlimited=True)
    check_order(document, place, gate, "number_min", "number_max")
