"""Every hop of a request is in its trace, and the trace is the same over OTLP and in Jaeger's own JSON."""

from __future__ import annotations

import secrets

import pytest

from spillway.chat import ChatRequest, Message, Role
from spillway.routing import CompletionRequest, FeedbackKind, Job, JobState
from tests.observability.traffic import ENDED, GOOD
from tests.observability.watched import Watched, is_whole
from tests.support import jaeger
from tests.support.jaeger import shape
from tests.support.otlp import Span
from tests.support.processes import wait_until
from tests.support.scrape import scrape

pytestmark = pytest.mark.slow


def hop(root: Span, service: str, method: str) -> list[Span]:
    """The server spans of a hop, each the only child of a client span of the orchestrator's."""
    servers = [span for span in root.find(method, "server") if span.service == f"spillway-{service}"]
    for server in servers:
        (client,) = [span for span in root.walk() if server in span.children]
        assert (client.service, client.kind, client.name) == ("spillway-orchestrator", "client", server.name)
        assert client.children == [server]
        assert client.start_ns <= server.start_ns <= server.end_ns
    return servers


def tellings(watched: Watched, trace_id: str, *parts: str, parent_id: str = "") -> tuple[Span, Span]:
    """A whole trace as it came over OTLP, and as the sandbox's store exports it: the same."""

    def look() -> tuple[Span, Span] | None:
        root = watched.receiver.tree(trace_id, spans_min=1, parent_id=parent_id)
        if not is_whole(root, parts):
            return None
        told = jaeger.tree(jaeger.fetch(watched.suite.addresses["sandbox"], trace_id))
        return (root, told) if len(told.walk()) == len(root.walk()) else None

    root, told = wait_until(look, what=f"a whole trace with {parts}, told twice")
    assert shape(told) == shape(root)
    return root, told


def submitted(watched: Watched, prompt: str, *, webhook_url: str = "") -> tuple[Job, str, str]:
    """A job that has ended, the trace of who submitted it, and the span there."""
    trace_id, parent_id = secrets.token_hex(16), secrets.token_hex(8)
    with watched.client(metadata=(("traceparent", f"00-{trace_id}-{parent_id}-01"),)) as client:
        job = client.submit_job(prompt, webhook_url=webhook_url)
    with watched.client() as client:
        ended: Job = wait_until(lambda: (now := client.get_job(job.job_id)).state in ENDED and now, what="the job ends")
    return ended, trace_id, parent_id


def test_a_request_shows_every_hop_and_what_follows_it(watched: Watched) -> None:
    watched.suite.script({"*": [GOOD]})
    request = CompletionRequest(
        chat=ChatRequest((Message.of(Role.USER, "Which river flows through Innsbruck?"),)), end_user="someone"
    )
    with watched.client() as client:
        client.complete(request)  # of the next one it is known that it is not the first
        request = CompletionRequest(
            chat=ChatRequest((Message.of(Role.USER, "Which river flows through Salzburg?"),)), end_user="someone"
        )
        completion = client.complete(request)
    parts = ("CacheService/Store", "canary", "users", "quotas")
    for tree in tellings(watched, completion.trace_id, *parts):
        assert (tree.service, tree.kind) == ("spillway-orchestrator", "server")
        assert tree.attributes["spillway.tier"] == "simple"
        assert tree.attributes["spillway.cost_nanousd"] == completion.cost.cost_nanousd > 0
        for inner in ("users", "quotas"):
            (span,) = tree.find(inner, "internal")
            assert span in tree.children
        assert [each.attributes["spillway.cache.outcome"] for each in hop(tree, "cache", "Lookup")] == ["miss", "miss"]
        (judged,) = hop(tree, "classifier", "Classify")
        assert 0 <= judged.attributes["spillway.classifier.confidence"] <= 1
        (canary,) = tree.find("canary", "internal")
        assert canary.attributes["spillway.canary.outcome"] == "graded"
        assert canary.attributes["spillway.canary.cost_nanousd"] > 0
        answer, *compared = hop(tree, "executor", "Execute")
        assert answer not in canary.walk()
        assert all(each in canary.walk() for each in compared)
        models = [each.attributes["gen_ai.request.model"] for each in tree.find("chat ", "client")]
        assert models == ["small-1", "large-1", "grader-1", "grader-1"]
        (stored,) = hop(tree, "cache", "Store")
        assert stored.end_ns >= tree.children[0].start_ns


