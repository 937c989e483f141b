"""A YAML file as plain data in which every place knows its line.

Promises: only what JSON could say comes out (no tags, no merge keys, keys are text), in bounds of size, depth and
number of values, so that a file full of aliases ends early; keys given twice and variables without a value are errors.
What is wrong in one place does not hide what is wrong in another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

__all__ = ["BYTES_MAX", "DEPTH_MAX", "VALUES_MAX", "Document", "Place", "Problem", "parse", "path_text"]

BYTES_MAX: Final = 1_048_576
DEPTH_MAX: Final = 32
VALUES_MAX: Final = 50_000
PROBLEMS_MAX: Final = 100

Place = tuple[str | int, ...]

_VARIABLE: Final = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{")
_PLAIN_TAGS: Final = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null"))


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at a path, e.g. "tiers[0].name"; `line` counts from 1, 0 means the whole file."""

    line: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


@dataclass(slots=True)
class Document:
    """The data, the line of every place in it, and what was wrong so far."""

    data: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, place: Place) -> int:
        """The line of `place`, or of the nearest place around it that stands in the file."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 0)

    def add(self, place: Place, message: str) -> None:
        """Notes a problem; one per place and message, and no more than PROBLEMS_MAX."""
        problem = Problem(self.line(place), path_text(place), message)
        if problem not in self.problems and len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)


def path_text(place: Place) -> str:
    """ "tiers[0].targets[1].provider"."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class _TooMuchError(Exception):
    """A bound is passed; reading on makes no sense."""


def parse(raw: bytes, environment: Mapping[str, str]) -> Document:
    """Reads `raw`, with `${NAME}` and `${NAME:-default}` in text filled from `environment`; `$$` is a plain `$`.

    Never raises: what is wrong is in `problems`, and `data` is what could be read.
    """
    document = Document()
    if len(raw) > BYTES_MAX:
        document.add((), f"the file is larger than {BYTES_MAX} bytes")
        return document
    try:
        root = yaml.compose(raw.decode("utf-8"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError:
        document.add((), "the file is not UTF-8")
    except RecursionError:
        document.add((), f"the file is nested more than {DEPTH_MAX} levels deep")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        document.problems.append(Problem(mark.line + 1 if mark else 0, "", f"no YAML: {error.problem}"))
    except yaml.YAMLError as error:
        document.add((), f"no YAML: {type(error).__name__}")
    else:
        if root is None:
            document.add((), "the file is empty")
            return document
        try:
            document.data = _Reader(document, environment).read(root, ())
        except _TooMuchError as error:
            document.add((), str(error))
    return document


class _Reader:
    """Turns nodes into data. Aliases are read where they are used, so the bounds count what they expand to."""

    def __init__(self, document: Document, environment: Mapping[str, str]) -> None:
        self._document = document
        self._environment = environment
        self._scalars = yaml.constructor.SafeConstructor()
        self._values = 0

    def read(self, node: yaml.Node, place: Place) -> Any:
        self._values += 1
        if self._values > VALUES_MAX:
            raise _TooMuchError(f"the file has more than {VALUES_MAX} values, aliases counted where they are used")
        if len(place) > DEPTH_MAX:
            raise _TooMuchError(f"the file is nested more than {DEPTH_MAX} levels deep")
        self._document.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.read(child, (*place, i)) for i, child in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        self._document.add(place, "has a tag; only plain values are allowed")
        return None

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                line = key_node.start_mark.line + 1
                self._document.problems.append(Problem(line, path_text(place), "has a key that is not text"))
                continue
            key: str = key_node.value
            if key in data:
                line = key_node.start_mark.line + 1
                first = self._document.lines[(*place, key)]
                message = f"is given twice, first in line {first}"
                self._document.problems.append(Problem(line, path_text((*place, key)), message))
                continue
            self._document.lines[(*place, key)] = key_node.start_mark.line + 1
            data[key] = self.read(value_node, (*place, key))
        return data

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        if node.tag == "tag:yaml.org,2002:str":
            return self._filled(node.value, place)
        if node.tag in _PLAIN_TAGS:
            try:
                return self._scalars.construct_object(node)
            except (ValueError, yaml.YAMLError):
                self._document.add(place, "is no value of its kind")
                return None
        if node.tag == "tag:yaml.org,2002:timestamp":
            return node.value
        self._document.add(place, "has a tag; only plain values are allowed")
        return None

    def _filled(self, text: str, place: Place) -> str:
        def value(match: re.Match[str]) -> str:
            if match[0] == "$$":
                return "$"
            name, default = match[1], match[2]
            if name is None:
                self._document.add(place, "has a ${ that is no variable; write $${ for a plain one")
                return ""
            found = self._environment.get(name, "")
            if found:
                return found
            if default is None:
                self._document.add(place, f"needs the environment variable {name}, which is not set")
                return ""
            return default

        return _VARIABLE.sub(value, text)
