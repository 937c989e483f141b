"""The gate of plain rules on the text: length, patterns, a code block, a citation, the language, a number's range.

Promises: pure and bounded in time. Patterns are those that `patterns` admits, and only the beginning of a long answer
is given to them (100,000 characters, for large patterns fewer; see there): what stands further behind is not found.
A pattern that is refused makes the gate abstain, and so does a language that cannot be told.

Reasons name the rule, never a pattern: they are told to the next model, and patterns are the operator's alone.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from services.executor.gates import canonical
from services.executor.gates.final_answer import final_answer, last_number
from spillway.language import is_written_in, without_code
from spillway.patterns import Pattern, PatternError, compile_pattern
from spillway.routing import GateVerdict, RulesSpec, Verdict

__all__ = ["GATE", "check"]

GATE: Final = "rules"
_CODE_BLOCK: Final = re.compile(r"^[ \t]{0,3}(```|~~~)", re.MULTILINE)
# "[1]", "[2, 5-7]", "[^1]"; "(Knuth, 1974)", "(Lamport et al. 1978, p. 5)", "[Gray 1981]"; a link or a DOI.
_CITATION: Final = re.compile(
    r"(?<![=\[(,])\[\^?\d{1,3}(?:\s?[,;–-]\s?\d{1,3}){0,10}\](?!\()"
    r"|[(\[](?:[^()\[\]\n]{0,120}[;,] )?[^\W\d_][^()\[\]\d\n]{1,80}[ ,]{1,2}(?:1[5-9]|20)\d\d[a-z]?"
    r"(?:[,;:][^()\[\]\n]{0,120})?[)\]]"
    r"|https?://[^\s/.]{1,253}\.\S|\bdoi:\s?10\.\d",
    re.IGNORECASE,
)


def check(text: str, spec: RulesSpec) -> GateVerdict:
    """PASS when every rule holds, else FAIL with the first that does not."""
    try:
        broken = _broken(text, spec)
    except PatternError as error:
        return GateVerdict(gate=GATE, verdict=Verdict.ABSTAIN, reason=f"a pattern cannot be used: {error}")
    if broken:
        return GateVerdict(gate=GATE, verdict=Verdict.FAIL, reason=broken)
    if spec.language:
        spoken = is_written_in(text, spec.language)
        if spoken is None:
            return GateVerdict(gate=GATE, verdict=Verdict.ABSTAIN, reason="the language cannot be told")
        if not spoken:
            return GateVerdict(gate=GATE, verdict=Verdict.FAIL, reason=f"not written in the language {spec.language}")
    return GateVerdict(gate=GATE, verdict=Verdict.PASS, reason="every rule holds")


def _broken(text: str, spec: RulesSpec) -> str:
    """The first rule that does not hold, in words; empty when all do."""
    chars = len(text.strip())
    if chars < spec.chars_min:
        return f"{chars} characters, at least {spec.chars_min} needed"
    if spec.chars_max and chars > spec.chars_max:
        return f"{chars} characters, at most {spec.chars_max} allowed"
    if spec.require_code_block and len(_CODE_BLOCK.findall(text)) < 2:
        return "no complete code block"
    if spec.require_citation and not _CITATION.search(without_code(text)):
        return "no citation"
    for index, pattern in enumerate(spec.must_match):
        if not _compiled(pattern).found_in(text):
            return f"must_match[{index}] is not found"
    for index, pattern in enumerate(spec.must_not_match):
        if _compiled(pattern).found_in(text):
            return f"must_not_match[{index}] is found"
    return _out_of_range(text, spec)


def _out_of_range(text: str, spec: RulesSpec) -> str:
    if spec.number_min is None and spec.number_max is None:
        return ""
    marked = final_answer(text)
    number = canonical.number(marked) if marked else None
    if number is None:
        written = last_number(text)
        number = canonical.number(written) if written else None
    if number is None:
        return "no number"
    if spec.number_min is not None and number.value < spec.number_min:
        return f"the number is below {spec.number_min:g}"
    if spec.number_max is not None and number.value > spec.number_max:
        return f"the number is above {spec.number_max:g}"
    return ""


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> Pattern:
    return compile_pattern(pattern)
