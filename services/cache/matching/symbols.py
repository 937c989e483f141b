"""What of a text is no prose: code, names with symbols, symbols, what is quoted, and what is not shown.

Promises: pure, total, linear; all is sorted, as it is compared, but for what is not shown: a whole text may be written
in it, so its order counts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from services.cache.matching.remembered import remembered

__all__ = ["code_in", "hidden_in", "literals_in", "may_be_code"]

REMEMBERED_MAX: Final = 8_192
"""Tokens of which it is remembered whether they may be code."""

_QUOTED: Final = re.compile(r'"([^"]*)"|«([^«»]*)»|`([^`]*)`|(?<!\w)\'([^\']*)\'(?!\w)')
_PROSE_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_ALTERNATIVES: Final = re.compile(r"[^\W\d_]{2,}(?:/[^\W\d_]{2,})+")
_BRAND_CHARS_MIN: Final = 4
_CODE: Final = re.compile(
    r"[_\\<>=+*&|^~#@{}\[\]]"  # operators, sigils, paths with backslashes
    r"|\w\(|\)\w|[a-z][A-Z]|\w[./:]\w|^--?[^\W\d]|^/\w|^[-/%]$|->|^[.!:?]+\w|^\w+[!']+$|^[^\w—–…]+$"
    # calls, camelCase, dotted names, flags, paths
)

_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BLANK_LETTERS: Final = frozenset("\u115f\u1160\u3164\uffa0")
"""Hangul fillers: letters by their category."""

_BLANKS: Final = frozenset("\u00a0\u202f\u3000")
"""Spaces that are typed, or put before a mark, in some languages."""


def literals_in(text: str) -> tuple[str, ...]:
    """What stands in quotation marks."""
    if '"' not in text and "'" not in text and "`" not in text and "«" not in text:
        return ()
    return tuple(sorted(next(filter(None, groups), "") for groups in _QUOTED.findall(text)))


def code_in(text: str, tokens: Sequence[str]) -> tuple[str, ...]:
    """Tokens that are code or have symbols in them, and symbols that are not ASCII. `tokens`: those of the text."""
    is_ascii = text.isascii()
    if is_ascii and not any(map(may_be_code, tokens)):
        return ()
    found = [
        token
        for place, token in enumerate(tokens)
        if may_be_code(token)
        and not _is_punctuation("".join(tokens[place - 1 : place]), token, "".join(tokens[place + 1 : place + 2]))
    ]
    if not is_ascii:
        found.extend(char for char in text if not char.isascii() and unicodedata.category(char)[0] == "S")
    return tuple(sorted(found))


def hidden_in(text: str) -> str:
    """Its characters that are not shown, or only change how others are, in their order: control and format characters,
    variation selectors and other combining marks, private and unassigned ones, blank letters, unusual spaces. Lines
    and tabs are shown. Emoji, and the letters of some languages, have them by right."""
    if text.isascii():
        return "".join(_CONTROLS.findall(text))
    these = frozenset(filter(_is_hidden, frozenset(text)))
    return "".join([char for char in text if char in these]) if these else ""


def _is_hidden(char: str) -> bool:
    if char.isascii():
        return _CONTROLS.match(char) is not None
    kind = unicodedata.category(char)[0]
    return kind in "CM" or char in _BLANK_LETTERS or (kind == "Z" and char not in _BLANKS)


@remembered(REMEMBERED_MAX)
def may_be_code(token: str) -> bool:
    """Whether a token, without the punctuation around it, may be code."""
    if token.isalpha() and (token.islower() or token[1:].islower() or len(token) == 1):
        return False
    return _CODE.search(token) is not None


def _is_punctuation(before: str, mark: str, after: str) -> bool:
    """What prose has as well: a mark that stands apart at the end, a dash or an "&" between words, either/or, iPhone
    (how that is written is the guard of capitals' matter)."""
    if _ALTERNATIVES.fullmatch(mark) or (mark.removesuffix("'s").isalpha() and len(mark) >= _BRAND_CHARS_MIN):
        return True
    if mark == "?":
        return not after
    return mark in {"-", "&"} and all(_PROSE_WORD.match(word) for word in (before, after))
