"""What a person is told to do about a failed request."""

from __future__ import annotations

import json

import grpc
import pytest

from spillway.cli.advice import advice
from spillway.cli.asking import error_json, sentence
from spillway.errors import error_for
from spillway.failure import Failure


def failure(attempts: str) -> Failure:
    message, metadata = "no model could answer", (("attempts", attempts),)
    return Failure(grpc.StatusCode.UNAVAILABLE, "NO_MODEL_AVAILABLE", message, retry_after_s=1.0, metadata=metadata)


def test_whom_was_asked_and_when_to_come_back_is_said() -> None:
    assert advice(failure("small-1:PROVIDER_AUTH,mid-1:PROVIDER_UNREACHABLE")) == [
        "Tried: small-1 PROVIDER_AUTH, mid-1 PROVIDER_UNREACHABLE.",
        "Try again in 1 s.",
    ]


@pytest.mark.parametrize("reason", ["PROVIDER_AUTH", "PROVIDER_NOT_FOUND"])
def test_nobody_is_told_to_wait_for_what_only_the_configuration_can_mend(reason: str) -> None:
    text = sentence(error_for(failure(f"small-1:{reason},mid-1:{reason}")))
    assert "Try again" not in text
    assert "Waiting does not help" in text
    assert text.count("see providers" if reason == "PROVIDER_AUTH" else "see tiers") == 1


def test_who_gave_no_key_is_told_how_to_give_one() -> None:
    refused = Failure(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", "a valid API key is needed")
    text = sentence(error_for(refused))
    assert "SPILLWAY_API_KEY=KEY" in text
    assert "`spillway keys new`" in text


def test_where_nothing_is_known_nothing_is_advised() -> None:
    assert advice(Failure(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "wrong")) == []


def test_people_and_programs_are_told_which_quota_refused() -> None:
    metadata = (("quota", "acme-daily"),)
    error = error_for(Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", "too fast", metadata=metadata))
    assert "(quota acme-daily)" in sentence(error)
    assert json.loads(error_json(error))["error"]["quota"] == "acme-daily"
