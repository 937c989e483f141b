"""Values that are computed when they are first asked for, and kept with the object that they are of; and small sets
that many objects have, kept once.

Promises: `kept` is for frozen dataclasses without slots, whose fields it is computed from: the same whoever asks first.
`functools.cached_property` does that under a lock, at twice the cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Generic, Self, TypeVar, overload

__all__ = ["NOTHING", "kept", "shared"]

SHARED_WORDS_MAX = 2
SHARED_SETS_MAX = 16_384
SHARED_CHARS_MAX = 48
"""Sets of so few words, and so many of them, are kept once: one of its own takes 216 bytes, and most are empty. Of
longer words there are too many to keep any."""

NOTHING: frozenset[str] = frozenset()
"""The set without words."""

Value = TypeVar("Value")


class kept(Generic[Value]):  # noqa: N801 - it stands where property does
    """Decorates a method of no further arguments."""

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...

    def __get__(self, instance: object | None, owner: type) -> Self | Value:
        if instance is None:
            return self
        value = self._compute(instance)
        object.__setattr__(instance, self._name, value)
        return value


def shared(words: Iterable[str]) -> frozenset[str]:
    """The set of these words; of few words the same object, as long as it is remembered."""
    found = frozenset(words)
    if not found:
        return NOTHING
    if len(found) > SHARED_WORDS_MAX or sum(map(len, found)) > SHARED_CHARS_MAX:
        return found
    return _same(found)


@lru_cache(maxsize=SHARED_SETS_MAX)
def _same(words: frozenset[str]) -> frozenset[str]:
    return words
