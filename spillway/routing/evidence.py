"""What the verdicts of gates prove of an answer. Pure; the one rule for what is learnt while serving and from a log.

The composite gate's verdict decides, where it gave one; else any fail; else any pass of a gate that can tell a right
answer from a wrong one. That an answer was neither empty nor a refusal proves nothing, and neither does silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from spillway.routing.execution import Verdict

__all__ = ["proves"]

# Gates that see nothing of whether an answer is right.
_BLIND_GATES: Final = frozenset({"hard_failure"})
_DECIDING_GATE: Final = "composite"


def proves(verdicts: Iterable[tuple[str, Verdict]]) -> bool | None:
    """Of (gate, verdict): True for a good answer, False for a bad one, None when no gate could tell."""
    found = [(gate, verdict) for gate, verdict in verdicts if verdict is not Verdict.ABSTAIN]
    if any(gate in _BLIND_GATES and verdict is Verdict.FAIL for gate, verdict in found):
        return False
    telling = [(gate, verdict) for gate, verdict in found if gate not in _BLIND_GATES]
    deciding = [verdict for gate, verdict in telling if gate == _DECIDING_GATE] or [verdict for _, verdict in telling]
    if Verdict.FAIL in deciding:
        return False
    return True if deciding else None
