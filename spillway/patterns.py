r"""Regular expressions from configuration and from callers' schemas, run in time linear in the text.

The engine is RE2: it does not backtrack, so no pattern can hold up the event loop. Promises: pure; `compile_pattern`
raises PatternError and nothing else; how long a text is read depends on the size of the pattern's program, so that
one search takes at most a fraction of a second. The syntax is RE2's: there is no look-around and there are no
back-references, \d \w \s mean ASCII, and $ is the very end of the text. Python's \Z and \uXXXX are understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import re2

__all__ = ["PATTERN_CHARS_MAX", "Pattern", "PatternError", "compile_pattern"]

PATTERN_CHARS_MAX: Final = 1_000
_MEMORY_BYTES_MAX: Final = 2 << 20  # of one pattern's program and its automata
_STATES_MAX: Final = 5_000
_TEXT_CHARS_MAX: Final = 100_000
_STEPS_MAX: Final = 20_000_000  # states times characters, where automata are of no help
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)


class PatternError(ValueError):
    """The pattern is none, or is too large."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern, the number of its states, and the longest text that it is given."""

    compiled: Any
    states: int
    text_chars_max: int

    def found_in(self, text: str) -> bool:
        """Whether it is found in the first `text_chars_max` characters of `text`."""
        # Half of a surrogate pair is no character, and nothing that a pattern could look for.
        readable = text[: self.text_chars_max].encode("utf-8", "replace")
        return self.compiled.search(readable) is not None


def compile_pattern(pattern: str) -> Pattern:
    """The pattern, ready to use. Raises PatternError."""
    if len(pattern) > PATTERN_CHARS_MAX:
        raise PatternError(f"longer than {PATTERN_CHARS_MAX} characters")
    try:
        compiled = re2.compile(_in_dialect(pattern).encode(), _options())
    except (re2.error, UnicodeEncodeError) as error:
        raise PatternError("not a regular expression of RE2's syntax, or too large") from error
    states = int(compiled.programsize)
    if states > _STATES_MAX:
        raise PatternError(f"more than {_STATES_MAX} states")
    return Pattern(compiled, states, min(_TEXT_CHARS_MAX, _STEPS_MAX // max(states, 1)))


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY_BYTES_MAX
    return options


def _in_dialect(pattern: str) -> str:
    """The pattern with the escapes that Python spells otherwise."""

    def spelt(match: re.Match[str]) -> str:
        if match[1]:
            return f"\\x{{{match[1]}}}"
        return r"\z" if match[2] == "Z" else match[0]

    return _ESCAPE.sub(spelt, pattern)
