"""A question as the verifier's guards see it: words, numbers, units, literals, code, names, kind of question.

Promises: pure and total: every string has a reading, in time linear in its length. The reading is of English; `latin`
and `english` say whether it can be relied on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from services.cache.matching.frame import Frame, read_frame
from services.cache.matching.lexicon import (
    ABBREVIATIONS,
    AUXILIARIES,
    CASED_WORDS,
    COUNTED_WORDS,
    DIRECTIONAL_WORDS,
    FOREIGN_FUNCTION_WORDS,
    FUNCTION_WORDS,
    LIGHT_WORDS,
    NUMBER_WORDS,
    PERSONS,
    ROMAN_NUMERALS,
    SHOUTED_WORDS,
    UNITS,
    word_set,
)
from services.cache.matching.particulars import Particulars, read_particulars
from services.cache.matching.traits import Traits, read_traits

__all__ = ["Reading", "read"]

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_QUOTED = re.compile(r'"([^"]*)"|«([^»]*)»|`([^`]*)`|(?<!\w)\'([^\']*)\'(?!\w)')
_PROSE_WORD = re.compile(r"[^\W\d_]{3,}")
_ALTERNATIVES = re.compile(r"[^\W\d_]{2,}(?:/[^\W\d_]{2,})+")
_BRAND_CHARS_MIN = 4
_CODE = re.compile(
    r"[_\\<>=+*&|^~#@{}\[\]]"  # operators, sigils, paths with backslashes
    r"|\w\(|\)\w|[a-z][A-Z]|\w[./:]\w|^--?[^\W\d]|^/\w|^[-/%]$|->|^[.!:?]+\w|^\w+[!']+$|^[^\w—–…]+$"
    # calls, camelCase, dotted names, flags, paths
)
_ABBREVIATED = re.compile(
    rf"(?<![\w./@#-])(?:{'|'.join(map(re.escape, sorted(ABBREVIATIONS, key=len, reverse=True)))})(?![\w/@#-])",
    re.IGNORECASE,
)
_ROMAN = re.compile(rf"\b((?i:{'|'.join(sorted(COUNTED_WORDS))})) ({'|'.join(ROMAN_NUMERALS)})\b")
_AROUND = ".,;:!?\"'()`«»"
_LEADING = re.compile(r"[.!:?]+\w")
_BRACKETED = re.compile(r"\([\d.,]+\)[.,;:!?]*")  # an accountant's negative figure, and years
_TRAILING = re.compile(r"(?:\d+|[^\W\d_])(?:!+|'+)")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_MEASURE = re.compile(r"^([+-]?\d+(?:\.\d+)?)([^\W\d_]+)$")
_MONEY = re.compile(r"^([$€£¥₹])?([+-]?\d[\d.]*)(%)?$")
_SIGNS = {"$": "dollar", "€": "euro", "£": "gbp", "¥": "yen", "₹": "rupee", "%": "percent"}
_QUOTE_MARKS = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"'})
_SENTENCE_END = ".!?:;\n"
_OPENING = " \t\r\"'([{«`-*"
_HOW = word_set("""
    many much long old far often big tall high fast deep heavy large hot cold strong soon wide thick early late loud
    bright steep
