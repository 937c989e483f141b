"""Takes what is meant for Spillway out of an answer while it is written: "CONFIDENCE: N" lines and "[ESCALATE]".

Promises: pure; what comes out does not depend on how the text was cut into pieces, and no such marker is in it. Only a
tail that may be the beginning of a marker is held back: white space at the end, a line that begins like one (at most
`MARKER_CHARS_MAX` characters; a longer one is none), a bracket. Everything else leaves at once and unchanged.
"""

from __future__ import annotations

import re
from typing import Final

from services.executor.gates import self_confidence

__all__ = ["MARKER_CHARS_MAX", "StreamFilter"]

MARKER_CHARS_MAX: Final = 120
_ESCALATE: Final = "[ESCALATE]"
_ESCALATE_AT_START: Final = re.compile(r"[ \t*_`>#]{0,12}\[ESCALATE\][*_`]{0,4}")
_AFTER_ESCALATE: Final = re.compile(r"[\s*_`.]{0,12}\Z")
_WORD: Final = "CONFIDENCE"
_MARKS: Final = " \t\r*_`#>~[]()\"'-"  # what may stand before a marker on its line
_TAIL_BEGINS: Final = re.compile(rf"[ \t*_`#>(\[]{{0,12}}(?<!\w){_WORD}")
_TAIL_MAY_BEGIN: Final = re.compile(
    rf"[ \t*_`#>(\[]{{0,12}}(?<!\w)(?:{'|'.join(_WORD[:n] for n in range(len(_WORD) - 1, 0, -1))})?\Z"
)
_FENCE: Final = re.compile(r"[ \t]*```[a-z]*[ \t]*\Z")
_FENCE_MAY_BEGIN: Final = re.compile(r"[ \t]*`{1,3}[a-z]*[ \t]*\Z")
_SPACE_CHARS_MAX: Final = 4_096


class StreamFilter:
    """For one answer. `confidence`: whether the prompt asked for a line with the model's confidence."""

    def __init__(self, *, confidence: bool) -> None:
        self._confidence = confidence
        self._held = ""  # the end of the current line
        self._is_at_start = True  # whether it is the whole line so far
        self._before = ""  # the character before it
        self._fence = ""  # a line that opens a fence, perhaps around a marker alone
        self._is_in_code = False  # between fences: the next one closes
        self._closes_fence = False  # whether the next line may be the end of such a fence
        self._gap = ""  # what leaves only when something visible follows
        self._has_taken = False

    def feed(self, text: str) -> str:
        """What may leave now."""
        *lines, rest = (self._held + text).split("\n")
        out = ""
        for line in lines:
            out += self._whole_line(line, "\n")
            self._is_at_start, self._before = True, "\n"
        rest = self._held = self._without_escalate(rest, is_whole=False)
        keep_from = self._keep_from(rest)
        if keep_from:
            out += self._fence_first() + self._leave(rest[:keep_from])
            self._held, self._before = rest[keep_from:], rest[keep_from - 1]
            self._is_at_start = False
        return out

    def finish(self) -> str:
        """What is left at the end."""
        out = self._whole_line(self._held, "")
        self._held = ""
        if self._fence:
            out += self._fence_first()
        gap, self._gap = self._gap, ""
        return out if self._has_taken or _ESCALATE in gap else out + gap

    def _whole_line(self, line: str, end: str) -> str:
        """What leaves of a line that is complete."""
        line = self._without_escalate(line, is_whole=True)
        if self._is_at_start:
            if self._closes_fence and line.strip() == "```":
                self._closes_fence = False
                return ""
            self._closes_fence = False
            if self._confidence and len(line) <= MARKER_CHARS_MAX and self_confidence.is_line(line):
                self._has_taken = True
                if self._fence:
                    self._closes_fence, self._is_in_code, self._fence = True, False, ""
                return ""
            if self._confidence and end and _FENCE.match(line):
                first = self._fence_first()
                self._is_in_code = not self._is_in_code
                if self._is_in_code:
                    self._fence = line + end
                    return first
                return first + self._leave(line + end)
        if self._confidence:
            start = self_confidence.tail_start(self._before + line, len(self._before))
            if start is not None and len(line) - (start - len(self._before)) <= MARKER_CHARS_MAX:
                self._has_taken = True
                line = line[: start - len(self._before)]
                if self._is_at_start and self_confidence.is_line(line):
                    return ""
        return (self._fence_first() if line or end else "") + self._leave(line + end)

    def _without_escalate(self, line: str, *, is_whole: bool) -> str:
        """The line without the marks that it begins with; one that may not be complete yet is left."""
        while self._is_at_start and (marker := _ESCALATE_AT_START.match(line)):
            if not is_whole and marker.end() == len(line):
                break
            self._has_taken = True
            line = line[marker.end() :]
        return line

    def _keep_from(self, line: str) -> int:
        """From where on the beginning of a line has to be held back."""
        if self._is_at_start and len(line) <= MARKER_CHARS_MAX:
            bare = line.lstrip(_MARKS)
            if self._confidence and (_WORD.startswith(bare.upper()) or bare.upper().startswith(_WORD)):
                return 0
            if self._confidence and _FENCE_MAY_BEGIN.match(line):
                return 0
            if not bare or _may_be_escalate(line.lstrip(" \t*_`>#")):
                return 0
        keep_from = len(line)
        for length in range(min(len(_ESCALATE) - 1, len(line)), 0, -1):
            if line.endswith(_ESCALATE[:length]):
                keep_from = len(line) - length
                break
        if self._confidence:
            keep_from = min(keep_from, self._tail_from(line))
        return keep_from

    def _tail_from(self, line: str) -> int:
        text, offset = self._before + line, len(self._before)
        for begins in _TAIL_BEGINS.finditer(text, offset):
            if len(text) - begins.start() <= MARKER_CHARS_MAX:
                return begins.start() - offset
        may_begin = _TAIL_MAY_BEGIN.search(text, max(offset, len(text) - len(_WORD) - 12))
        return may_begin.start() - offset if may_begin else len(line)

    def _fence_first(self) -> str:
        fence, self._fence = self._fence, ""
        return self._leave(fence) if fence else ""

    def _leave(self, text: str) -> str:
        """`text` without what must wait for something visible to follow it."""
        text = self._gap + text
        at = text.rfind(_ESCALATE, max(0, len(text) - len(_ESCALATE) - 12))
        if at >= 0 and _AFTER_ESCALATE.match(text, at + len(_ESCALATE)):
            text, self._gap = text[:at], text[at:]
        else:
            self._gap = ""
        visible = text.rstrip()
        if len(text) - len(visible) <= _SPACE_CHARS_MAX:
            text, self._gap = visible, text[len(visible) :] + self._gap
        return text


def _may_be_escalate(bare: str) -> bool:
    return _ESCALATE.startswith(bare) or bare.startswith(_ESCALATE)
