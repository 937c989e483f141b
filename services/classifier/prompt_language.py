"""Which language the last user turn is in, as far as it can be told. Pure.

Promises: says nothing when unsure, which of a turn of a few words is often. What is asked counts before the material
that it is asked about: "Summarise this:" above a German text is English. Beyond `spillway.language`, Arabic and Hindi
are told by their script: a turn in it without the letters that only Persian and Urdu have is taken for Arabic, one in
Devanagari for Hindi.
"""

from __future__ import annotations

import re
from typing import Final

from services.classifier.turn import Turn
from spillway.language import detect, is_written_in

__all__ = ["turn_language"]

_NOT_ARABIC: Final = re.compile("[پچژگکیےٹڈڑں]")


def turn_language(turn: Turn) -> str:
    """ISO 639-1, or empty."""
    return _language(turn.question) or _language(turn.context)


def _language(text: str) -> str:
    found = detect(text)
    if found is not None:
        return found
    if not any(char.isalpha() for char in text):
        return ""
    if is_written_in(text, "ar"):
        return "" if _NOT_ARABIC.search(text) else "ar"
    return "hi" if is_written_in(text, "hi") else ""
