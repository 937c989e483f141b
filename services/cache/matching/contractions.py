"""What is denied in a contraction, written as its words: "doesn't" and "does not", "can't", "cannot" and "can not".
English.

Promises: pure, total, linear; a closed list, by whole words, with or without the apostrophe. For the guards alone: the
pair model was fitted without it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from re import Match
from typing import Final

from services.cache.matching.lexicon import word_set

__all__ = ["without_contractions"]

_DENIED: Final = word_set("""
    is are was were do does did has have had would could should must need might
""")
_IRREGULAR: Final = {"won": "will", "can": "can", "shan": "shall"}
_VERBS: Final = {verb + "n": verb for verb in _DENIED} | _IRREGULAR
_CONTRACTED: Final = frozenset(f"{verb}t" for verb in _VERBS) | {"cannot", "unable"}

_PERSON: Final = r"(?:i|you|we|they|he|she|it|there)\b|(?:my|your|our|his|her|their|the|this|that|an?) [^\W\d_]+\b"
_NEGATED: Final = re.compile(
    rf"(?P<opening>\A|[.,?!;:] |\b(?:why|how|when|where|and|but|or) )?"
    rf"\b(?:(?P<verb>{'|'.join(sorted(_VERBS))})'?t|cannot)\b(?P<person>(?(opening) (?:{_PERSON})|(?!)))?",
    re.IGNORECASE,
)
_UNABLE: Final = re.compile(r"\bunable(?= to\b)", re.IGNORECASE)


def without_contractions(text: str, words: Sequence[str]) -> str:
    """The text with "not" as a word of its own, behind whoever the contraction stands before where it opens a clause
    ("why can I not log in"). `words`: its words in lower case and without apostrophes."""
    if _CONTRACTED.isdisjoint(words):
        return text
    return _UNABLE.sub("not able", _NEGATED.sub(_written, text))


def _written(found: Match[str]) -> str:
    verb = _VERBS[found["verb"].lower()] if found["verb"] else "can"
    opening = found["opening"] or ""
    if found[0].removeprefix(opening)[0].isupper():
        verb = verb.capitalize()
    return f"{opening}{verb}{found['person'] or ''} not"
