"""Whose answer an entry has: the name of its group.

Promises: pure. A name stands for one answer under one key: who stores another answer there begins another group, and
those that share the old answer keep its name. Nothing of the answer can be read off a name, nor a guess be checked
against it, without the secret.
"""

from __future__ import annotations

import hashlib
from typing import Final

from services.cache.entry import Answer, Entry, Question

__all__ = ["SECRET_BYTES", "founded_group", "group_of"]

SECRET_BYTES: Final = 32

KEY_DIGITS: Final = 36
"""Of the key, its first: the bucket and 128 bits. With as many of the answer's digest a name is as long as a key."""


def group_of(entry: Entry | Question) -> str:
    """The group of that entry. One that was stored without, as all firsts of a group once were, is its own key's."""
    return entry.group or entry.key


def founded_group(key: str, answer: Answer, *, secret: bytes) -> str:
    """The group that an entry begins whose answer nobody else is known to have: the same for the same answer.

    `secret`: SECRET_BYTES that nobody learns. With another one, the same answer begins another group.
    """
    calls = [(call.name, call.arguments_json) for call in answer.message.tool_calls]
    said = repr((answer.message.text, calls)).encode()  # as it escapes lone surrogates, any text passes
    return key[:KEY_DIGITS] + hashlib.blake2b(said, key=secret, digest_size=16).hexdigest()
