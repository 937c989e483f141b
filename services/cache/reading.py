"""A question as the verifier's guards see it: words, numbers, units, literals, code, names, kind of question.

Promises: pure and total: every string has a reading, in time linear in its length. The reading is of English; `latin`
and `english` say whether it can be relied on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from services.cache.lexicon import FOREIGN_FUNCTION_WORDS, FUNCTION_WORDS, NUMBER_WORDS, UNITS, word_set

__all__ = ["Reading", "read"]

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_QUOTED = re.compile(r'"([^"]*)"|«([^»]*)»|`([^`]*)`|(?<!\w)\'([^\']*)\'(?!\w)')
_CODE = re.compile(
    r"[_\\<>=+*&|^~#@{}\[\]]"  # operators, sigils, paths with backslashes
    r"|\w\(|\)\w|[a-z][A-Z]|\w[./:]\w|^--?[^\W\d]|^/\w|^[-/%]$|->|^\.\w"  # calls, camelCase, dotted names, flags, paths
)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_MEASURE = re.compile(r"^([+-]?\d+(?:\.\d+)?)([^\W\d_]+)$")
_MONEY = re.compile(r"^([$€£¥₹])?([+-]?\d[\d.]*)(%)?$")
_SIGNS = {"$": "dollar", "€": "euro", "£": "gbp", "¥": "yen", "₹": "rupee", "%": "percent"}
_QUOTE_MARKS = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"'})
_SENTENCE_END = ".!?:;\n"
_OPENING = " \t\r\"'([{«`-*"
_HOW = word_set("many much long old far often big tall high fast deep heavy large hot cold strong soon")
_AUXILIARIES = word_set("""
    is are was were am do does did can could should would will has have had may might must shall isnt arent dont
""")
_WAY_WORDS = word_set("way ways method methods steps step procedure process")
_QUESTION_WORDS = {
    "who": "who", "whom": "who", "whos": "who", "whose": "whose", "when": "when", "where": "where", "wheres": "where",
    "why": "why", "what": "what", "whats": "what", "which": "what", "how": "how", "hows": "how",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reading:
    """What the guards see.

    `words` are lower case and without apostrophes, `content` are those that are neither function words nor numbers nor
    units, `sequence` are content words, numbers and units together; all three are in the order of the text. The other
    tuples are sorted.
    """

    words: tuple[str, ...]
    content: tuple[str, ...]
    sequence: tuple[str, ...]
    numbers: tuple[str, ...]
    units: frozenset[str]
    literals: tuple[str, ...]
    code: tuple[str, ...]
    names: frozenset[str]
    questions: frozenset[str]
    latin: bool
    english: bool
    plain: str


def read(text: str) -> Reading:
    """Reads a text of any kind."""
    normal = unicodedata.normalize("NFKC", text.translate(_QUOTE_MARKS)).translate(_QUOTE_MARKS)
    spelled = _WORD.findall(normal)
    words = tuple(_bare(word) for word in spelled)
    tokens = [token for token in (raw.strip(".,;:!?\"'()`«»") or raw for raw in normal.split()) if token]
    numbers, units = _measures(tokens, words)
    return Reading(
        words=words,
        content=tuple(
            word for word in words if word not in FUNCTION_WORDS and word not in NUMBER_WORDS and word not in UNITS
        ),
        sequence=tuple(
            token for token in (_bare(raw) for raw in tokens) if token.replace("-", "") and token not in FUNCTION_WORDS
        ),
        numbers=numbers,
        units=units,
        literals=tuple(sorted(next(filter(None, groups), "") for groups in _QUOTED.findall(normal))),
        code=_code(tokens, normal),
        names=frozenset(_names(normal)),
        questions=_questions(words),
        latin=all(_is_latin(letter) for letter in normal if letter.isalpha()),
        english=_is_english(words),
        plain=" ".join(tokens).casefold(),
    )


def _bare(word: str) -> str:
    lower = word.casefold()
    return lower.removesuffix("'s").replace("'", "")


def _measures(tokens: list[str], words: tuple[str, ...]) -> tuple[tuple[str, ...], frozenset[str]]:
    numbers = [NUMBER_WORDS[word] for word in words if word in NUMBER_WORDS and word != "one"]
    units = {UNITS[word] for word in words if word in UNITS}
    for token in tokens:
        if not any(char.isnumeric() for char in token):
            continue
        figure = _THOUSANDS.sub("", token.casefold())
        if (measure := _MEASURE.match(figure)) and measure[2] in UNITS:
            numbers.append(measure[1])
            units.add(UNITS[measure[2]])
        elif money := _MONEY.match(figure):
            numbers.append(money[2])
            units.update(_SIGNS[sign] for sign in (money[1], money[3]) if sign)
        else:
            numbers.append(figure)
    return tuple(sorted(numbers)), frozenset(units)


def _code(tokens: list[str], normal: str) -> tuple[str, ...]:
    marks = [token for token in tokens if _CODE.search(token)]
    symbols = [char for char in normal if not char.isascii() and unicodedata.category(char)[0] == "S"]
    return tuple(sorted(marks + symbols))


def _names(normal: str) -> Iterator[str]:
    """Capitalised words that are not so because a sentence starts with them, and words in capitals, in lower case."""
    found = list(_WORD.finditer(normal))
    long_words = [match[0] for match in found if len(match[0]) > 3]
    if len(found) >= 3 and long_words and all(word[0].isupper() for word in long_words):
        return  # a title, or all in capitals: the case says nothing
    for match in found:
        word = match[0]
        shouted = len(word) > 1 and word.isupper()
        if shouted or (word[0].isupper() and not word.startswith("I'") and word != "I"):
            before = normal[: match.start()].rstrip(_OPENING)[-1:]
            if shouted or (before and before not in _SENTENCE_END):
                yield _bare(word)


def _questions(words: tuple[str, ...]) -> frozenset[str]:
    kinds = set()
    for word, following in pairwise((*words, "")):
        kind = _QUESTION_WORDS.get(word)
        if kind == "how" and following in _HOW:
            kind = f"how {following}"
        if kind == "what" and not _WAY_WORDS.isdisjoint(words):
            kind = "how"
        if kind:
            kinds.add(kind)
    if not kinds and words and words[0] in _AUXILIARIES and "you" not in words[1:2]:
        kinds.add("yes or no")
    return frozenset(kinds)


def _is_latin(letter: str) -> bool:
    # Latin with its supplements, extensions A and B and the additional ones: all below U+0250, and U+1E00-U+1EFF.
    return letter < "\u0250" or "\u1e00" <= letter < "\u1f00"


def _is_english(words: tuple[str, ...]) -> bool:
    foreign = sum(word in FOREIGN_FUNCTION_WORDS for word in words)
    return foreign == 0 or foreign * 2 < sum(word in FUNCTION_WORDS for word in words)
