"""The gate on the model's own word: "CONFIDENCE: N", 1 to 5, asked for in the prompt and taken out of the answer.

Promises: pure. A missing number counts as 1. The scores are priors that have not been calibrated, chosen so that the
default threshold (3) and the default least confidence (0.80) say the same.
"""

from __future__ import annotations

import re
from typing import Final

from spillway.routing import GateVerdict, SelfConfidenceSpec, Verdict

__all__ = ["GATE", "INSTRUCTION", "check", "is_line", "strip", "tail_start"]

GATE: Final = "self_confidence"
INSTRUCTION: Final = (
    "End your answer with one line of its own: CONFIDENCE: N\n"
    "N is 1 to 5: how sure you are that the answer is right and complete (1 guess, 5 certain)."
)
_SCORES: Final = {1: 0.2, 2: 0.5, 3: 0.8, 4: 0.9, 5: 0.97}
_MISSING: Final = 1
_MARKS: Final = r"[ \t\r*_`#>~\[\]()\"'-]{0,12}"  # bounded, so that the patterns stay linear on any text
_NUMBER: Final = (
    rf"CONFIDENCE(?:[ \t]+(?:LEVEL|SCORE|RATING))?{_MARKS}[:=\uFF1A]{_MARKS}([1-5])(?![\d.%])"
    rf"(?:[ \t]*(?:/|out of|of)[ \t]*5)?{_MARKS}\.?{_MARKS}"
)
_LINE: Final = re.compile(rf"^{_MARKS}{_NUMBER}$\n?", re.MULTILINE | re.IGNORECASE)
# At the end of a line that says something else: only in capitals, as asked; "his confidence: 3" is prose.
_TAIL: Final = re.compile(rf"[ \t*_`#>(\[]{{0,12}}\b{_NUMBER}$".replace("CONFIDENCE", "(?-i:CONFIDENCE)"), re.MULTILINE)


def strip(text: str) -> tuple[str, int | None]:
    """The text without its confidence lines, and the last number said (1 to 5), or None when there was none."""
    said: list[tuple[int, int]] = []

    def take(match: re.Match[str]) -> str:
        said.append((match.start(), int(match.group(1))))
        return ""

    rest = _LINE.sub(take, text)
    if not said:
        rest = _TAIL.sub(take, rest)
    if not said:
        return text, None
    rest = re.sub(r"\n?[ \t]*```[a-z]*[ \t]*\n?[ \t]*```[ \t]*\Z", "", rest.rstrip())  # a fence around the line alone
    return rest.strip(), said[-1][1]


def is_line(line: str) -> bool:
    """Whether a line, without its end, says the confidence and nothing else."""
    return _LINE.fullmatch(line) is not None


def tail_start(line: str, start: int) -> int | None:
    """Where, at or after `start`, the confidence begins that ends a line which says something else; None: nowhere."""
    match = _TAIL.search(line, start)
    return match.start() if match else None


def check(said: int | None, spec: SelfConfidenceSpec) -> GateVerdict:
    """PASS when the number reached the threshold."""
    value = _MISSING if said is None else said
    return GateVerdict(
        gate=GATE,
        verdict=Verdict.PASS if value >= spec.threshold else Verdict.FAIL,
        reason=f"confidence {value} of 5, at least {spec.threshold} needed"
        if said is not None
        else f"no confidence given, which counts as {_MISSING}",
        score=_SCORES[value],
    )
