"""When everything starts at once, the first request is answered."""

from __future__ import annotations

from pathlib import Path

from tests.support.suite import Suite


def test_a_front_that_starts_before_its_executor_answers_its_first_request(tmp_path: Path) -> None:
    with Suite(tmp_path) as suite:
        suite.script({"*": [{"text": "Vienna.", "confidence": 5}]})
        suite.processes["orchestrator"].stop()
        suite.processes["executor"].kill()
        # Started together at the addresses they had: the front is up long before the executor.
        front = suite.launch("orchestrator", listen=suite.addresses["orchestrator"])
        suite.restart("executor")
        front.ready()
        with suite.client() as client:
            assert client.complete("What is the capital of Austria?").text == "Vienna."
