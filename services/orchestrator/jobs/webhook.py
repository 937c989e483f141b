"""What a webhook is told, in the form of Standard Webhooks (standardwebhooks.com). Pure.

webhook-id          the same for every try of one notice: who gets it twice may drop the second
webhook-timestamp   seconds since 1970 of this try
webhook-signature   "v1," and Base64 of HMAC-SHA256 over "ID.TIMESTAMP.BODY"; one for each secret, by spaces
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from google.protobuf.json_format import MessageToDict

from services.orchestrator.disclosure import disclosed
from spillway.routing import Job
from spillway.wire import job_to_proto

__all__ = ["BODY_BYTES_MAX", "body_of", "headers_of", "parse_secrets"]

BODY_BYTES_MAX: Final = 262_144
"""A notice that would be longer goes without the completion, which GetJob has."""

SECRETS_MAX: Final = 4
_PREFIX: Final = "whsec_"
_SECRET_BYTES_MIN: Final = 24
_SECRET_BYTES_MAX: Final = 64


def parse_secrets(text: str) -> tuple[bytes, ...]:
    """The secrets, separated by spaces: the new one and, while it replaces another, the old one. Empty for none.

    Raises ValueError with a sentence that repeats nothing of them.
    """
    words = text.split()
    if len(words) > SECRETS_MAX:
        raise ValueError(f"at most {SECRETS_MAX} webhook secrets may be in use")
    return tuple(map(_secret, words))


def _secret(word: str) -> bytes:
    try:
        secret = base64.b64decode(word.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not word.startswith(_PREFIX) or not _SECRET_BYTES_MIN <= len(secret) <= _SECRET_BYTES_MAX:
        raise ValueError(f'a webhook secret must be "{_PREFIX}" and Base64 of 24 to 64 bytes')
    return secret


def body_of(job: Job) -> bytes:
    """The notice of an ended job: {"type", "timestamp", "data": the job as in the proto's JSON form}."""
    if job.completion is not None:
        job = replace(job, completion=replace(job.completion, cache=disclosed(job.completion.cache)))
    body = _json(job)
    if len(body) > BODY_BYTES_MAX:
        body = _json(replace(job, completion=None))
    return body


def _json(job: Job) -> bytes:
    ended = datetime.fromtimestamp(job.changed_at_unix_s, UTC).isoformat(timespec="milliseconds")
    notice = {
        "type": f"job.{job.state.value}",
        "timestamp": ended.replace("+00:00", "Z"),
        "data": MessageToDict(job_to_proto(replace(job, deliveries=())), preserving_proto_field_name=True),
    }
    return json.dumps(notice, ensure_ascii=False, separators=(",", ":")).encode()


def headers_of(job_id: str, body: bytes, *, now_unix_s: float, secrets: Sequence[bytes]) -> dict[str, str]:
    """The three headers, for a try made now."""
    message_id, timestamp = f"msg_{job_id}", str(int(now_unix_s))
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode() for secret in secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
