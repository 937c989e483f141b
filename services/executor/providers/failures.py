"""What a server's complaint means, in the one vocabulary of outcomes: for every wire format the same.

Promises: pure. The machine-readable words of a complaint count before its HTTP status, and a few phrases of its text
are known where a server has no word for the matter; the text itself is never kept or shown, for it may quote the
prompt. `ProviderFailure.detail` holds the status, words of the fixed sets below and the request's id at the provider.

Choices: an account without money or quota (402, or the words for it under any status) is SPEND_CAP, not a rejected
request. A prompt that is too long for one model, or a parameter that it does not know, is UNSUITABLE: the next target
may take it. A prompt that the provider's content filter stopped is an answer, refused and empty, as it is when the
filter strikes later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final

from services.executor.outcome import Answer, FailureKind, ProviderFailure
from services.executor.providers.retry_after import retry_after_s
from spillway.chat import FinishReason, Message, Role

__all__ = [
    "Complaint",
    "ComplaintError",
    "failure_of_complaint",
    "outcome_of_response",
    "read_complaint",
]

OVERLOADED: Final = 529  # Anthropic's own status

_SPEND_WORDS: Final = frozenset(
    {
        "billing_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_quota",
    }
)
_SPEND_PHRASES: Final = (
    "your credit balance is too low",
    "you have reached your specified api usage limits",
    "you exceeded your current quota",
    "insufficient balance",
    "insufficient credits",
)
_FILTER_WORDS: Final = frozenset({"content_filter", "content_policy_violation", "responsibleaipolicyviolation"})
_UNSUITABLE_WORDS: Final = frozenset({"context_length_exceeded", "unsupported_parameter", "unsupported_value"})
_UNSUITABLE_PHRASES: Final = ("prompt is too long", "this model's maximum context length")
# What a complaint inside a 200 amounts to.
_STATUS_OF_WORD: Final = {
    "api_error": 500,
    "authentication_error": 401,
    "billing_error": 402,
    "internal_error": 500,
    "internal_server_error": 500,
    "invalid_api_key": 401,
    "invalid_request_error": 400,
    "model_not_found": 404,
    "not_found_error": 404,
    "overloaded": OVERLOADED,
    "overloaded_error": OVERLOADED,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "request_too_large": 413,
    "server_error": 500,
    "service_unavailable": 503,
    "timeout_error": 504,
}
_KNOWN_WORDS: Final = _SPEND_WORDS | _FILTER_WORDS | _UNSUITABLE_WORDS | _STATUS_OF_WORD.keys()
_BY_STATUS: Final = {
    HTTPStatus.UNAUTHORIZED: (FailureKind.AUTH, "PROVIDER_AUTH"),
    HTTPStatus.FORBIDDEN: (FailureKind.AUTH, "PROVIDER_AUTH"),
    HTTPStatus.PAYMENT_REQUIRED: (FailureKind.SPEND_CAP, "PROVIDER_SPEND_CAP"),
    HTTPStatus.NOT_FOUND: (FailureKind.AUTH, "PROVIDER_NOT_FOUND"),
    HTTPStatus.REQUEST_TIMEOUT: (FailureKind.TIMEOUT, "PROVIDER_TIMEOUT"),
    HTTPStatus.CONFLICT: (FailureKind.ERROR, "PROVIDER_409"),
    HTTPStatus.TOO_MANY_REQUESTS: (FailureKind.THROTTLED, "PROVIDER_429"),
    OVERLOADED: (FailureKind.ERROR, "PROVIDER_OVERLOADED"),
}
_TEXT_CHARS_MAX: Final = 2_000  # of a complaint's text, for phrases
_WORD_CHARS_MAX: Final = 100
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_REQUEST_ID_HEADERS: Final = ("request-id", "x-request-id", "apim-request-id")


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a server says went wrong: words in lower case, its text, and the HTTP status that it names itself."""

    words: frozenset[str] = frozenset()
    text: str = ""
    status: int | None = None


class ComplaintError(Exception):
    """A complaint where an answer should be: in the body of a 200, or in a stream."""

    def __init__(self, complaint: Complaint) -> None:
        super().__init__("a complaint")
        self.complaint = complaint


