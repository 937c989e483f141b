"""What was found out of single words, remembered for the next text that has them.

Promises: memory is bounded in words and in their length, whoever sends them: of longer words nothing is remembered,
they are looked at anew. Words that were asked for lately stay longest. A remembered word costs one look into a dict:
less than with `functools.lru_cache`, whose keys may have any length. Several threads may ask: what one of them loses of
another is found out again.

All that modules of this room remember takes 150 MiB of words and questions made to take most (measured: trigrams 28,
tokens of questions 38, their forms 32, leftover words of pairs 14, small sets 12, the rest under 9 each).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

__all__ = ["REMEMBERED_CHARS_MAX", "remembered"]

REMEMBERED_CHARS_MAX: Final = 24
"""Of a word that is remembered: few words of prose are longer, and what is kept of one may be twenty times its size."""

Value = TypeVar("Value")


class Remembered(dict[str, Value], Generic[Value]):
    """The words of late; `_before` are those before them, at most half of `words_max` each."""

    __slots__ = ("_before", "_half", "_of")

    def __init__(self, of: Callable[[str], Value], words_max: int) -> None:
        self._of = of
        self._half = words_max // 2
        self._before: dict[str, Value] = {}

    def __missing__(self, word: str) -> Value:
        if len(word) > REMEMBERED_CHARS_MAX:
            return self._of(word)
        before = self._before
        value = before[word] if word in before else self._of(word)
        if len(self) >= self._half:
            self._before = dict(self)
            self.clear()
        self[word] = value
        return value


def remembered(words_max: int) -> Callable[[Callable[[str], Value]], Callable[[str], Value]]:
    """Decorates a pure function of one word: at most `words_max` of its values are kept."""

    def decorate(of: Callable[[str], Value]) -> Callable[[str], Value]:
        return Remembered(of, words_max).__getitem__

    return decorate
