"""A text cut into words and into tokens, and what of each its spelling says: nothing of their meaning.

Promises: pure, total, linear; of words and tokens that come again the result is remembered, boundedly.
"""

from __future__ import annotations

import re
from sys import intern
from typing import Final

from services.cache.matching.lexicon import SHOUTED_WORDS
from services.cache.matching.remembered import remembered

__all__ = ["bare_word", "bare_words", "is_shouted", "tokens_in", "word_spans", "words_in"]

REMEMBERED_MAX: Final = 8_192
"""Words, and tokens, of which it is remembered how they are compared."""

_WORD: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_SPACED: Final = bytes(code if chr(code).isalpha() and code < 128 else 32 for code in range(256))
"""ASCII letters as they are, and a space for all else."""

_AROUND: Final = ".,;:!?\"'()`«»"
_PLAIN_ENDS: Final = ".,?"
_LEADING: Final = re.compile(r"[.!:?]+\w")
_BRACKETED: Final = re.compile(r"\([\d.,]+\)[.,;:!?]*")  # an accountant's negative figure, and years
_TRAILING: Final = re.compile(r"(?:\d+|[^\W\d_])(?:!+|'+)")
_ACRONYMS: Final = re.compile(r"[A-Z]{2,}s")  # FAQs, PCs


def words_in(text: str) -> tuple[str, ...]:
    """Runs of letters, with the apostrophes between letters, as they are spelled."""
    if text.isascii() and "'" not in text:
        return tuple(map(intern, text.encode().translate(_SPACED).decode("ascii").split()))
    return tuple(map(intern, _WORD.findall(text)))


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where each of `words_in` begins and ends."""
    return [found.span() for found in _WORD.finditer(text)]


def tokens_in(text: str) -> tuple[str, ...]:
    """The text cut at spaces, without the punctuation around each."""
    return tuple(map(_stripped, text.split()))


@remembered(REMEMBERED_MAX)
def _stripped(raw: str) -> str:
    """A token without the punctuation around it, but with what makes another thing of it: ".NET", "5!", "f'"."""
    return intern(_without_marks(raw))


def _without_marks(raw: str) -> str:
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


def bare_words(spelled: tuple[str, ...], *, titled: bool) -> tuple[str, ...]:
    """Words as they are compared: lower case and without apostrophes, those of SHOUTED_WORDS in capitals where they are
    names. `titled`: capitals say nothing."""
    return tuple([bare_word(word, titled=True) for word in spelled]) if titled else tuple(map(_bare, spelled))


def bare_word(word: str, *, titled: bool) -> str:
    """One of `bare_words`."""
    return intern(_plainly(word)) if titled else _bare(word)


@remembered(REMEMBERED_MAX)
def _bare(word: str) -> str:
    bare = _plainly(word)
    return intern(bare.upper() if bare in SHOUTED_WORDS and is_shouted(word) else bare)


def _plainly(word: str) -> str:
    if word.isascii() and word.islower() and "'" not in word:
        return word
    stem = word[:-1] if _ACRONYMS.fullmatch(word) else word
    return stem.casefold().removesuffix("'s").replace("'", "")


def is_shouted(word: str) -> bool:
    """Whether it is spelled in capitals, a plural's or possessor's "s" apart."""
    stem = word.removesuffix("'s").removesuffix("s") if _ACRONYMS.match(word) else word
    return len(stem) > 1 and stem.isupper()
