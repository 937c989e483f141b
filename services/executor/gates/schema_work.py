"""How much work a JSON Schema can make of an answer, told before the work is done.

A validator that follows every reference can be made to work for ever by a hundred bytes of schema. What it may do is
counted here instead: how often each node of an answer can be visited, by its depth, from the graph of the schema's
parts. Promises: pure; linear in the schema for each level of the answer; raises UnboundedError for references that
lead nowhere, leave the schema, go round without descending, or expand beyond any use. The count is an upper bound: of
alternatives all are counted.

One unit is about 30 ns of the validator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from spillway.patterns import PATTERN_CHARS_MAX, PatternError, compile_pattern

__all__ = ["SchemaWork", "UnboundedError"]

_UNITS_MAX: Final = 10_000_000  # counts stop here
_PART_UNITS_MAX: Final = 100_000  # what one node of an answer may cost
_IN_PLACE_DEPTH_MAX: Final = 100  # the validator recurses on it, and a stack overflow ends the process
_STATES_MAX: Final = 20_000  # of all patterns together: they cost when they are compiled, too
_STATES_UNKNOWN: Final = 2_000  # of a pattern that only the validator can read
_STATES_A_UNIT: Final = 20  # so many states cost a unit for each character, at worst
_CHARS_A_NODE: Final = 64  # scanned in the time of one visit
_MULTIPLE_UNITS: Final = 500  # exact division of numbers with long exponents
_REFUSED: Final = ("$dynamicRef", "$recursiveRef")
_IN_PLACE: Final = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies")
_UNEVALUATED: Final = ("unevaluatedProperties", "unevaluatedItems")
# Of these, one applies to a value of an object, or of an array; of the others all may.
_ONE_OF_VALUES: Final = ("properties", "additionalProperties", "unevaluatedProperties")
_ONE_OF_ITEMS: Final = ("prefixItems", "items", "unevaluatedItems", "additionalItems")
_NEVER_APPLIED: Final = ("$defs", "definitions", "contentSchema")
_BELOW: Final = (*_ONE_OF_VALUES, "patternProperties", "propertyNames", *_ONE_OF_ITEMS, "contains")
_SUBSCHEMAS: Final = frozenset({*_IN_PLACE, *_BELOW, *_NEVER_APPLIED})
_MAPS: Final = frozenset(
    {"properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions"}
)


class UnboundedError(ValueError):
    """The schema cannot be used. The message is fit for the caller."""


@dataclass(slots=True)
class _Part:
    """One schema within the schema: what it costs by itself, and where it goes on (numbers of parts)."""

    units: int = 1
    states: int = 0  # of patterns for the value itself
    name_states: int = 0  # of patterns for the names of its properties
    is_unique: bool = False
    looks_back: bool = False  # asks which children the parts in place have evaluated
    in_place: list[int] = field(default_factory=list)
    below: dict[str, list[int]] = field(default_factory=dict)


class SchemaWork:
    """The work that one schema can make. Raises UnboundedError at construction."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._parts: list[_Part] = []
        self._numbers: dict[int, int] = {}  # by the identity of the dictionary, which `_schema` keeps alive
        self._anchors: dict[str, dict[str, Any]] = {}
        self._states_left = _STATES_MAX
        self._has_inner_id = False
        self._dictionaries: list[dict[str, Any]] = []  # by number
        self._collect()
        self._order = self._in_place_order()
        self._nodes: list[list[int]] = []  # by depth: units that one node may cost, for each part
        self._chars: list[list[int]] = []  # and one character
        if self.node_units(0) > _PART_UNITS_MAX:
            raise UnboundedError("the schema expands to too many parts")
        # Whether the validator would collect the errors of alternatives.
        self.branches = any("anyOf" in part or "oneOf" in part for part in self._dictionaries)

    def units(self, document: object, units_max: int) -> int:
        """What the check of `document` can cost; more than `units_max` is told as `units_max` + 1."""
        total = 0
        level: list[Any] = [document]
        depth = 0
        while level and total <= units_max:
            chars = 0
            below: list[Any] = []
            for value in level:
                if isinstance(value, str):
                    chars += len(value)
                elif isinstance(value, dict):
                    below.extend(value)  # names are checked, too
                    below.extend(value.values())
                elif isinstance(value, list):
                    below.extend(value)
            total += (len(level) + chars // _CHARS_A_NODE) * self.node_units(depth) + chars * self._char_units(depth)
            level = below
            depth += 1
        return min(total, units_max + 1)

    def node_units(self, depth: int) -> int:
        """What one node at `depth` can cost."""
        return self._at(self._nodes, depth, self._own_node_units)

    def _char_units(self, depth: int) -> int:
        states = self._at(self._chars, depth, self._own_states)
        return -(-states // _STATES_A_UNIT)

    def _at(self, levels: list[list[int]], depth: int, own: Callable[[_Part, int], int]) -> int:
        while len(levels) <= depth:
            levels.append(self._next(levels[-1] if levels else [0] * len(self._parts), len(levels), own))
        return levels[depth][0]

    def _next(self, above: Sequence[int], depth: int, own: Callable[[_Part, int], int]) -> list[int]:
        """For each part: what a node so deep below the one that it applies to can cost."""
        checked = [0] * len(self._parts)
        marked = [0] * len(self._parts)  # by a part that looks back at what this one has evaluated
        for number in self._order:
            part = self._parts[number]
            here = own(part, depth) + (_below(part, above) if depth else 0)
            looked = sum(checked[inner] + marked[inner] for inner in part.in_place)
            plain = sum(checked[inner] for inner in part.in_place)
            checked[number] = min(here + plain + (looked if part.looks_back else 0), _UNITS_MAX)
            marked[number] = min(here + looked, _UNITS_MAX)
        return checked

    @staticmethod
    def _own_node_units(part: _Part, depth: int) -> int:
        return part.units if depth == 0 else int(part.is_unique)

    @staticmethod
    def _own_states(part: _Part, depth: int) -> int:
        return part.states if depth == 0 else part.name_states if depth == 1 else 0

    def _collect(self) -> None:
        """Finds all parts and where they lead."""
        self._number(self._schema)
        done = 0
        references: list[tuple[int, str]] = []
        while done < len(self._dictionaries) or references:
            if done < len(self._dictionaries):
                reference = self._read(done)
                if reference is not None:
                    references.append((done, reference))
                done += 1
            else:  # only now are all anchors known; what is referred to may be a part that was not met before
                number, reference = references.pop()
                target = self._resolve(reference)
                if isinstance(target, dict):
                    self._parts[number].in_place.append(self._number(target))

    def _number(self, dictionary: dict[str, Any]) -> int:
        number = self._numbers.get(id(dictionary))
        if number is None:
            number = self._numbers[id(dictionary)] = len(self._parts)
            self._parts.append(_Part())
            self._dictionaries.append(dictionary)
        return number

    def _read(self, number: int) -> str | None:
        """Fills in the part; returns its reference."""
        dictionary, part = self._dictionaries[number], self._parts[number]
        if any(keyword in dictionary for keyword in _REFUSED):
            raise UnboundedError("$dynamicRef and $recursiveRef are not supported")
        self._has_inner_id = self._has_inner_id or (number > 0 and "$id" in dictionary)
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(dictionary.get(keyword), str):
                self._anchors[dictionary[keyword]] = dictionary
        for keyword, value in dictionary.items():
            if keyword not in _SUBSCHEMAS:
                part.units += _size(value)
                continue
            inner = list(_inner(keyword, value))
            part.units += 1 + len(inner)
            numbers = [self._number(schema) for schema in inner if isinstance(schema, dict)]
            if keyword in _IN_PLACE:
                part.in_place.extend(numbers)
            elif keyword not in _NEVER_APPLIED:
                part.below[keyword] = numbers
        part.units += _MULTIPLE_UNITS * ("multipleOf" in dictionary)
        part.is_unique = dictionary.get("uniqueItems") is True
        part.looks_back = any(keyword in dictionary for keyword in _UNEVALUATED)
        if isinstance(dictionary.get("pattern"), str):
            part.states = self._states(dictionary["pattern"])
        if isinstance(dictionary.get("patternProperties"), dict):
            part.name_states = sum(self._states(pattern) for pattern in dictionary["patternProperties"])
        reference = dictionary.get("$ref")
        return reference if isinstance(reference, str) else None

    def _states(self, pattern: str) -> int:
        if len(pattern) > PATTERN_CHARS_MAX:
            raise UnboundedError(f"a pattern is longer than {PATTERN_CHARS_MAX} characters")
        try:
            states = compile_pattern(pattern).states
        except PatternError:
            states = _STATES_UNKNOWN  # the validator's dialect differs a little, and has the last word
        self._states_left -= states
        if self._states_left < 0:
            raise UnboundedError("the patterns are too large")
        return states

    def _resolve(self, reference: str) -> object:
        if not reference.startswith("#"):
            raise UnboundedError("a $ref must stay inside the schema")
        if self._has_inner_id:
            raise UnboundedError("a $ref in a schema with an $id below its root is not supported")
        pointer = unquote(reference[1:])
        if pointer and not pointer.startswith("/"):
            if pointer not in self._anchors:
                raise UnboundedError("a $ref points nowhere inside the schema")
            return self._anchors[pointer]
        found: Any = self._schema
        for step in pointer.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isascii() and name.isdigit() and int(name[:9]) < len(found):
                found = found[int(name[:9])]
            else:
                raise UnboundedError("a $ref points nowhere inside the schema")
        if not isinstance(found, (dict, bool)):
            raise UnboundedError("a $ref points to what is no schema")
        return found

    def _in_place_order(self) -> list[int]:
        """All parts, each behind those that apply to the same value through it."""
        height = [0] * len(self._parts)  # 0: not met; -1: on the way
        order: list[int] = []
        for start in range(len(self._parts)):
            stack = [start] if not height[start] else []
            while stack:
                number = stack[-1]
                inner = self._parts[number].in_place
                if height[number] == 0:
                    height[number] = -1
                    if any(height[other] == -1 for other in inner):
                        raise UnboundedError("a $ref leads back to itself")
                    stack.extend(other for other in inner if not height[other])
                    continue
                stack.pop()
                if height[number] == -1:
                    if any(height[other] == -1 for other in inner):
                        raise UnboundedError("a $ref leads back to itself")
                    height[number] = 1 + max((height[other] for other in inner), default=0)
                    if height[number] > _IN_PLACE_DEPTH_MAX:
                        raise UnboundedError("references follow one another too often")
                    order.append(number)
        return order


def _below(part: _Part, above: Sequence[int]) -> int:
    """What a child of a value can cost a level further down."""

    def largest(keywords: Sequence[str]) -> int:
        return max((above[n] for keyword in keywords for n in part.below.get(keyword, ())), default=0)

    def total(keyword: str) -> int:
        return sum(above[n] for n in part.below.get(keyword, ()))

    value = largest(_ONE_OF_VALUES) + total("patternProperties") + total("propertyNames")
    return max(value, largest(_ONE_OF_ITEMS) + total("contains"))


def _inner(keyword: str, value: object) -> Iterator[object]:
    """The schemas that stand directly under a keyword."""
    if keyword in _MAPS:
        yield from value.values() if isinstance(value, dict) else ()
    elif isinstance(value, list):
        yield from value
    else:
        yield value


def _size(value: object) -> int:
    """How many values there are in `value`, itself counted."""
    count = 0
    stack = [value]
    while stack:
        found = stack.pop()
        count += 1
        if isinstance(found, dict):
            stack.extend(found.values())
        elif isinstance(found, list):
            stack.extend(found)
    return count
