r"""Whether two answers say the same: what turns a second answer into evidence.

Promises: pure, symmetric, total, linear in texts of which `CHARS_MAX` characters are read. "Same" and "different" are
said only where something speaks for it; everything else is unknown, and unknown teaches nothing. Looked at in this
order: the same text but for case, spaces and markup; a final answer that both mark (`"answer": ...`, `#### 42`,
`\boxed{...}`, "the answer is ..."), by value; JSON, by value; a yes against a no; short answers, by value; and prose,
by the figures, names of code and words that differ and, where there are embeddings, by their cosine. Without embeddings
prose is never called the same: of sentences that differ in what matters most share more words than paraphrases do.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from enum import StrEnum
from fractions import Fraction
from typing import Final

from services.cache.matching.lexicon import FUNCTION_WORDS, NEGATIONS
from services.cache.matching.reading import Reading, read

__all__ = ["CHARS_MAX", "SAME_COSINE_MIN", "Comparison", "compare", "compare_prose", "is_common_word"]

CHARS_MAX: Final = 8_000
"""Of the end of a longer text so many are read: conclusions stand there."""

READ_CHARS_MAX: Final = 3_000
"""Of prose so many characters are read word by word, a few milliseconds."""

SAME_COSINE_MIN: Final = 0.85
DIFFERENT_COSINE_MAX: Final = 0.55
"""Prose at least so near may be the same, and at most so near is different; between them it is unknown."""

SHORT_CHARS_MAX: Final = 80
SHARED_WORDS_MIN: Final = 0.15
"""Of the words of matter of the shorter text; prose that shares fewer says something else."""

WORDS_MIN: Final = 4
BRIEF_WORDS_MAX: Final = 40
FRAME_WORDS_MAX: Final = 16
"""In sentences up to so long, one word of matter in another's place makes another answer."""

_DIGITS_MAX: Final = 40

