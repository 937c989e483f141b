"""API keys and the file that holds them: how a key looks, what is kept of it, and how the file is read and written.

Promises: pure. A key is `spw_ID_SECRET`: the id is public and finds its entry, the secret is 256 random bits. The file
holds the SHA-256 of the whole key and nothing to make the key from. A slow hash, as passwords need, would add nothing:
it makes guessing dear, and 2^256 guesses are dear enough, while every request would pay for it.
The file is read whole or not at all: KeyFileError says what is wrong, and never quotes a key or a hash.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

__all__ = [
    "FILE_BYTES_MAX",
    "KEYS_MAX",
    "ApiKey",
    "KeyFileError",
    "Scope",
    "digest",
    "key_id_of",
    "make_key",
    "matches",
    "parse_keys",
    "render_keys",
]

KEYS_MAX: Final = 10_000
FILE_BYTES_MAX: Final = 8_388_608
KEY_CHARS_MAX: Final = 256
SECRET_BYTES: Final = 32
ID_BYTES: Final = 6
_VERSION: Final = 1
_TENANT_CHARS_MAX: Final = 128
_KEY: Final = re.compile(r"spw_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_ID: Final = re.compile(r"[0-9a-f]{12}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_FIELDS: Final = {"id", "tenant", "sha256", "scopes", "created", "expires", "note"}


class Scope(StrEnum):
    """What a key may be used for. ADMIN is all of it."""

    COMPLETE = "complete"
    EXPLAIN = "explain"
    JOBS = "jobs"
    FEEDBACK = "feedback"
    ADMIN = "admin"


class KeyFileError(Exception):
    """The file cannot be used; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key. Times are in UTC; a key without `expires` does not expire."""

    id: str
    tenant: str
    sha256: str
    scopes: frozenset[Scope]
    created: datetime
    expires: datetime | None = None
    note: str = ""

    def allows(self, scope: str) -> bool:
        """Whether it may be used for that."""
        return Scope.ADMIN in self.scopes or scope in self.scopes

    def is_expired(self, now: datetime) -> bool:
        """Whether it is over."""
        return self.expires is not None and now >= self.expires


def make_key(random_id: bytes, random_secret: bytes) -> tuple[str, str]:
    """(id, key) of `ID_BYTES` and `SECRET_BYTES` random bytes."""
    if len(random_id) != ID_BYTES or len(random_secret) != SECRET_BYTES:
        raise ValueError("a key needs all of its random bytes")
    key_id = random_id.hex()
    secret = base64.urlsafe_b64encode(random_secret).decode().rstrip("=")
    return key_id, f"spw_{key_id}_{secret}"


def key_id_of(key: str) -> str | None:
    """The id in a key; None when it has not the form of one."""
    found = _KEY.fullmatch(key) if len(key) <= KEY_CHARS_MAX else None
    return found.group(1) if found else None


def digest(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def matches(key: str, sha256: str) -> bool:
    """Whether it is the key, in a time that says nothing about how much of it is right."""
    return hmac.compare_digest(digest(key), sha256)


def parse_keys(text: str | bytes) -> tuple[ApiKey, ...]:
    """The keys of a file, in its order. Raises KeyFileError."""
    if len(text) > FILE_BYTES_MAX:
        raise KeyFileError(f"it is larger than {FILE_BYTES_MAX:,} bytes")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise KeyFileError("it is no JSON") from None
    if not isinstance(document, dict) or document.get("version") != _VERSION or set(document) != {"version", "keys"}:
        raise KeyFileError(f'it is no file of keys: {{"version": {_VERSION}, "keys": [...]}}')
    entries = document["keys"]
    if not isinstance(entries, list) or len(entries) > KEYS_MAX:
        raise KeyFileError(f"keys: a list of at most {KEYS_MAX:,}")
    keys = tuple(_key(f"keys[{index}]", entry) for index, entry in enumerate(entries))
    if len({key.id for key in keys}) != len(keys):
        raise KeyFileError("keys: two have the same id")
    return keys


def render_keys(keys: Iterable[ApiKey]) -> str:
    """The text of a file with these keys."""
    entries = [
        {
            "id": key.id,
            "tenant": key.tenant,
            "sha256": key.sha256,
            "scopes": sorted(key.scopes),
            "created": key.created.isoformat(timespec="seconds"),
            "expires": key.expires.isoformat(timespec="seconds") if key.expires else None,
            "note": key.note,
        }
        for key in keys
    ]
    return json.dumps({"version": _VERSION, "keys": entries}, indent=2, ensure_ascii=False) + "\n"


def _key(path: str, entry: Any) -> ApiKey:
    if not isinstance(entry, dict) or not set(entry) <= _FIELDS:
        raise KeyFileError(f"{path}: an object of {', '.join(sorted(_FIELDS))}")
    key_id, tenant, sha256 = (_text(path, entry, name) for name in ("id", "tenant", "sha256"))
    if not _ID.fullmatch(key_id):
        raise KeyFileError(f"{path}.id: 12 hexadecimal digits")
    if not tenant or len(tenant) > _TENANT_CHARS_MAX:
        raise KeyFileError(f"{path}.tenant: 1 to {_TENANT_CHARS_MAX} characters")
    if not _HASH.fullmatch(sha256):
        raise KeyFileError(f"{path}.sha256: 64 hexadecimal digits")
    scopes = entry.get("scopes")
    if not isinstance(scopes, list) or not scopes or not all(scope in list(Scope) for scope in scopes):
        raise KeyFileError(f"{path}.scopes: some of {', '.join(Scope)}")
    created = _time(f"{path}.created", entry.get("created"))
    if created is None:
        raise KeyFileError(f"{path}.created: a time is needed")
    return ApiKey(
        id=key_id,
        tenant=tenant,
        sha256=sha256,
        scopes=frozenset(Scope(scope) for scope in scopes),
        created=created,
        expires=_time(f"{path}.expires", entry.get("expires")),
        note=_text(path, entry, "note") if entry.get("note") else "",
    )


def _text(path: str, entry: dict[str, Any], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str):
        raise KeyFileError(f"{path}.{name}: a text is needed")
    return value


def _time(path: str, value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
        if time.tzinfo is None:
            raise ValueError("no time zone")
        return time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise KeyFileError(f"{path}: a time with its zone, as 2026-01-31T12:00:00+00:00") from None