@pytest.mark.parametrize(
    ("batch", "service", "method"),
    [("ledger-records", "ledger", "RecordDecisions"), ("outcomes", "classifier", "RecordOutcomes")],
)
def test_what_is_told_in_batches_is_linked_with_the_requests_that_it_tells_of(
    watched: Watched, batch: str, service: str, method: str
) -> None:
    watched.suite.script({"*": [GOOD]})
    with watched.client() as client:
        completion = client.complete(f"Which river flows through {method}?")
    linked = watched.receiver.linked(completion.trace_id, batch)
    for tree in tellings(watched, linked, method):
        assert (tree.service, tree.name) == ("spillway-orchestrator", batch)
        assert completion.trace_id in tree.links
        assert len(hop(tree, service, method)) == 1


def test_a_job_goes_on_in_the_trace_of_its_submission(watched: Watched) -> None:
    watched.suite.script({"*": [GOOD]})
    listen = watched.suite.scraped["orchestrator"]

    def counted(name: str) -> float:
        return sum(value for _, value in scrape([("orchestrator", listen)])["orchestrator"][name].values)

    requests, cost = counted("spillway_requests_total"), counted("spillway_cost_total")
    job, trace_id, parent_id = submitted(watched, "Which river flows through Bregenz?")
    assert job.state is JobState.SUCCEEDED
    assert job.completion is not None
    assert job.completion.trace_id == trace_id
    assert counted("spillway_requests_total") == requests + 1
    assert counted("spillway_cost_total") == cost + job.completion.cost.cost_nanousd
    parts = ("ExecutorService/Execute", "CacheService/Store", "canary")
    for root in tellings(watched, trace_id, *parts, parent_id=parent_id):
        assert (root.service, root.kind) == ("spillway-orchestrator", "server")
        assert root.name.endswith("SubmitJob")
        assert root.attributes["spillway.job_id"] == job.job_id
        (tried,) = root.find("job", "internal")
        assert tried in root.children
        assert tried.attributes["spillway.job_id"] == job.job_id
        assert tried.attributes["spillway.job.try"] == 1
        assert tried.attributes["spillway.tier"] == "simple"
        assert len(hop(tried, "classifier", "Classify")) == 1


@pytest.mark.parametrize(
    ("path", "outcome", "status", "status_class"), [("/", "DELIVERED", 204, "2xx"), ("/gone", "STATUS", 410, "4xx")]
)
def test_each_try_to_tell_a_webhook_is_a_span_that_says_nothing_of_where_and_what(
    watched: Watched, path: str, outcome: str, status: int, status_class: str
) -> None:
    watched.suite.script({"*": [GOOD]})
    secret = secrets.token_hex(8)
    url = f"{watched.hook.url}{path}?token={secret}"
    job, trace_id, parent_id = submitted(watched, f"Which river flows through {secret}?", webhook_url=url)
    for root in tellings(watched, trace_id, "webhook", "CacheService/Store", "canary", parent_id=parent_id):
        (told,) = root.find("webhook", "client")
        assert told in root.children
        assert told.attributes == {
            "spillway.job_id": job.job_id,
            "spillway.webhook.try": 1,
            "spillway.webhook.outcome": outcome,
            "spillway.webhook.status_class": status_class,
            "http.response.status_code": status,
        }
        assert told.error is (status_class != "2xx")
        assert all(secret not in repr(span) for span in root.walk())


def test_feedback_shows_the_ledger(watched: Watched) -> None:
    trace_id, span_id = "1af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    watched.suite.script({"*": [GOOD]})
    with watched.client(metadata=(("traceparent", f"00-{trace_id}-{span_id}-01"),)) as client:
        client.send_feedback("some-request", FeedbackKind.THUMBS_UP)
    for root in tellings(watched, trace_id, "RecordFeedback", parent_id=span_id):
        assert root.name.endswith("SendFeedback")
        assert len(hop(root, "ledger", "RecordFeedback")) == 1