_MARKUP: Final = re.compile(r"```\w*|[*`#>]+|(?<!\w)_+|(?<!_)_+(?!\w)")
_FINAL: Final = re.compile(
    r'"(?:final_?)?answer"\s{0,8}:\s{0,8}(?P<json>"(?:[^"\\]|\\.){0,400}"|[^,}\n]{1,200})'
    r"|####[ \t]{0,8}(?P<hashes>[^\n]{1,200})"
    r"|\\boxed\s?\{(?P<boxed>[^{}]{1,200}(?:\{[^{}]{0,100}\}[^{}]{0,100}){0,4})\}"
    r"|\b(?:final |correct )?answer\s{1,4}is:?\s{1,4}(?P<said>[^\n]{1,200})",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(r"[$€£¥]?\s?([-+−]?)(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d+))?(?:/(\d+))?\s*(%?)")
_CHOICE: Final = re.compile(r"(?:option |choice |answer )?[(\[]?([a-j])[)\].:]?(?=\s|\Z)", re.IGNORECASE)
_POLAR: Final = {
    "yes": True, "yeah": True, "yep": True, "true": True, "correct": True,
    "no": False, "nope": False, "false": False, "incorrect": False,
}  # fmt: skip


class Comparison(StrEnum):
    """What is known of two answers."""

    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


def compare(one: str, other: str) -> Comparison:
    """Compares two answers to questions that may be the same, by their texts alone."""
    a, b = _folded(one), _folded(other)
    if not a or not b:
        return Comparison.UNKNOWN
    if a == b:
        return Comparison.SAME
    finals, documents = (_final(one), _final(other)), (_document(one), _document(other))
    if finals[0] is not None and finals[1] is not None:
        return _by_value(finals[0], finals[1])
    if documents[0] is not None and documents[1] is not None:
        return _said(documents[0] == documents[1])
    polar = _polarity(a), _polarity(b)
    if polar[0] is not None and polar[1] is not None and polar[0] != polar[1]:
        return Comparison.DIFFERENT
    short = [final if final is not None else text for final, text in zip(finals, (a, b), strict=True)]
    if all(len(text) <= SHORT_CHARS_MAX and "\n" not in text for text in short):
        found = _by_value(_folded(short[0]), _folded(short[1]))
        if found is Comparison.SAME or all(_is_value(text) for text in short):
            return found
    return _by_words(*_readings(one, other))


def compare_prose(one: str, other: str, cosine: float) -> Comparison:
    """Compares what `compare` left unknown, by the cosine of the answers' embeddings, -1 to 1."""
    if not math.isfinite(cosine):
        return Comparison.UNKNOWN
    if cosine <= DIFFERENT_COSINE_MAX:
        return Comparison.DIFFERENT
    if cosine < SAME_COSINE_MIN:
        return Comparison.UNKNOWN
    a, b = _readings(one, other)
    differ = (
        _only(set(a.numbers), set(b.numbers)),
        _only(a.units, b.units),
        _only(set(a.code), set(b.code)),
        _only(a.names, b.names),
        _negations(a) != _negations(b),
    )
    return Comparison.UNKNOWN if any(differ) else Comparison.SAME


def is_common_word(answer: str) -> bool:
    """Whether the answer is one that many questions have which have nothing else in common: yes, a number, a letter."""
    folded = _folded(answer)
    return folded in _POLAR or _number(folded) is not None or _letter(folded) is not None


def _said(same: bool) -> Comparison:
    return Comparison.SAME if same else Comparison.DIFFERENT


def _folded(text: str) -> str:
    cleaned = _MARKUP.sub(" ", unicodedata.normalize("NFKC", text[-CHARS_MAX:])[-CHARS_MAX:]).casefold()
    return " ".join(cleaned.split()).strip(".,;:!?\"'“”‘’ ")


def _document(text: str) -> object | None:
    """The JSON object or list that the text is, with or without a fence around it, as text of one form."""
    bare = re.sub(r"\A```\w*\n|\n```\Z", "", text.strip()).strip()
    if bare[:1] not in "{[" or len(bare) > CHARS_MAX:
        return None
    try:
        return json.dumps(json.loads(bare), sort_keys=True)
    except (ValueError, RecursionError):
        return None


def _final(text: str) -> str | None:
    last = None
    for last in _FINAL.finditer(text[-CHARS_MAX:]):  # noqa: B007 - the last one is wanted
        pass
    if last is None:
        return None
    said = next(group for group in last.groups() if group is not None).strip()
    if last["said"] is not None:
        said = re.split(r"[.;](?:\s|\Z)", said, maxsplit=1)[0]
    return said.strip().strip("\"'$ ").rstrip(".") or None


def _by_value(one: str, other: str) -> Comparison:
    """Two short answers: numbers by value, letters of a choice, else the folded text."""
    numbers = _number(one), _number(other)
    if numbers[0] is not None and numbers[1] is not None:
        return _said(numbers[0] == numbers[1])
    letters = _letter(one), _letter(other)
    if letters[0] is not None and letters[1] is not None:
        return _said(letters[0] == letters[1])
    return _said(_folded(one).replace(" ", "") == _folded(other).replace(" ", ""))


def _is_value(text: str) -> bool:
    """Something that stands for itself: one word, a name of code, a number, a letter."""
    return " " not in text.strip() or _number(text) is not None


def _number(text: str) -> Fraction | None:
    match = _NUMBER.fullmatch(text.strip().strip("$ "))
    if match is None or len(text) > _DIGITS_MAX:
        return None
    sign, whole, decimals, below, percent = match.groups()
    denominator = int(below or 1) * 10 ** len(decimals or "") * (100 if percent else 1)
    if not denominator:
        return None
    value = Fraction(int(whole.replace(",", "") + (decimals or "")), denominator)
    return -value if sign in ("-", "−") else value


def _letter(text: str) -> str | None:
    match = _CHOICE.match(text.strip())
    marked = match is not None and (len(text.strip()) <= 1 or not text.strip()[match.start(1) + 1 :][:1].isspace())
    return match[1].casefold() if match is not None and marked else None


def _polarity(folded: str) -> bool | None:
    return _POLAR.get(re.split(r"[\s,.;:!]", folded, maxsplit=1)[0])


def _readings(one: str, other: str) -> tuple[Reading, Reading]:
    return read(_MARKUP.sub(" ", one[-READ_CHARS_MAX:])), read(_MARKUP.sub(" ", other[-READ_CHARS_MAX:]))


def _by_words(a: Reading, b: Reading) -> Comparison:
    """Prose: different when of a few sentences either has a figure or a name of code that the other has not, when the
    same short sentence has other words of matter, or when hardly a word is in both. Long texts come to the same end by
    other figures on the way."""
    brief = max(len(a.words), len(b.words)) <= BRIEF_WORDS_MAX
    if brief and (_exchanged(set(a.numbers), set(b.numbers)) or _exchanged(set(a.code), set(b.code))):
        return Comparison.DIFFERENT
    words_a, words_b = _matter(a), _matter(b)
    least = min(len(words_a), len(words_b))
    if max(len(a.words), len(b.words)) <= FRAME_WORDS_MAX:
        frames = [[word for word in reading.words if word in FUNCTION_WORDS] for reading in (a, b)]
        if _exchanged(words_a, words_b) and (frames[0] == frames[1] or not words_a & words_b):
            return Comparison.DIFFERENT
    if least >= WORDS_MIN and len(words_a & words_b) < SHARED_WORDS_MIN * least:
        return Comparison.DIFFERENT
    return Comparison.UNKNOWN


def _matter(reading: Reading) -> set[str]:
    return {word[:6] for word in reading.words if word not in FUNCTION_WORDS}


def _exchanged(a: set[str], b: set[str]) -> bool:
    return bool(a - b) and bool(b - a)


def _only(a: frozenset[str] | set[str], b: frozenset[str] | set[str]) -> bool:
    return a != b


def _negations(reading: Reading) -> int:
    return sum(word in NEGATIONS for word in reading.words) % 2
