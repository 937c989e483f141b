"""A question as the verifier's guards see it: words, numbers, units, literals, code, names, kind of question.

Promises: pure and total: every string has a reading, in time linear in its length. The reading is of English; `latin`
and `english` say whether it can be relied on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from sys import intern

from services.cache.matching.courtesies import question_span, without_courtesies
from services.cache.matching.frame import Frame, read_frame
from services.cache.matching.kept import NOTHING, kept, shared
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
from services.cache.matching.traits import Traits

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
_QUOTES = "\"«`'"
_PLAIN_ENDS = ".,?"
_QUOTE_MARKS = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"'})
_COURTEOUS = " ,.:;!?'-"
_BEHIND_COURTESY = re.compile(r"\A(?:[,.:;!?]*\s+|[,:;!]+)")
_SENTENCE_END = ".!?:;\n"
_OPENING = " \t\r\"'([{«`-*"
_HOW = word_set("""
    many much long old far often big tall high fast deep heavy large hot cold strong soon wide thick early late loud
    bright steep
""")
# "'s" behind these is a verb, behind others a possessor.
_CONTRACTING = word_set("what who where when why how it that there here he she let")
_CONTRACTED = word_set("what's who's where's when's why's how's it's that's there's here's whats whos wheres hows")
_CONTRACTED_ANY = re.compile("|".join(sorted(_CONTRACTED)), re.IGNORECASE)
_POSSESSORS = re.compile(r"s'(?!\w)")
_ACRONYMS = re.compile(r"[A-Z]{2,}s")  # FAQs, PCs
_TITLE_WORDS_MIN = 3
_MINOR_WORDS = word_set("a an the of to in on at by for and or but with from as vs versus into nor per")
_NO_CONTENT = FUNCTION_WORDS | NUMBER_WORDS.keys() | UNITS.keys()
_PLACED_WORDS = DIRECTIONAL_WORDS | LIGHT_WORDS | PERSONS.keys()
_WAY_WORDS = word_set("way ways method methods steps step procedure process")
_QUESTION_WORDS = {
    "who": "who", "whom": "who", "whos": "who", "whose": "whose", "when": "when", "where": "where", "wheres": "where",
    "why": "why", "what": "what", "whats": "what", "which": "what", "how": "how", "hows": "how",
}  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """What the guards see of the text `exact`; `normal` is the same with abbreviations written out. The rest is read
    when it is asked for, and kept: most of it is not, of most questions.

    `words` are lower case and without apostrophes, `content` are those that are neither function words nor numbers nor
    units, `sequence` are content words, numbers and units together with the common words that have a part of their own
    to play; all three are in the order of the text. The other tuples are sorted. Words of SHOUTED_WORDS are in capitals
    where they are names.

    `shouted` are the words in capitals, none in a title. `spellings` are the ways in which each word is written, where
    case can tell something.
    """

    normal: str
    exact: str

    @kept
    def spelled(self) -> tuple[str, ...]:
        return tuple(map(intern, _WORD.findall(self.normal)))

    @kept
    def titled(self) -> bool:
        return _is_title(self.spelled)

    @kept
    def words(self) -> tuple[str, ...]:
        titled = self.titled
        return tuple([intern(_bare(word, titled)) for word in self.spelled])

    @kept
    def tokens(self) -> tuple[str, ...]:
        """The text cut at spaces, without the punctuation around each."""
        return tuple([intern(token) for token in map(_stripped, self.normal.split()) if token])

    @kept
    def content(self) -> tuple[str, ...]:
        return tuple([word for word in self.words if word not in _NO_CONTENT])

    @kept
    def sequence(self) -> tuple[str, ...]:
        titled = self.titled
        return tuple(
            [
                PERSONS.get(token, token)
                for token in [_bare(raw, titled) for raw in self.tokens]
                if token.replace("-", "") and (token not in FUNCTION_WORDS or token in _PLACED_WORDS)
            ]
        )

    @kept
    def _measured(self) -> tuple[tuple[str, ...], frozenset[str]]:
        return _measures(self.tokens, self.words)

    @kept
    def numbers(self) -> tuple[str, ...]:
        return self._measured[0]

    @kept
    def units(self) -> frozenset[str]:
        return self._measured[1]

    @kept
    def literals(self) -> tuple[str, ...]:
        if not any(mark in self.normal for mark in _QUOTES):
            return ()
        return tuple(sorted(next(filter(None, groups), "") for groups in _QUOTED.findall(self.normal)))

    @kept
    def code(self) -> tuple[str, ...]:
        return _code(self.tokens, self.normal)

    @kept
    def names(self) -> frozenset[str]:
        return NOTHING if self.titled else shared(_names(self.normal, self.spelled))

    @kept
    def shouted(self) -> frozenset[str]:
        return NOTHING if self.titled else shared([_bare(word, False) for word in self.spelled if _is_shouted(word)])

    @kept
    def possessive(self) -> bool:
        return _is_possessive(self.normal, self.spelled)

    @kept
    def frame(self) -> Frame:
        return read_frame(
            self.words,
            contracted=any(map(_is_contracted, self.spelled)),
            last=_bare(self.tokens[-1], self.titled) if self.tokens else "",
        )

    @kept
    def questions(self) -> frozenset[str]:
        return _questions(self.words)

    @kept
    def latin(self) -> bool:
        return self.normal.isascii() or all(_is_latin(letter) for letter in self.normal if letter.isalpha())

    @kept
    def english(self) -> bool:
        return _is_english(self.words)

    @kept
    def plain(self) -> str:
        return " ".join(self.tokens).casefold()

    @kept
    def spellings(self) -> Mapping[str, frozenset[str]]:
        return _spellings(self.normal, self.spelled, titled=self.titled)

    @kept
    def traits(self) -> Traits:
        return Traits(self.words, self.content)

    @kept
    def particulars(self) -> Particulars:
        return read_particulars(self.normal, self.words)

    @kept
    def core(self) -> Reading:
        """The same without the courtesies around it; itself where it has none, or they have more in them than words."""
        start, end = question_span(self.words)
        if end - start == len(self.words):
            return self
        found = list(_WORD.finditer(self.normal))
        begins = found[start - 1].end() if start else 0
        ends = found[end].start() if end < len(found) else len(self.normal)
        cut = self.normal[:begins] + self.normal[ends:]
        if not all(char.isalpha() or char in _COURTEOUS for char in cut):
            return self
        core = _BEHIND_COURTESY.sub("", self.normal[begins:ends], count=1).rstrip(" ,;-")
        return Reading(core, core)


def read(text: str) -> Reading:
    """Reads a text of any kind."""
    normal = text
    if not text.isascii():
        normal = unicodedata.normalize("NFC", text.translate(_QUOTE_MARKS)).translate(_QUOTE_MARKS)
    exact = normal.strip(" ")
    normal = _ABBREVIATED.sub(lambda found: ABBREVIATIONS[found[0].casefold()], normal)
    if "I" in normal or "V" in normal:
        normal = _ROMAN.sub(lambda found: f"{found[1]} {ROMAN_NUMERALS[found[2]]}", normal)
    return Reading(normal, exact)


def _stripped(raw: str) -> str:
    """A token without the punctuation around it, but with what makes another thing of it: ".NET", "5!", "f'"."""
    if raw.isalpha():
        return raw
    if raw[-1] in _PLAIN_ENDS and raw[:-1].isalpha():
        return raw[:-1]
    if _BRACKETED.fullmatch(raw):
        return raw.rstrip(".,;:!?")
    token = raw.strip(',;"()`«»')
    if _LEADING.match(token):
        return token.rstrip(".,;:!?\"'()`«»")
    if _TRAILING.fullmatch(token.rstrip(".?:")):
        return token.rstrip(".?:")
    return raw.strip(_AROUND) or raw


def _bare(word: str, titled: bool) -> str:
    if word.isascii() and word.islower() and "'" not in word:
        return word
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
    if "'" not in normal:
        return False
    if _POSSESSORS.search(normal):
        return True
    lower = [word.casefold() for word in spelled]
    return any(word.endswith("'s") and word[:-2] not in _CONTRACTING for word in lower)


def _measures(tokens: Sequence[str], words: tuple[str, ...]) -> tuple[tuple[str, ...], frozenset[str]]:
    numbers = [NUMBER_WORDS[word] for word in words if word in NUMBER_WORDS and word != "one"]
    units = {UNITS[word] for word in words if word in UNITS}
    for token in tokens:
        if (token.isascii() and token.isalpha()) or not any(map(str.isnumeric, token)):
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
    return tuple(sorted(numbers)), shared(units)


def _code(tokens: Sequence[str], normal: str) -> tuple[str, ...]:
    found = [
        token
        for place, token in enumerate(tokens)
        if not (token.isalpha() and (token.islower() or token[1:].islower() or len(token) == 1))
        and _CODE.search(token)
        and not _is_punctuation("".join(tokens[place - 1 : place]), token, "".join(tokens[place + 1 : place + 2]))
    ]
    if not normal.isascii():
        found.extend(char for char in normal if not char.isascii() and unicodedata.category(char)[0] == "S")
    return tuple(sorted(found))


def _is_punctuation(before: str, mark: str, after: str) -> bool:
    """What prose has as well: a mark that stands apart at the end, a dash or an "&" between words, either/or, iPhone
    (how that is written is the guard of capitals' matter)."""
    if _ALTERNATIVES.fullmatch(mark) or (mark.removesuffix("'s").isalpha() and len(mark) >= _BRAND_CHARS_MIN):
        return True
    if mark == "?":
        return not after
    return mark in {"-", "&"} and all(_PROSE_WORD.match(word) for word in (before, after))


def _names(normal: str, spelled: Sequence[str]) -> Iterator[str]:
    """Capitalised words that are not so because a sentence starts with them, and words in capitals."""
    if all(map(str.islower, spelled)):
        return
    for match in _WORD.finditer(normal):
        word = match[0]
        shouted = _is_shouted(word)
        capital = word[0].isupper() and not word.startswith("I'") and word != "I"
        if shouted or (capital and not _begins_sentence(normal, match)):
            yield _bare(word, False)


def _spellings(normal: str, spelled: Sequence[str], *, titled: bool) -> Mapping[str, frozenset[str]]:
    """Capitals tell nothing of a word that begins a sentence (if it is none of CASED_WORDS), those of words with one
    capital nothing in a title, and none where everything is in capitals."""
    if len(spelled) > 1 and all(word.isupper() for word in spelled):
        return {}
    ways: dict[str, set[str]] = {}
    for match in _WORD.finditer(normal):
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
    return {bare: shared(words) for bare, words in ways.items()}


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
    asked = without_courtesies(words)
    if not kinds and asked and asked[0] in AUXILIARIES and "you" not in asked[1:2]:
        kinds.add("yes or no")
    return shared(kinds)


def _is_contracted(word: str) -> bool:
    return word.casefold() in _CONTRACTED if word.isascii() else _CONTRACTED_ANY.fullmatch(word) is not None


def _is_latin(letter: str) -> bool:
    # Latin with its supplements, extensions A and B and the additional ones: all below U+0250, and U+1E00-U+1EFF.
    return letter < "\u0250" or "\u1e00" <= letter < "\u1f00"


def _is_english(words: tuple[str, ...]) -> bool:
    foreign = sum(word in FOREIGN_FUNCTION_WORDS for word in words)
    return foreign == 0 or foreign * 2 < sum(word in FUNCTION_WORDS for word in words)
