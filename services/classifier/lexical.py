"""What a text looks like without reading it for meaning: hashed word and character n-grams, and a few counts. Pure.

Promises: any string is accepted, at most CHARACTERS_MAX of it are read (the head and the tail), the work is linear in
them; the same text gives the same numbers on every machine (no salted hashes); every number is finite.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt

__all__ = ["BUCKETS", "CHARACTERS_MAX", "SURFACE_NAMES", "Lexical", "read"]

# As the embedding's own cut, so that both read the same.
HEAD_CHARACTERS = 2_048
TAIL_CHARACTERS = 2_048
CHARACTERS_MAX = HEAD_CHARACTERS + 1 + TAIL_CHARACTERS
WORDS_MAX = 1_024
# Two halves: words and pairs of words in the lower, characters in the upper. A power of two each.
BUCKETS = 1 << 15
_HALF = BUCKETS // 2
_CHARACTER_GRAMS = (3, 4, 5)
_MULTIPLIER = np.uint32(0x9E3779B1)

_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?|\d+|[^\w\s]|_+")
_DIGITS = re.compile(r"\d+")
_NUMBER = re.compile(r"\d[\d,]{0,18}(?:\.\d{1,12})?")
_OPTION = re.compile(r"^\s{0,4}\(?([A-Ja-j]|\d{1,2})[.)]\s+(.{0,400})$", re.MULTILINE)
_LATEX = re.compile(r"\\[A-Za-z]{2,20}|\$[^$\n]{1,80}\$|\^\{|_\{")
_CODE = re.compile(r"[{};]|==|!=|->|=>|\bdef \b|\breturn\b|\bclass \b|\bimport \b|\w\(\w{0,20}\)|```")
_WH = re.compile(r"\b(what|which|who|whom|when|where|why|how)\b")
_NEGATION = re.compile(r"\b(not|no|never|none|neither|nor|except|without|least|cannot|\w{2,8}n't)\b")
_COMPARISON = re.compile(r"\b(more|less|fewer|than|most|best|greater|larger|smaller|higher|lower|twice|half|times)\b")
_CONDITION = re.compile(r"\b(if|suppose|assume|given|let|such that|unless|whether|when)\b")
_QUANTIFIER = re.compile(r"\b(each|every|all|any|some|total|altogether|per|average|remaining|left)\b")
_REASONING = re.compile(
    r"\b(why|explain|prove|derive|because|therefore|compare|evaluate|analy[sz]e|conclude|justify)\b"
)
_ALL_OR_NONE = re.compile(r"\b(all|none|both|neither) of (the above|these|them)\b|\b[iv]{1,3} (and|only)\b")
_BLANK = re.compile(r"_{2,}")
_SENTENCE = re.compile(r"[.!?](?:\s|$)")
_QUOTE = re.compile(r"[\"“”«»]")

SURFACE_NAMES = (
    "characters", "words", "lines", "sentences", "word_length", "long_words", "distinct_words", "digits", "numbers",
    "largest_number", "decimals", "percent_or_money", "latex", "code", "indented_lines", "question_marks", "wh_words",
    "negations", "comparisons", "conditions", "quantifiers", "reasoning_words", "capitals", "non_ascii", "punctuation",
    "quotes", "blanks", "all_or_none", "options", "option_length", "option_spread", "numeric_options", "last_sentence",
    "longest_word",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lexical:
    """One text: the n-grams' buckets with how often each occurred, its words' buckets alone, and the counts.

    `surface`: float64 [len(SURFACE_NAMES)], finite, mostly between 0 and 10.
    """

    buckets: npt.NDArray[np.int64]
    counts: npt.NDArray[np.float64]
    words: npt.NDArray[np.int64]
    surface: npt.NDArray[np.float64]


def _cut(text: str) -> str:
    if len(text) > CHARACTERS_MAX:
        text = text[:HEAD_CHARACTERS] + "\n" + text[-TAIL_CHARACTERS:]
    return text


def _mixed(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Spreads the bits, so that the low ones may be used as a bucket."""
    values = values ^ (values >> np.uint32(15))
    values = values * _MULTIPLIER
    return values ^ (values >> np.uint32(13))


def _word_hashes(words: list[str]) -> npt.NDArray[np.uint32]:
    return np.fromiter((crc32(word.encode("utf-8", "replace")) for word in words), dtype=np.uint32, count=len(words))


