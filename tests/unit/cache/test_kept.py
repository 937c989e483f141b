"""Values that are computed once, and readings whose parts are."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from random import Random

import pytest

from services.cache.matching.kept import NOTHING, kept, shared
from services.cache.matching.reading import Reading, read
from services.cache.matching.traits import Traits

PARTS = [name for name, value in vars(Reading).items() if isinstance(value, kept)]
TRAITS = [name for name, value in vars(Traits).items() if isinstance(value, kept)]
TEXT = "Why can't I NOT move 3 files from Paris to 'the last' disk? My wife's laptop_x is unable to."


@dataclass(frozen=True)
class Squared:
    number: int
    log: list[int]

    @kept
    def square(self) -> int:
        """Of the number."""
        self.log.append(self.number)
        return self.number**2


def test_a_kept_value_is_computed_once_for_each_object_and_not_before_it_is_asked_for() -> None:
    log: list[int] = []
    two, three = Squared(2, log), Squared(3, log)
    assert log == []
    assert (three.square, two.square, three.square) == (9, 4, 9)
    assert log == [3, 2]
    assert Squared.square.__doc__ == "Of the number."
    with pytest.raises(FrozenInstanceError):
        two.number = 5  # type: ignore[misc]


def test_small_sets_are_shared_and_large_ones_are_equal() -> None:
    assert shared(["a", "b"]) is shared(["b", "a", "b"])
    assert shared([]) is NOTHING
    assert shared("abcde") == frozenset("abcde")


@pytest.mark.parametrize("seed", range(5))
def test_a_reading_says_the_same_in_whatever_order_it_is_asked(seed: int) -> None:
    in_order, shuffled = read(TEXT), read(TEXT)
    parts, traits = list(PARTS), list(TRAITS)
    Random(seed).shuffle(parts)
    Random(seed).shuffle(traits)
    said = {name: getattr(shuffled, name) for name in parts}
    told = {name: getattr(shuffled.traits, name) for name in traits}
    assert said == {name: getattr(in_order, name) for name in PARTS}
    assert told == {name: getattr(in_order.traits, name) for name in TRAITS}
