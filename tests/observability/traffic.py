"""Requests of every kind, so that whatever is counted has something to count."""

from __future__ import annotations

from contextlib import suppress

from spillway.client import RequestError
from spillway.routing import CacheMode, FeedbackKind, JobState, RoutingOptions
from tests.observability.watched import Watched
from tests.support.processes import wait_until

GOOD = {"text": "A fine answer.", "confidence": 5}
UNSURE = {"text": "Perhaps.", "confidence": 1}
FAILING = {"status": 500}
FRESH = RoutingOptions(cache_mode=CacheMode.BYPASS)
ENDED = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}


def send(watched: Watched) -> None:
    """Answers, hits, escalations, fallbacks, an open breaker, a stream, a job, feedback, and a refusal."""
    suite = watched.suite
    suite.script({"*": [GOOD]})
    with watched.client() as client:
        first = client.complete("Which river flows through Vienna?")
        for wording in ("What river flows through Vienna?", "Which river runs through Vienna?"):
            client.complete(wording)
        list(client.stream("Which river flows through Linz?", options=RoutingOptions(tier_floor="complex")))
        client.explain("Which river flows through Krems?")
        client.send_feedback(first.request_id, FeedbackKind.THUMBS_UP)
        job = client.submit_job("Which river flows through Tulln?", webhook_url=f"{watched.hook.url}/")
        wait_until(lambda: client.get_job(job.job_id).state in ENDED, what="the job ends")
        suite.script({"small-1": [UNSURE], "large-1": [GOOD]})
        client.complete("Prove that the square root of two is irrational.", options=FRESH)
        suite.script({"small-1": [FAILING], "small-2": [GOOD]})
        for number in range(3):  # the breaker opens
            client.complete(f"Which river flows through village {number}?", options=FRESH)
    with watched.client(tenant="hasty") as client:
        for _ in range(2):
            with suppress(RequestError):
                client.complete("Which river flows through Melk?")
