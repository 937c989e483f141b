"""Groups of what is linked, directly or through others (disjoint sets). Pure and deterministic."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

__all__ = ["Joined"]

T = TypeVar("T", bound=Hashable)


class Joined(Generic[T]):
    """Each of `items` is a group of its own at first; what is named later is as well."""

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._parent = {item: item for item in items}

    def root(self, item: T) -> T:
        """The one that stands for the item's group; it changes when groups are joined."""
        parent = self._parent
        parent.setdefault(item, item)
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    def join(self, one: T, other: T) -> None:
        """Makes their groups one, for which that of `other` stands."""
        first, second = self.root(one), self.root(other)
        self._parent[first] = second

    def items(self) -> list[T]:
        """All, in the order in which they were first named."""
        return list(self._parent)
