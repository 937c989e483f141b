"""A question as the verifier's guards see it: words, numbers, units, literals, code, names, kind of question.

Promises: pure and total: every string has a reading, in time linear in its length. The reading is of English; `latin`
and `english` say whether it can be relied on. No reading refers to itself: it leaves with the last that refers to it.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from services.cache.matching.asking import Asking, read_asking
from services.cache.matching.capitals import (
    Spellings,
    capital_words,
    is_cased,
    is_title,
    names_in,
    spellings_in,
)
from services.cache.matching.close_words import closed_groups
from services.cache.matching.contractions import without_contractions
from services.cache.matching.courtesies import leading_order, question_span
from services.cache.matching.figures import Figures, figures_in
from services.cache.matching.frame import Frame, read_frame
from services.cache.matching.kept import NOTHING, kept, shared
from services.cache.matching.lexicon import (
    ABBREVIATIONS,
    COUNTED_WORDS,
    DIRECTIONAL_WORDS,
    FUNCTION_WORDS,
    LIGHT_WORDS,
    NUMBER_WORDS,
    PERSONS,
    ROMAN_NUMERALS,
    UNITS,
    word_set,
)
from services.cache.matching.notation import in_one_notation
from services.cache.matching.particulars import Particulars, may_go_on, read_particulars
from services.cache.matching.plain_texts import Absent, PlainText, plain_text
from services.cache.matching.question_kinds import (
    is_contracted,
    is_english,
    is_latin,
    is_possessive,
    kinds_of_question,
)
from services.cache.matching.spelling import NAMES_MAX, in_one_spelling
from services.cache.matching.symbols import code_in, hidden_in, literals_in
from services.cache.matching.tokens import bare_word, bare_words, is_shouted, tokens_in, word_spans, words_in
from services.cache.matching.traits import Traits

__all__ = ["Aligned", "Reading", "read"]

Aligned = tuple[frozenset[str], frozenset[str], frozenset[str], frozenset[str], frozenset[str]]
"""What words are aligned by: the matter, the kin and the initials of that, what is shouted, and which groups of close
words do not hold. All are hashed once."""

_POLITE = word_set("the a an please kindly hi hello hey thanks thank")

_ABBREVIATED = re.compile(
    rf"(?<![\w./@#-])(?:{'|'.join(map(re.escape, sorted(ABBREVIATIONS, key=len, reverse=True)))})(?![\w/@#-])",
    re.IGNORECASE,
)
_ROMAN = re.compile(rf"\b((?i:{'|'.join(sorted(COUNTED_WORDS))})) ({'|'.join(ROMAN_NUMERALS)})\b")
_NUMERALS = tuple(f" {numeral}" for numeral in ROMAN_NUMERALS)
_QUOTE_MARKS = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"'})
_COURTEOUS = " ,.:;!?'-"
_BEHIND_COURTESY = re.compile(r"\A(?:[,.:;!?]*\s+|[,:;!]+)")
_NO_CONTENT = FUNCTION_WORDS | NUMBER_WORDS.keys() | UNITS.keys()
_UNPLACED = FUNCTION_WORDS - (DIRECTIONAL_WORDS | LIGHT_WORDS | PERSONS.keys())


@dataclass(frozen=True)
class Reading:
    """What the guards see of the text `exact`; `normal` is the same with abbreviations written out. The rest is read
    when it is asked for, and kept: most of it is not, of most questions.

    `words` are lower case and without apostrophes, `content` are those that are neither function words nor numbers nor
    units, `sequence` are content words, numbers and units together with the common words that have a part of their own
    to play; all three are in the order of the text. The other tuples are sorted. Words of SHOUTED_WORDS are in capitals
    where they are names.

    `shouted` are the words in capitals, none in a title. `spellings` are the ways in which each word is written, where
    case can tell something; `cased`: whether one of them may have a capital.
    """

    normal: str
    exact: str

    @kept
    def _absent(self) -> Absent | None:
        """What it is known not to have."""
        return None

    @kept
    def calm(self) -> bool:
        """Whether it is known to have nothing of which there is a hard difference, but for directions."""
        return False

    @kept
    def spelled(self) -> tuple[str, ...]:
        return words_in(self.normal)

    @kept
    def titled(self) -> bool:
        return is_title(self.spelled)

    @kept
    def words(self) -> tuple[str, ...]:
        return bare_words(self.spelled, titled=self.titled)

    @kept
    def tokens(self) -> tuple[str, ...]:
        """The text cut at spaces, without the punctuation around each."""
        return tokens_in(self.normal)

    @kept
    def content(self) -> tuple[str, ...]:
        return tuple([word for word in self.words if word not in _NO_CONTENT])

    @kept
    def sequence(self) -> tuple[str, ...]:
        tokens = bare_words(self.tokens, titled=self.titled)
        return tuple(
            [PERSONS.get(token, token) for token in tokens if token not in _UNPLACED and token.replace("-", "")]
        )

    @kept
    def _figures(self) -> Figures:
        return figures_in(self.normal, self.tokens, self.words)

    @kept
    def numbers(self) -> tuple[str, ...]:
        return self._figures[0]

    @kept
    def units(self) -> frozenset[str]:
        return self._figures[1]

    @kept
    def literals(self) -> tuple[str, ...]:
        return literals_in(self.normal)

    @kept
    def code(self) -> tuple[str, ...]:
        return code_in(self.normal, self.tokens)

    @kept
    def hidden(self) -> str:
        """What is written in characters that are not shown."""
        return hidden_in(self.normal)

    @kept
    def _capitals(self) -> tuple[str, ...]:
        return capital_words(self.spelled)

    @kept
    def names(self) -> frozenset[str]:
        return NOTHING if self.titled else names_in(self.normal, self.spelled, self._capitals)

    @kept
    def shouted(self) -> frozenset[str]:
        if self.titled or not self._capitals:
            return NOTHING
        return shared([bare_word(word, titled=False) for word in self._capitals if is_shouted(word)])

    @kept
    def possessive(self) -> bool:
        return is_possessive(self.normal, self.spelled)

    @kept
    def frame(self) -> Frame:
        tokens = self.tokens
        return read_frame(
            self.words,
            contracted=self.contracted,
            last=bare_word(tokens[-1], titled=self.titled) if tokens else "",
        )

    @kept
    def contracted(self) -> bool:
        """Whether there is an "is" in a "what's"."""
        return any(map(is_contracted, self.spelled))

    @kept
    def questions(self) -> frozenset[str]:
        return kinds_of_question(self.words)

    @kept
    def latin(self) -> bool:
        return is_latin(self.normal)

    @kept
    def english(self) -> bool:
        return is_english(self.words)

    @kept
    def plain(self) -> str:
        return " ".join(self.tokens).casefold()

    @kept
    def cased(self) -> bool:
        return is_cased(self.normal, self.spelled, self._capitals)

    @kept
    def spellings(self) -> Spellings:
        return spellings_in(self.normal, self.spelled, titled=self.titled)

    @kept
    def traits(self) -> Traits:
        made = Traits(self.words, self.content)
        if self._absent is not None:
            made.__dict__.update(self._absent.traits)
        return made

    @kept
    def aligned(self) -> Aligned:
        traits = self.traits
        return (traits.matter, traits.kin, traits.initials, self.shouted, closed_groups(self.words))

    @kept
    def wording(self) -> tuple[str, ...]:
        """The words of its core, but for articles and courtesies."""
        return tuple([word for word in self.core.words if word not in _POLITE])

    @kept
    def wording_sorted(self) -> tuple[str, ...]:
        return tuple(sorted(self.wording))

    @kept
    def asking(self) -> Asking:
        return read_asking(
            self.normal,
            self.words,
            self.plain.split(),
            self.questions,
            self.units,
            self.frame.opening,
            self.order,
        )

    @kept
    def order(self) -> str:
        """What it orders by the courtesy before it, also where that is cut off."""
        return leading_order(self.words)

    @kept
    def particulars(self) -> Particulars:
        return read_particulars(self.normal, self.words, goes_on=self.goes_on)

    @kept
    def goes_on(self) -> bool:
        """Whether anything may stand behind its first clause."""
        return may_go_on(self.normal)

    @property
    def core(self) -> Reading:
        """The same without the courtesies around it (if they have no more in them than words), in one notation and
        spelling; itself where nothing changes."""
        return self._core or self

    @kept
    def _core(self) -> Reading | None:
        core = self._without_courtesies()
        core = in_one_spelling(in_one_notation(core, self.words), self.words, self.tokens)
        core = without_contractions(core, self.words)
        if core == self.normal or hidden_in(core) != self.hidden:
            return None
        found = _reading(core)
        found.__dict__["order"] = self.order
        return found

    def _without_courtesies(self) -> str:
        start, end = question_span(self.words)
        if end - start == len(self.words):
            return self.normal
        spans = word_spans(self.normal)
        begins = spans[start - 1][1] if start else 0
        ends = spans[end][0] if end < len(spans) else len(self.normal)
        cut = self.normal[:begins] + self.normal[ends:]
        if not all(char.isalpha() or char in _COURTEOUS for char in cut):
            return self.normal
        return _BEHIND_COURTESY.sub("", self.normal[begins:ends], count=1).rstrip(" ,;-")


def read(text: str) -> Reading:
    """Reads a text of any kind."""
    if (plain := plain_text(text)) is not None:
        return _plain_reading(text, plain)
    normal = text
    if not text.isascii():
        normal = unicodedata.normalize("NFC", text.translate(_QUOTE_MARKS)).translate(_QUOTE_MARKS)
    exact = normal.strip(" ")
    if not normal.isascii() or _may_be_abbreviated(normal.lower()):
        normal = _ABBREVIATED.sub(lambda found: ABBREVIATIONS[found[0].casefold()], normal, count=NAMES_MAX)
    if any(numeral in normal for numeral in _NUMERALS):
        normal = _ROMAN.sub(lambda found: f"{found[1]} {ROMAN_NUMERALS[found[2]]}", normal)
    return Reading(normal, exact)


def _reading(text: str) -> Reading:
    """Of a text in which nothing is abbreviated any more."""
    plain = plain_text(text)
    return Reading(text, text) if plain is None else _plain_reading(text, plain)


def _plain_reading(text: str, plain: PlainText) -> Reading:
    made = object.__new__(Reading)  # and what `kept` would put there, at once: a fifth of what one by one takes
    kept_there = made.__dict__
    kept_there.update(plain.absent.reading)
    kept_there.update(normal=text, exact=text, _absent=plain.absent, spelled=plain.spelled, tokens=plain.spelled)
    if plain.words is not None:
        kept_there["words"] = plain.words
    return made


def _may_be_abbreviated(lower: str) -> bool:
    return any(map(lower.__contains__, ABBREVIATIONS))