def _character_hashes(text: str) -> npt.NDArray[np.uint32]:
    """Hashes of all runs of 3, 4 and 5 characters, numbers and blanks made alike."""
    plain = " " + " ".join(_DIGITS.sub("0", text).split()) + " "
    points = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    spread = _mixed(points + np.uint32(1))
    runs = []
    for size in _CHARACTER_GRAMS:
        if len(spread) < size:
            break
        hashed = np.zeros(len(spread) - size + 1, dtype=np.uint32)
        for offset in range(size):
            hashed = hashed * np.uint32(0x01000193) + spread[offset : offset + len(hashed)]
        runs.append(_mixed(hashed + np.uint32(size)))
    return np.concatenate(runs) if runs else np.zeros(0, dtype=np.uint32)


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


def _count(pattern: re.Pattern[str], text: str) -> float:
    return math.log1p(sum(1 for _ in pattern.finditer(text)))


def _magnitude(number: str) -> float:
    """Decimal digits before the point, at most 20."""
    return float(min(20, len(number.partition(".")[0].replace(",", "").lstrip("0"))))


def _surface(text: str, lower: str, words: list[str]) -> npt.NDArray[np.float64]:
    lines = text.split("\n")
    letters = [word for word in words if word[0].isalpha()]
    lengths = [len(word) for word in letters]
    numbers = _NUMBER.findall(text)
    options = [match[1].strip() for match in _OPTION.findall(text)]
    option_lengths = [math.log1p(len(option)) for option in options]
    option_mean = _share(sum(option_lengths), len(options))
    characters = len(text)
    punctuation = sum(1 for word in words if not (word[0].isalnum() or word[0] == "_"))
    values = (
        math.log1p(characters),
        math.log1p(len(letters)),
        math.log1p(len(lines)),
        _count(_SENTENCE, text),
        min(20.0, _share(sum(lengths), len(lengths))),
        10.0 * _share(sum(length > 8 for length in lengths), len(lengths)),
        10.0 * _share(len(set(letters)), len(letters)),
        10.0 * _share(sum(map(len, numbers)), characters),
        math.log1p(len(numbers)),
        max(map(_magnitude, numbers), default=0.0),
        math.log1p(sum("." in number for number in numbers)),
        math.log1p(sum(text.count(sign) for sign in "%$€£")),
        _count(_LATEX, text),
        _count(_CODE, text),
        10.0 * _share(sum(line[:2] in {"  ", "\t"} for line in lines), len(lines)),
        math.log1p(text.count("?")),
        _count(_WH, lower),
        _count(_NEGATION, lower),
        _count(_COMPARISON, lower),
        _count(_CONDITION, lower),
        _count(_QUANTIFIER, lower),
        _count(_REASONING, lower),
        10.0 * _share(sum(map(str.isupper, text)), characters),
        10.0 * _share(characters - len(text.encode("ascii", "ignore")), characters),
        10.0 * _share(punctuation, len(words)),
        _count(_QUOTE, text),
        _count(_BLANK, text),
        _count(_ALL_OR_NONE, lower),
        math.log1p(len(options)),
        option_mean,
        _share(sum(abs(length - option_mean) for length in option_lengths), len(options)),
        _share(sum(bool(option) and _NUMBER.search(option[:12]) is not None for option in options), len(options)),
        math.log1p(len(_SENTENCE.split(text.strip())[-1])),
        math.log1p(max(lengths, default=0)),
    )
    return np.asarray(values, dtype=np.float64)


def read(text: str) -> Lexical:
    """Reads one text; some 0.2 ms for a prompt of 100 words."""
    text = _cut(text)
    lower = text.lower()
    words = _WORD.findall(lower)[:WORDS_MAX]
    plain = _word_hashes(["0" if word[0].isdecimal() else word for word in words])
    pairs = _mixed(plain[:-1] * np.uint32(31) + plain[1:])
    word_buckets = (_mixed(plain) % np.uint32(_HALF)).astype(np.int64)
    buckets = np.concatenate(
        [
            word_buckets,
            (pairs % np.uint32(_HALF)).astype(np.int64),
            (_character_hashes(lower) % np.uint32(_HALF)).astype(np.int64) + _HALF,
        ]
    )
    found, counts = np.unique(buckets, return_counts=True)
    return Lexical(found, counts.astype(np.float64), np.unique(word_buckets), _surface(text, lower, words))
