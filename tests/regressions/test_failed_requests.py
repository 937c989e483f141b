"""What is told and recorded of requests that fail, by the whole suite: every attempt counts, the caller learns why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spillway.chat import GenerationParams
from spillway.client import Client
from spillway.errors import DeadlineError, InterruptedStreamError, RequestError, UnavailableError
from spillway.routing import AnswerDelta, RoutingOptions
from tests.support.processes import wait_until
from tests.support.suite import Suite

LONG = {"text": "one two three four " * 200, "chunk_chars": 8, "chunk_delay_s": 0.05}
STRAIGHT = RoutingOptions(pinned_target="large-1")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    config = {"executor": {"breaker": {"calls_min": 100}}}
    with Suite(tmp_path_factory.mktemp("suite"), config=config) as suite:
        yield suite


@pytest.fixture
def client(suite: Suite) -> Iterator[Client]:
    with suite.client(timeout_s=60) as client:
        yield client


def records(suite: Suite) -> list[dict[str, Any]]:
    path: Path = suite.decision_log
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def record_of_next(suite: Suite, before: int) -> dict[str, Any]:
    record: dict[str, Any] = wait_until(lambda: records(suite)[before:], what="a record")[0]
    return record


def cost_of(record: dict[str, Any]) -> int:
    """What was spent; the sum of its attempts."""
    spent = int(record["cost"].get("cost_nanousd", 0))
    assert spent == sum(int(attempt.get("cost_nanousd", 0)) for attempt in record["attempts"])
    return spent


def broken_off(client: Client, timeout_s: float) -> tuple[str, RequestError]:
    """What a stream gave before it failed."""
    events = client.stream("Which river?", options=STRAIGHT, timeout_s=timeout_s)
    received = ""
    try:
        for event in events:
            assert isinstance(event, AnswerDelta)
            received += event.text
    except RequestError as error:
        return received, error
    raise AssertionError("the stream ended well")


def test_answers_that_no_gate_takes_cost_what_they_cost(suite: Suite, client: Client) -> None:
    suite.script({"*": [{"empty": True}]})
    before = len(records(suite))
    with pytest.raises(UnavailableError) as caught:
        client.complete("Which river?")
    assert dict(caught.value.failure.metadata)["attempts"] == "small-1:REJECTED,large-1:REJECTED"
    record = record_of_next(suite, before)
    assert [attempt["target"] for attempt in record["attempts"]] == ["small-1", "large-1"]
    assert cost_of(record) > 0
    assert record["escalations"] == 1
    assert "cost_unknown" not in record


def test_a_stream_that_breaks_off_costs_what_it_cost(suite: Suite, client: Client) -> None:
    suite.script({"*": [LONG | {"stream_cut_after_chunks": 5, "chunk_delay_s": 0.01}]})
    before = len(records(suite))
    received, error = broken_off(client, 60)
    assert received
    assert isinstance(error, InterruptedStreamError)
    record = record_of_next(suite, before)
    assert record["error_reason"] == "STREAM_INTERRUPTED"
    assert cost_of(record) > 0


def test_a_stream_that_its_deadline_ends_is_the_deadlines_and_costs_what_it_cost(suite: Suite, client: Client) -> None:
    suite.script({"*": [LONG]})
    for _ in range(5):
        before = len(records(suite))
        received, error = broken_off(client, 3.0)
        assert received
        assert isinstance(error, DeadlineError)
        record = record_of_next(suite, before)
        assert record["error_reason"] == "DEADLINE_EXCEEDED"
        if "cost_unknown" not in record:  # on a machine that stalls the account may come too late, which is said
            break
    assert cost_of(record) > 0
    assert "cost_unknown" not in record


def test_a_call_that_uses_up_the_callers_time_is_the_deadlines(suite: Suite, client: Client) -> None:
    suite.script({"*": [{"text": "The river.", "latency_s": 30.0}]})
    before = len(records(suite))
    with pytest.raises(DeadlineError):
        client.complete("Which river?", options=STRAIGHT, timeout_s=2.0)
    record = record_of_next(suite, before)
    assert record["error_reason"] == "DEADLINE_EXCEEDED"
    assert [attempt["outcome"] for attempt in record["attempts"]] == ["OUTCOME_TIMEOUT"]


def test_what_a_caller_who_leaves_has_cost_is_said_to_be_unknown(suite: Suite, client: Client) -> None:
    suite.script({"*": [LONG]})
    before = len(records(suite))
    events = client.stream("Which river?", options=STRAIGHT)
    next(events)
    events.close()  # type: ignore[attr-defined]
    record = record_of_next(suite, before)
    assert record["status_code"] == 1
    assert record["cost_unknown"] is True
    assert record["routing"]["plan"]["tiers"]


def test_a_wrong_key_is_found_out_by_the_caller_and_in_the_log(suite: Suite, client: Client) -> None:
    suite.script({"*": [{"status": 401, "error_code": "invalid_api_key"}]})
    with pytest.raises(UnavailableError) as caught:
        client.complete("Which river?")
    told = dict(caught.value.failure.metadata)["attempts"]
    assert told == "small-1:PROVIDER_AUTH,small-2:PROVIDER_AUTH,large-1:PROVIDER_AUTH"
    log = [json.loads(line) for line in suite.processes["executor"].log().splitlines() if line.startswith("{")]
    warnings = [line for line in log if line["event"] == "provider_refuses_credentials"]
    assert [(line["provider"], line["level"]) for line in warnings] == [("sandbox", "warning")]
    assert warnings[0]["status"].startswith("HTTP 401")


def test_a_request_that_asks_for_confidence_gets_no_answer_of_less(suite: Suite, client: Client) -> None:
    suite.script({"*": [{"text": "The river.", "confidence": 4}]})
    question, fixed = "Which river is it now?", GenerationParams(temperature=0.0)
    client.complete(question, generation=fixed)
    wait_until(
        lambda: client.complete(question, generation=fixed).cache.kind.value == "exact_hit", what="a cached answer"
    )
    before = len(suite.calls())
    asking = RoutingOptions(confidence_min=0.95)
    again = client.complete(question, generation=fixed, options=asking)
    assert again.cache.kind.value == "miss"
    assert len(suite.calls()) > before
