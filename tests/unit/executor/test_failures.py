"""What a provider's status and complaint mean."""

from __future__ import annotations

from typing import Any

import pytest

from services.executor.outcome import FailureKind, ProviderFailure
from services.executor.providers.failures import outcome_of_response, read_complaint


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (429, FailureKind.THROTTLED, "PROVIDER_429"),
        (408, FailureKind.TIMEOUT, "PROVIDER_TIMEOUT"),
        (409, FailureKind.ERROR, "PROVIDER_409"),
        (500, FailureKind.ERROR, "PROVIDER_5XX"),
        (529, FailureKind.ERROR, "PROVIDER_OVERLOADED"),
        (401, FailureKind.AUTH, "PROVIDER_AUTH"),
        (403, FailureKind.AUTH, "PROVIDER_AUTH"),
        (404, FailureKind.AUTH, "PROVIDER_NOT_FOUND"),
        (400, FailureKind.REJECTED, "PROVIDER_REJECTED"),
        (422, FailureKind.REJECTED, "PROVIDER_REJECTED"),
        (302, FailureKind.UNREADABLE, "PROVIDER_UNREADABLE"),
        (204, FailureKind.UNREADABLE, "PROVIDER_UNREADABLE"),
    ],
)
def test_a_status_has_its_meaning(status: int, kind: FailureKind, reason: str) -> None:
    failure = outcome_of_response(status, {}, None, 0.0)
    assert isinstance(failure, ProviderFailure)
    assert (failure.kind, failure.error_reason, failure.billable) == (kind, reason, False)


COMPLAINTS = [
    ({"error": {"type": "insufficient_quota"}}, 429, FailureKind.SPEND_CAP),
    ({"error": {"code": "billing_hard_limit_reached"}}, 400, FailureKind.SPEND_CAP),
    ({"error": {"message": "You exceeded your current quota, please check"}}, 429, FailureKind.SPEND_CAP),
    ({"error": {"message": "'You exceeded your current quota' is what the prompt says"}}, 429, FailureKind.THROTTLED),
    ({"error": {"message": "messages.0: 'your credit balance is too low'"}}, 400, FailureKind.REJECTED),
    ({"error": {"type": "billing_error"}}, 500, FailureKind.ERROR),
    ({"error": {"code": "context_length_exceeded"}}, 400, FailureKind.UNSUITABLE),
    ({"object": "error", "message": "This model's maximum context length is 10", "code": 400}, 400,
     FailureKind.UNSUITABLE),
    ({"error": {"code": "context_length_exceeded"}}, 503, FailureKind.ERROR),
    ({"error": 3}, 400, FailureKind.REJECTED),
    ({"detail": "x"}, 400, FailureKind.REJECTED),
]  # fmt: skip


@pytest.mark.parametrize(("document", "status", "kind"), COMPLAINTS)
def test_a_complaints_words_count_and_its_text_only_at_the_beginning(
    document: dict[str, Any], status: int, kind: FailureKind
) -> None:
    failure = outcome_of_response(status, {}, read_complaint(document), 0.0)
    assert isinstance(failure, ProviderFailure)
    assert failure.kind is kind


def test_only_failures_of_the_target_say_when_to_ask_again() -> None:
    for status, wait_s in ((429, 3.0), (503, 3.0), (402, 3.0), (400, None), (401, None)):
        failure = outcome_of_response(status, {"retry-after": "3"}, None, 0.0)
        assert isinstance(failure, ProviderFailure)
        assert failure.retry_after_s == wait_s