def read_complaint(document: Mapping[str, Any]) -> Complaint | None:
    """The complaint in a JSON object, in any of the forms that servers use; None when there is none.

    {"error": {"type", "code", "message"}} (OpenAI; Anthropic with a "type" beside it), {"error": "text"} (Ollama),
    {"object": "error", "type", "code", "message"} (older vLLM).
    """
    error = document.get("error")
    if isinstance(error, str):
        return Complaint(text=_text(error)) if error else None
    if not isinstance(error, Mapping):
        if document.get("object") != "error" and document.get("type") != "error":
            return None
        error = document
    inner = error.get("innererror")
    named = [error.get("type"), error.get("code"), inner.get("code") if isinstance(inner, Mapping) else None]
    code = error.get("code")
    status = int(code) if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3 else code
    return Complaint(
        frozenset(word.lower() for word in named if isinstance(word, str) and len(word) <= _WORD_CHARS_MAX),
        _text(error.get("message")),
        status if isinstance(status, int) and 400 <= status <= 599 else None,
    )


def outcome_of_response(
    status: int, headers: Mapping[str, str], complaint: Complaint | None, now_unix_s: float
) -> Answer | ProviderFailure:
    """What a response that is not a 200 means. `now_unix_s` is for dates of servers that do not say theirs."""
    complaint = complaint or Complaint()
    if status >= HTTPStatus.BAD_REQUEST and complaint.words & _FILTER_WORDS:
        return _filtered()
    failure = _failure(status, complaint)
    request_id = next((headers[name] for name in _REQUEST_ID_HEADERS if name in headers), "")
    if _REQUEST_ID.fullmatch(request_id):
        failure = replace(failure, detail=f"{failure.detail} request {request_id}")
    wait_s = retry_after_s(headers, now_unix_s=now_unix_s)
    return replace(failure, retry_after_s=wait_s) if failure.kind.counts_against_target else failure


def failure_of_complaint(complaint: Complaint, output_chars: int = 0) -> Answer | ProviderFailure:
    """What a complaint inside a 200 means, after `output_chars` characters of an answer.

    A server that failed by itself, or after it had written, may charge for it.
    """
    if complaint.words & _FILTER_WORDS and not output_chars:
        return _filtered()
    named = [_STATUS_OF_WORD[word] for word in sorted(complaint.words) if word in _STATUS_OF_WORD]
    failure = _failure(complaint.status or (named[0] if named else HTTPStatus.INTERNAL_SERVER_ERROR), complaint)
    may_cost = output_chars > 0 or failure.kind in {FailureKind.ERROR, FailureKind.TIMEOUT}
    return replace(failure, detail=f"{failure.detail} inside 200", billable=may_cost, output_chars=output_chars)


def _failure(status: int, complaint: Complaint) -> ProviderFailure:
    kind, reason = _meaning(status, complaint)
    return ProviderFailure(kind, reason, detail=" ".join((f"HTTP {status}", *sorted(complaint.words & _KNOWN_WORDS))))


def _meaning(status: int, complaint: Complaint) -> tuple[FailureKind, str]:
    is_callers = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    if is_callers and _says(complaint, _SPEND_WORDS, _SPEND_PHRASES):
        return FailureKind.SPEND_CAP, "PROVIDER_SPEND_CAP"
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return FailureKind.ERROR, "PROVIDER_5XX"
    if is_callers and _says(complaint, _UNSUITABLE_WORDS, _UNSUITABLE_PHRASES):
        return FailureKind.UNSUITABLE, "PROVIDER_UNSUITABLE"
    if is_callers:
        return FailureKind.REJECTED, "PROVIDER_REJECTED"
    # A redirect or an empty success: not the address of a chat API.
    return FailureKind.UNREADABLE, "PROVIDER_UNREADABLE"


def _says(complaint: Complaint, words: frozenset[str], phrases: tuple[str, ...]) -> bool:
    # Phrases count at the beginning alone: further on the text may quote the prompt.
    return bool(complaint.words & words) or complaint.text.startswith(phrases)


def _filtered() -> Answer:
    return Answer(Message(Role.ASSISTANT), FinishReason.CONTENT_FILTER, refused=True)


def _text(raw: object) -> str:
    return raw[:_TEXT_CHARS_MAX].lower() if isinstance(raw, str) else ""
