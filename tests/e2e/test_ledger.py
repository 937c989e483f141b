"""The ledger in the running suite: what was decided and said is in it, and callers do not notice that it is gone."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from spillway.routing import FeedbackKind
from spillway.v1 import ledger_pb2, ledger_pb2_grpc
from tests.support.processes import wait_until
from tests.support.suite import Suite

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with Suite(tmp_path_factory.mktemp("suite"), ledger=True) as suite:
        yield suite


def kept(suite: Suite) -> set[str]:
    """The request ids that the ledger holds."""
    with sqlite3.connect(Path(suite.folder) / "ledger.sqlite") as session:
        return {row[0] for row in session.execute("SELECT request_id FROM decisions")}


def test_a_decision_and_what_was_said_of_it_are_in_the_ledger_and_a_retry_is_the_flagships(suite: Suite) -> None:
    with suite.client() as client:
        first = client.complete("Which river flows through Ulm?")
        wait_until(lambda: first.request_id in kept(suite), what="the decision is kept")
        retried = client.send_feedback(
            first.request_id, FeedbackKind.THUMBS_DOWN, retry="Which river flows through Ulm?"
        )
    assert retried is not None
    assert retried.target == "large-1"
    with grpc.insecure_channel(suite.addresses["ledger"]) as channel:
        stub = ledger_pb2_grpc.LedgerServiceStub(channel)
        found = stub.GetDecision(ledger_pb2.GetDecisionRequest(request_id=first.request_id), timeout=20)
    assert found.decision.request_id == first.request_id
    assert len(found.feedback) == 1


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_no_request_fails_while_the_ledger_is_gone_and_all_are_kept_once_it_is_back(suite: Suite, fault: str) -> None:
    ledger = suite.processes["ledger"]
    ledger.kill() if fault == "killed" else ledger.signal(signal.SIGSTOP)
    try:
        with suite.client() as client:
            asked = {client.complete(f"Which river flows through {fault} {n}?").request_id for n in range(20)}
    finally:
        suite.restart("ledger") if fault == "killed" else ledger.signal(signal.SIGCONT)
    wait_until(lambda: asked <= kept(suite), what="all are kept", within_s=60)
