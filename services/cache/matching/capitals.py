"""What capitals say in a text: titles, names, and in which ways each word is written.

Promises: pure, total, linear. A capital tells nothing where a sentence begins, nor in a title.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from services.cache.matching.kept import NOTHING, shared
from services.cache.matching.lexicon import AUXILIARIES, CASED_WORDS, word_set
from services.cache.matching.tokens import bare_word, is_shouted, word_spans

__all__ = ["Spellings", "capital_words", "is_cased", "is_title", "names_in", "spellings_in"]

Spellings = Mapping[str, frozenset[str]]

_TITLE_WORDS_MIN: Final = 3
_MINOR_WORDS: Final = word_set("a an the of to in on at by for and or but with from as vs versus into nor per")
_SENTENCE_END: Final = ".!?:;\n"
_OPENING: Final = " \t\r\"'([{«`-*"
_ASKERS: Final = word_set("I I'm I've I'd I'll")


def capital_words(spelled: Sequence[str]) -> tuple[str, ...]:
    """Those that are not in small letters alone."""
    return tuple([word for word in spelled if not word.islower()])


def is_title(spelled: Sequence[str]) -> bool:
    """A title, or all in capitals: the case says nothing."""
    for word in spelled:  # most texts are none by their second word
        if "a" <= word[0] <= "z" and word.isascii() and word.lower() not in _MINOR_WORDS:
            return False
    major = [word for word in spelled if word.casefold() not in _MINOR_WORDS]
    if len(major) > 1 and all(word.isupper() for word in major):
        return True
    return len(major) >= _TITLE_WORDS_MIN and all(word[0].isupper() for word in major)


def names_in(text: str, spelled: Sequence[str], capitals: Sequence[str]) -> frozenset[str]:
    """Capitalised words that are not so because a sentence starts with them, and words in capitals; as they are
    compared. Of a text that is no title; `capitals`: its `capital_words`."""
    if not capitals or _opens_alone(text, spelled, capitals):
        return NOTHING
    return shared(_names(text))


def is_cased(text: str, spelled: Sequence[str], capitals: Sequence[str]) -> bool:
    """Whether `spellings_in` may hold a word that is not written in small letters."""
    if not text.isascii():
        return True
    if not capitals:
        return False
    return not _opens_alone(text, spelled, capitals) or _tells_at_start(spelled[0].casefold())


def spellings_in(text: str, spelled: Sequence[str], *, titled: bool) -> Spellings:
    """The ways in which each word is written. Capitals tell nothing of a word that begins a sentence (if it is none of
    CASED_WORDS), those of words with one capital nothing in a title, and none where everything is in capitals."""
    if len(spelled) > 1 and all(word.isupper() for word in spelled):
        return {}
    ways: dict[str, set[str]] = {}
    for begin, end in word_spans(text):
        word = text[begin:end].removesuffix("'s")
        if "'" in word or word in ("i", "I"):
            continue
        bare = word.casefold()
        if word[1:].islower() and word[0].isupper():
            if titled or (_begins_sentence(text, begin) and not _tells_at_start(bare)):
                continue
        elif word == "A" and _begins_sentence(text, begin):
            continue
        ways.setdefault(bare, set()).add(word)
    return {bare: shared(words) for bare, words in ways.items()}


def _tells_at_start(bare: str) -> bool:
    return bare in CASED_WORDS and bare not in AUXILIARIES


def _opens_alone(text: str, spelled: Sequence[str], capitals: Sequence[str]) -> bool:
    """Whether the word that the text begins with, and "I", are all that have capitals, and that word but its first."""
    opening = [word for word in capitals if word not in _ASKERS]
    if not opening:
        return True
    first = spelled[0]
    return (
        len(opening) == 1
        and opening[0] == first
        and text.startswith(first)
        and first.isascii()
        and (first == "A" or (first[0].isupper() and first[1:].islower()))
        and "'" not in first
    )


def _names(text: str) -> Iterator[str]:
    for begin, end in word_spans(text):
        word = text[begin:end]
        capital = word[0].isupper() and not word.startswith("I'") and word != "I"
        if is_shouted(word) or (capital and not _begins_sentence(text, begin)):
            yield bare_word(word, titled=False)


def _begins_sentence(text: str, begin: int) -> bool:
    before = text[:begin].rstrip(_OPENING)[-1:]
    return not before or before in _SENTENCE_END
