"""What rules may look at in one request before any model runs.

Promises: pure; each fact is computed when a rule first asks for it, once; the time comes in.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final

from services.orchestrator.policy.rough import has_code_marks
from spillway.chat import ImagePart
from spillway.routing import CompletionRequest
from spillway.settings import WeekTime
from spillway.settings.week import holds_at, minute_of_week, zone

__all__ = ["CHARS_PER_TOKEN", "Facts", "matches_endpoint"]

# What a rule calls a token: an estimate that does not depend on the model.
CHARS_PER_TOKEN: Final = 4
# From this code point on (Thai, CJK, Hangul, ...) scripts do not put spaces around words: a keyword is found anywhere.
_UNSPACED_SCRIPTS_FROM: Final = "\u0e00"


class Facts:
    """The facts of one request that came in at `received_at_unix_s`."""

    def __init__(self, request: CompletionRequest, received_at_unix_s: float = 0.0) -> None:
        self.request = request
        self._received_at_unix_s = received_at_unix_s

    @cached_property
    def input_chars(self) -> int:
        """Characters of text in all messages."""
        return sum(len(message.text) for message in self.request.chat.messages)

    @property
    def input_tokens(self) -> int:
        """An estimate of as many tokens, rounded up."""
        return -(-self.input_chars // CHARS_PER_TOKEN)

    @cached_property
    def has_images(self) -> bool:
        """Whether any message has a picture."""
        return any(isinstance(part, ImagePart) for m in self.request.chat.messages for part in m.parts)

    @cached_property
    def has_code(self) -> bool:
        """Whether the last user turn has source code in it."""
        return has_code_marks(self.request.chat.last_user_text)

    def has_keyword(self, word: str) -> bool:
        """Whether the last user turn has the word (or phrase) in it, in any case, not as a part of a longer word."""
        return _has_word(self._folded_last_turn, word.casefold())

    def is_at(self, part: WeekTime) -> bool:
        """Whether the request came in then. Raises ValueError for an unknown time zone."""
        return holds_at(part, minute_of_week(self._received_at_unix_s, zone(part.timezone)))

    @cached_property
    def _folded_last_turn(self) -> str:
        return self.request.chat.last_user_text.casefold()


def matches_endpoint(pattern: str, endpoint: str) -> bool:
    """Equal, or a prefix when the pattern ends with `*`."""
    if pattern.endswith("*"):
        return endpoint.startswith(pattern[:-1])
    return endpoint == pattern


def _has_word(text: str, word: str) -> bool:
    """Whether `word` (or a phrase) stands in `text`, not as a part of a longer word. Both are case-folded."""
    if not word:
        return False
    unspaced = any(char >= _UNSPACED_SCRIPTS_FROM for char in word)
    at = text.find(word)
    while at >= 0:
        end = at + len(word)
        starts = not word[0].isalnum() or at == 0 or not text[at - 1].isalnum()
        ends = not word[-1].isalnum() or end == len(text) or not text[end].isalnum()
        if unspaced or (starts and ends):
            return True
        at = text.find(word, at + 1)
    return False
