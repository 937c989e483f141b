"""Regular expressions from configuration and from callers' schemas, made safe to run in the event loop.

Python's `re` backtracks and cannot be stopped, so a pattern is refused unless its time is bounded by its form, and
the text that it may be given is bounded too. Promises: pure; `compile_pattern` raises PatternError and nothing else.
Refused: look-behind and look-ahead, back-references, more than `_REPEATS_MAX` open repeats, and a repeat of varying
length inside another one, unless each round must begin or end with a character that the inner repeat cannot match
("(-[a-z]+)*" may be used, "(a+)+" may not). The more open repeats, the shorter the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from re import _constants as sre  # type: ignore[attr-defined]  # the parser has no public name since 3.11
from re import _parser  # type: ignore[attr-defined]
from typing import Any, Final

__all__ = ["PATTERN_CHARS_MAX", "Pattern", "PatternError", "compile_pattern"]

PATTERN_CHARS_MAX: Final = 1_000
_REPEATS_MAX: Final = 6
_OPEN_FROM: Final = 32  # a repeat of at least so many rounds counts as open
_TEXT_CHARS_MAX: Final = {0: 100_000, 1: 20_000, 2: 4_000}  # by open repeats; more of them:
_TEXT_CHARS_MAX_OTHERWISE: Final = 500
# Characters that stand for all when sets are compared: ASCII and a few of other kinds.
_SAMPLE: Final = frozenset([*map(chr, range(128)), "\u00a0", "é", "ß", "Ω", "я", "א", "漢", "٣", "\u2028", "😀"])
_REPEATS: Final = frozenset({sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT})
_SINGLES: Final = frozenset({sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN})
_REFUSED: Final = frozenset({sre.ASSERT, sre.ASSERT_NOT, sre.GROUPREF, sre.GROUPREF_EXISTS})


class PatternError(ValueError):
    """The pattern is none, or may take too long."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern, and the longest text that it is given."""

    compiled: re.Pattern[str]
    text_chars_max: int

    def found_in(self, text: str) -> bool:
        """Whether it is found in the first `text_chars_max` characters of `text`."""
        return self.compiled.search(text[: self.text_chars_max]) is not None


def compile_pattern(pattern: str) -> Pattern:
    """The pattern, ready to use. Raises PatternError."""
    if len(pattern) > PATTERN_CHARS_MAX:
        raise PatternError(f"longer than {PATTERN_CHARS_MAX} characters")
    try:
        tree = _parser.parse(pattern)
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternError("not a regular expression") from error
    repeats = _open_repeats(tree)
    if repeats > _REPEATS_MAX:
        raise PatternError(f"more than {_REPEATS_MAX} open repeats")
    return Pattern(compiled, _TEXT_CHARS_MAX.get(repeats, _TEXT_CHARS_MAX_OTHERWISE))


def _open_repeats(items: Iterable[Any]) -> int:
    """How many open repeats there are. Raises PatternError for what is refused."""
    count = 0
    for operation, argument in items:
        if operation in _REFUSED:
            raise PatternError("look-around and back-references are not supported")
        if operation in _REPEATS:
            least, most, body = argument
            inner = list(body)
            if most > 1:
                _check_rounds(inner)
            count += _open_repeats(inner) + (most >= _OPEN_FROM and most != least)
        else:
            count += sum(_open_repeats(child) for child in _children(operation, argument))
    return count


def _check_rounds(body: list[Any]) -> None:
    """Refuses a repeated body that could be cut into rounds in many ways."""
    flat = _flatten(body)
    varying = [_sample(item[1][2]) for item in flat if item[0] in _REPEATS and item[1][0] != item[1][1]]
    branches = [item for item in flat if item[0] is sre.BRANCH]
    for _, (_, alternatives) in branches:
        firsts = [_sample(list(alternative)[:1]) for alternative in alternatives]  # of an empty one: nothing
        if any(one & other for index, one in enumerate(firsts) for other in firsts[:index]):
            raise PatternError("alternatives inside a repeat must begin with different characters")
        empty = sum(not list(alternative) for alternative in alternatives)
        if empty > 1:
            raise PatternError("alternatives inside a repeat must differ")
        if empty:  # then it is an optional piece, such as the parser makes of "a|ab"
            varying.append(frozenset().union(*firsts))
        if any(_varies(list(alternative)) for alternative in alternatives):
            raise PatternError("a repeat inside an alternative inside a repeat")
    if not varying or len(flat) == 0:
        return
    anchors = [_sample([item]) for item in (flat[0], flat[-1]) if item[0] in _SINGLES]
    if not any(all(not anchor & inner for inner in varying) for anchor in anchors):
        raise PatternError("a repeat inside a repeat")


def _varies(items: list[Any]) -> bool:
    return any(
        (operation in _REPEATS and argument[0] != argument[1])
        or any(_varies(list(child)) for child in _children(operation, argument))
        for operation, argument in items
    )


def _flatten(items: Iterable[Any]) -> list[Any]:
    """The items with groups opened."""
    flat: list[Any] = []
    for operation, argument in items:
        if operation is sre.SUBPATTERN:
            flat.extend(_flatten(argument[3]))
        elif operation is sre.ATOMIC_GROUP:
            flat.extend(_flatten(argument))
        else:
            flat.append((operation, argument))
    return flat


def _children(operation: Any, argument: Any) -> list[Any]:
    if operation is sre.SUBPATTERN:
        return [argument[3]]
    if operation is sre.ATOMIC_GROUP:
        return [argument]
    if operation is sre.BRANCH:
        return list(argument[1])
    if operation in _REPEATS:
        return [argument[2]]
    return []


def _sample(items: Iterable[Any]) -> frozenset[str]:
    """The sample characters that any single item in `items` may match; all of them where that is not plain."""
    found: set[str] = set()
    for operation, argument in items:
        if operation is sre.AT:
            continue
        if operation not in _SINGLES:
            children = _children(operation, argument)
            if not children:
                return _SAMPLE
            for child in children:
                found |= _sample(child)
        elif operation is sre.LITERAL:
            # Case may be folded by a flag: both cases count. A character outside the sample stands for itself.
            found |= {chr(argument), chr(argument).lower(), chr(argument).upper()}
        elif operation is sre.NOT_LITERAL:
            found |= _SAMPLE - {chr(argument)}
        elif operation is sre.ANY:
            found |= _SAMPLE
        else:
            found |= _in_set(argument)
    return frozenset(found)


def _in_set(members: list[Any]) -> frozenset[str]:
    negate = bool(members) and members[0][0] is sre.NEGATE
    found: set[str] = set()
    for operation, argument in members[negate:]:
        if operation is sre.LITERAL:
            found |= {chr(argument), chr(argument).lower(), chr(argument).upper()}
        elif operation is sre.RANGE:
            inside = {char for char in _SAMPLE if argument[0] <= ord(char) <= argument[1]}
            found |= inside | {char.swapcase() for char in inside} | {chr(argument[0]), chr(argument[1])}
        else:
            found |= _category(argument)
    return frozenset(_SAMPLE - found) if negate else frozenset(found)


def _category(category: Any) -> frozenset[str]:
    letter = {
        sre.CATEGORY_DIGIT: r"\d",
        sre.CATEGORY_NOT_DIGIT: r"\D",
        sre.CATEGORY_SPACE: r"\s",
        sre.CATEGORY_NOT_SPACE: r"\S",
        sre.CATEGORY_WORD: r"\w",
        sre.CATEGORY_NOT_WORD: r"\W",
    }.get(category)
    return frozenset(char for char in _SAMPLE if letter is None or re.match(letter, char))