""")
# "'s" behind these is a verb, behind others a possessor.
_CONTRACTING = word_set("what who where when why how it that there here he she let")
_CONTRACTED = re.compile(r"(?:what|who|where|when|why|how|it|that|there|here)'s|whats|whos|wheres|hows", re.IGNORECASE)
_POSSESSORS = re.compile(r"s'(?!\w)")
_ACRONYMS = re.compile(r"[A-Z]{2,}s")  # FAQs, PCs
_TITLE_WORDS_MIN = 3
_MINOR_WORDS = word_set("a an the of to in on at by for and or but with from as vs versus into nor per")
_PLACED_WORDS = DIRECTIONAL_WORDS | LIGHT_WORDS | PERSONS.keys()
_WAY_WORDS = word_set("way ways method methods steps step procedure process")
_QUESTION_WORDS = {
    "who": "who", "whom": "who", "whos": "who", "whose": "whose", "when": "when", "where": "where", "wheres": "where",
    "why": "why", "what": "what", "whats": "what", "which": "what", "how": "how", "hows": "how",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reading:
    """What the guards see.

    `words` are lower case and without apostrophes, `content` are those that are neither function words nor numbers nor
    units, `sequence` are content words, numbers and units together with the common words that have a part of their own
    to play; all three are in the order of the text. The other tuples are sorted. Words of SHOUTED_WORDS are in capitals
    where they are names.

    `shouted` are the words in capitals. `capitalised` and `lowered` are words by how they begin, those alone of which
    it says whether they are names. All three are empty for a title.

    `exact` is the text as it is. `spellings` are the ways in which each word is written, where case can tell something.
    """

    words: tuple[str, ...]
    content: tuple[str, ...]
    sequence: tuple[str, ...]
    numbers: tuple[str, ...]
    units: frozenset[str]
    literals: tuple[str, ...]
    code: tuple[str, ...]
    names: frozenset[str]
    shouted: frozenset[str]
    capitalised: frozenset[str]
    lowered: frozenset[str]
    possessive: bool
    frame: Frame
    questions: frozenset[str]
    latin: bool
    english: bool
    plain: str
    exact: str
    spellings: Mapping[str, frozenset[str]]
    traits: Traits
    particulars: Particulars


def read(text: str) -> Reading:
    """Reads a text of any kind."""
    normal = unicodedata.normalize("NFC", text.translate(_QUOTE_MARKS)).translate(_QUOTE_MARKS)
    exact = normal.strip(" ")
    normal = _ABBREVIATED.sub(lambda found: ABBREVIATIONS[found[0].casefold()], normal)
    normal = _ROMAN.sub(lambda found: f"{found[1]} {ROMAN_NUMERALS[found[2]]}", normal)
    found = tuple(_WORD.finditer(normal))
    spelled = tuple(match[0] for match in found)
    titled = _is_title(spelled)
    words = tuple(_bare(word, titled) for word in spelled)
    tokens = [token for token in (_stripped(raw) for raw in normal.split()) if token]
    content = tuple(
        word for word in words if word not in FUNCTION_WORDS and word not in NUMBER_WORDS and word not in UNITS
    )
    numbers, units = _measures(tokens, words)
    return Reading(
        words=words,
        content=content,
        sequence=tuple(
            PERSONS.get(token, token)
            for token in (_bare(raw, titled) for raw in tokens)
            if token.replace("-", "") and (token not in FUNCTION_WORDS or token in _PLACED_WORDS)
        ),
        numbers=numbers,
        units=units,
        literals=tuple(sorted(next(filter(None, groups), "") for groups in _QUOTED.findall(normal))),
        code=_code(tokens, normal),
        names=frozenset() if titled else frozenset(_names(normal, found)),
        shouted=frozenset() if titled else frozenset(_bare(word, titled) for word in spelled if _is_shouted(word)),
        capitalised=frozenset() if titled else frozenset(_written(normal, found, content, str.isupper)),
        lowered=frozenset() if titled else frozenset(_written(normal, found, content, str.islower)),
        possessive=_is_possessive(normal, spelled),
        frame=read_frame(
            words,
            contracted=any(_CONTRACTED.fullmatch(word) for word in spelled),
            last=_bare(tokens[-1], titled) if tokens else "",
        ),
        questions=_questions(words),
        latin=all(_is_latin(letter) for letter in normal if letter.isalpha()),
        english=_is_english(words),
        plain=" ".join(tokens).casefold(),
        exact=exact,
        spellings=_spellings(normal, found, spelled),
        traits=read_traits(words, content),
        particulars=read_particulars(normal, words),
    )


def _stripped(raw: str) -> str:
    """A token without the punctuation around it, but with what makes another thing of it: ".NET", "5!", "f'"."""
    if _BRACKETED.fullmatch(raw):
        return raw.rstrip(".,;:!?")
    token = raw.strip(',;"()`«»')
    if _LEADING.match(token):
        return token.rstrip(".,;:!?\"'()`«»")
    if _TRAILING.fullmatch(token.rstrip(".?:")):
        return token.rstrip(".?:")
    return raw.strip(_AROUND) or raw


def _bare(word: str, titled: bool) -> str:
    stem = word[:-1] if _ACRONYMS.fullmatch(word) else word
    bare = stem.casefold().removesuffix("'s").replace("'", "")
    return bare.upper() if bare in SHOUTED_WORDS and not titled and _is_shouted(word) else bare


def _is_shouted(word: str) -> bool:
    stem = word.removesuffix("'s").removesuffix("s") if _ACRONYMS.match(word) else word
    return len(stem) > 1 and stem.isupper()


def _is_title(spelled: Sequence[str]) -> bool:
    """A title, or all in capitals: the case says nothing."""
    major = [word for word in spelled if word.casefold() not in _MINOR_WORDS]
    if len(major) > 1 and all(word.isupper() for word in major):
        return True
    return len(major) >= _TITLE_WORDS_MIN and all(word[0].isupper() for word in major)


def _is_possessive(normal: str, spelled: Sequence[str]) -> bool:
    if _POSSESSORS.search(normal):
        return True
    lower = [word.casefold() for word in spelled]
    return any(word.endswith("'s") and word[:-2] not in _CONTRACTING for word in lower)


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
    marks = [
        token
        for before, token, after in zip(("", *tokens), tokens, (*tokens[1:], ""), strict=False)
        if _CODE.search(token) and not _is_punctuation(before, token, after)
    ]
    symbols = [char for char in normal if not char.isascii() and unicodedata.category(char)[0] == "S"]
    return tuple(sorted(marks + symbols))


def _is_punctuation(before: str, mark: str, after: str) -> bool:
    """What prose has as well: a mark that stands apart at the end, a dash or an "&" between words, either/or, iPhone
    (how that is written is the guard of capitals' matter)."""
    if _ALTERNATIVES.fullmatch(mark) or (mark.isalpha() and len(mark) >= _BRAND_CHARS_MIN):
        return True
    if mark == "?":
        return not after
    return mark in {"-", "&"} and all(_PROSE_WORD.match(word) for word in (before, after))


def _names(normal: str, found: Sequence[re.Match[str]]) -> Iterator[str]:
    """Capitalised words that are not so because a sentence starts with them, and words in capitals."""
    for match in found:
        word = match[0]
        shouted = _is_shouted(word)
        capital = word[0].isupper() and not word.startswith("I'") and word != "I"
        if shouted or (capital and not _begins_sentence(normal, match)):
            yield _bare(word, False)


def _written(
    normal: str, found: Sequence[re.Match[str]], content: Collection[str], how: Callable[[str], bool]
) -> Iterator[str]:
    """The words that are written so where that says something.

    Elsewhere "quora" is "Quora": most people take little care. But a question of one word leaves nothing else to tell
    by, and the words of CASED_WORDS are known to be two.
    """
    cased = bool(found) and found[0][0][0].isupper()
    for match in found:
        word = match[0].removesuffix("'s")
        bare = word.casefold()
        shouted = word.isupper() and bare in CASED_WORDS
        if not how(word[0]) or not (shouted or word[1:].islower()):
            continue
        known, lone = bare in CASED_WORDS, len(content) == 1 and bare in content
        if (known and lone) or ((known or (cased and lone)) and not _begins_sentence(normal, match)):
            yield bare


def _spellings(normal: str, found: Sequence[re.Match[str]], spelled: Sequence[str]) -> Mapping[str, frozenset[str]]:
    """Capitals tell nothing of a word that begins a sentence (if it is none of CASED_WORDS), those of words with one
    capital nothing in a title, and none where everything is in capitals."""
    if len(spelled) > 1 and all(word.isupper() for word in spelled):
        return {}
    titled = _is_title(spelled)
    ways: dict[str, set[str]] = {}
    for match in found:
        word = match[0].removesuffix("'s")
        if "'" in word or word in ("i", "I"):
            continue
        bare = word.casefold()
        if word[1:].islower() and word[0].isupper():
            if titled or (_begins_sentence(normal, match) and (bare not in CASED_WORDS or bare in AUXILIARIES)):
                continue
        elif word == "A" and _begins_sentence(normal, match):
            continue
        ways.setdefault(bare, set()).add(word)
    return {bare: frozenset(words) for bare, words in ways.items()}


def _begins_sentence(normal: str, match: re.Match[str]) -> bool:
    before = normal[: match.start()].rstrip(_OPENING)[-1:]
    return not before or before in _SENTENCE_END


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
    if not kinds and words and words[0] in AUXILIARIES and "you" not in words[1:2]:
        kinds.add("yes or no")
    return frozenset(kinds)


def _is_latin(letter: str) -> bool:
    # Latin with its supplements, extensions A and B and the additional ones: all below U+0250, and U+1E00-U+1EFF.
    return letter < "\u0250" or "\u1e00" <= letter < "\u1f00"


def _is_english(words: tuple[str, ...]) -> bool:
    foreign = sum(word in FOREIGN_FUNCTION_WORDS for word in words)
    return foreign == 0 or foreign * 2 < sum(word in FUNCTION_WORDS for word in words)
