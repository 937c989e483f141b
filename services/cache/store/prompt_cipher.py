"""Questions, answers and vectors that nobody can read who has the store, and not the keys: AES-256-GCM.

Promises: what is sealed is bound to its place (the entry's key, the part of it, the layout's version), so that it opens
nowhere else; what does not open is None, and counted; several keys open, the first one seals, which is how a key is
replaced. No key is ever part of an error's text.

Each place has a key of its own, drawn from the first by BLAKE2b: random nonces of 96 bits are good for 2^32 messages
under one key (NIST SP 800-38D, 8.3), which a busy cache would reach within months.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["KEYS_MAX", "PromptCipher", "PromptKeyError", "parse_prompt_keys"]

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16

KEYS_MAX = 16
"""Keys in one file: the one in use, and those that entries still live under."""

_MARK = b"\xff"
"""Begins what is sealed: no text begins so, in UTF-8."""

_KEY_ID_BYTES = 4
_HEAD_BYTES = len(_MARK) + _KEY_ID_BYTES + NONCE_BYTES
_PERSON = b"spillway.cache/1"


class PromptKeyError(ValueError):
    """The text is no list of keys; says which line, and never what is in it."""


def parse_prompt_keys(text: str) -> tuple[bytes, ...]:
    """Keys of 32 bytes, one a line, in hexadecimal or Base64; lines that are empty or begin with # are left out.

    Raises PromptKeyError.
    """
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        if (written := line.strip()) and not written.startswith("#"):
            key = _key(written)
            if key is None:
                raise PromptKeyError(f"line {number} is no key of {KEY_BYTES} bytes in hexadecimal or Base64")
            keys.append(key)
    if not 1 <= len(keys) <= KEYS_MAX:
        raise PromptKeyError(f"there must be 1 to {KEYS_MAX} keys, not {len(keys)}")
    if len(set(map(_key_id, keys))) != len(keys):
        raise PromptKeyError("a key is there twice")
    return tuple(keys)


class PromptCipher:
    """`keys` as `parse_prompt_keys` gives them. Any thread may use it."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise PromptKeyError(f"keys have {KEY_BYTES} bytes")
        self._sealing = keys[0]
        self._head = _MARK + _key_id(keys[0])
        self._keys = {_key_id(key): key for key in keys}
        self.unreadable = 0
        """Of what was to be opened, how much did not open."""

    def seal(self, plain: bytes, place: str) -> bytes:
        """`plain`, to be opened with the same `place` only; 33 bytes longer."""
        nonce, bound = os.urandom(NONCE_BYTES), _bytes(place)
        return self._head + nonce + _cipher(self._sealing, bound).encrypt(nonce, plain, bound)

    def open(self, sealed: bytes, place: str) -> bytes | None:
        """What was sealed; None for anything else: not sealed, another place, an unknown key, changed."""
        key = self._keys.get(sealed[len(_MARK) : len(_MARK) + _KEY_ID_BYTES])
        if key is not None and sealed.startswith(_MARK) and len(sealed) >= _HEAD_BYTES + TAG_BYTES:
            nonce, bound = sealed[_HEAD_BYTES - NONCE_BYTES : _HEAD_BYTES], _bytes(place)
            try:
                return _cipher(key, bound).decrypt(nonce, sealed[_HEAD_BYTES:], bound)
            except InvalidTag:
                pass
        self.unreadable += 1
        return None


def _cipher(key: bytes, bound: bytes) -> AESGCM:
    return AESGCM(hashlib.blake2b(bound, key=key, person=_PERSON, digest_size=KEY_BYTES).digest())


def _key_id(key: bytes) -> bytes:
    return hashlib.blake2b(b"id", key=key, person=_PERSON, digest_size=_KEY_ID_BYTES).digest()


def _bytes(place: str) -> bytes:
    return place.encode("utf-8", "surrogatepass")


def _key(written: str) -> bytes | None:
    try:
        is_hex = len(written) == 2 * KEY_BYTES
        key = bytes.fromhex(written) if is_hex else base64.b64decode(written, validate=True)
    except (ValueError, binascii.Error):
        return None
    return key if len(key) == KEY_BYTES else None
