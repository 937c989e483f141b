"""One request is one connected trace, received over real OTLP and checked hop by hop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from spillway.chat import ChatRequest, Message, Role
from spillway.routing import Completion, CompletionRequest
from tests.support.otlp import Receiver, Span
from tests.support.processes import wait_until
from tests.support.suite import Suite


@dataclass
class Traced:
    suite: Suite
    receiver: Receiver

    def root(self, completion: Completion, *, spans_min: int, parent_id: str = "") -> Span:
        """Once `spans_min` spans are there, and the other side of every call."""

        def whole() -> Span | None:
            root = self.receiver.tree(completion.trace_id, spans_min=spans_min, parent_id=parent_id)
            calls = [span for span in root.walk() if span.kind == "client" and span.name.startswith("spillway.")]
            return root if all(call.children for call in calls) else None

        found: Span = wait_until(whole, what="both sides of every call")
        return found


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    with (
        Receiver() as receiver,
        Suite(tmp_path_factory.mktemp("suite"), otlp_endpoint=receiver.endpoint) as suite,
    ):
        yield Traced(suite, receiver)


GOOD = {"text": "A fine answer.", "confidence": 5}
UNSURE = {"text": "Perhaps.", "confidence": 1}


def hop(root: Span, service: str, method: str) -> Span:
    """The server span of one hop, after checking that its parent is the orchestrator's client span."""
    servers = [s for s in root.find(method, "server") if s.service == f"spillway-{service}"]
    assert servers, f"no server span of {service} {method} in {[s.name for s in root.walk()]}"
    clients = [s for s in root.walk() if servers[0] in s.children]
    assert clients[0].kind == "client"
    assert clients[0].service == "spillway-orchestrator"
    return servers[0]


def check_root(root: Span, method: str) -> None:
    assert root.service == "spillway-orchestrator"
    assert root.kind == "server"
    assert method in root.name
    for span in root.walk():
        for child in span.children:
            assert child.start_ns >= span.start_ns - 2_000_000, (span.name, child.name)


def attempts(root: Span) -> list[Span]:
    return [s for s in root.find("chat ", "client") if s.service == "spillway-executor"]


# The orchestrator's server span, a client and a server span for each of four hops and for the store that follows, and
# one attempt.
MISS_SPANS = 12


def test_a_miss_shows_every_hop_the_scores_and_the_attempt(traced: Traced) -> None:
    traced.suite.script({"*": [GOOD]})
    with traced.suite.client() as client:
        completion = client.complete("Which river flows through Vienna?")
    root = traced.root(completion, spans_min=MISS_SPANS)
    check_root(root, "Complete")
    assert root.attributes["spillway.tier"] == "simple"
    assert root.attributes["spillway.cost_nanousd"] == completion.cost.cost_nanousd > 0
    classifier = hop(root, "classifier", "Classify")
    assert 0 <= classifier.attributes["spillway.classifier.confidence"] <= 1
    assert classifier.attributes["spillway.classifier.layer"] in {"heuristics", "embedding"}
    total = sum(classifier.attributes[f"spillway.classifier.p_{name}"] for name in ("simple", "medium", "complex"))
    assert total == pytest.approx(1)
    assert hop(root, "cache", "Lookup").attributes["spillway.cache.outcome"] == "miss"
    executor = hop(root, "executor", "Execute")
    (attempt,) = attempts(root)
    assert attempt in executor.walk()
    assert attempt.attributes["gen_ai.request.model"] == "small-1"
    assert attempt.attributes["gen_ai.operation.name"] == "chat"
    assert attempt.attributes["gen_ai.usage.output_tokens"] > 0
    assert attempt.attributes["spillway.cost_nanousd"] == completion.cost.cost_nanousd
    assert attempt.attributes["spillway.attempt.outcome"] == "accepted"
    assert attempt.attributes["spillway.gate.self_confidence.verdict"] == "pass"


def test_a_hit_shows_the_cache_and_no_model(traced: Traced) -> None:
    traced.suite.script({"*": [GOOD]})
    prompt = "Which river flows through Budapest?"
    with traced.suite.client() as client:
        client.complete(prompt)

        def again() -> tuple[Completion, Span] | None:
            """The answer is stored after it has left: who asks too early is answered anew, or shares it, or finds it
            by the second look."""
            completion = client.complete(prompt)
            root = traced.root(completion, spans_min=4)
            is_first_found = not completion.attempts and not root.find("Classify")
            return (completion, root) if is_first_found else None

        completion, root = wait_until(again, what="an answer from the cache")
    check_root(root, "Complete")
    assert hop(root, "cache", "Lookup").attributes["spillway.cache.outcome"] == "exact_hit"
    assert root.attributes["spillway.cache.outcome"] == "exact_hit"
    assert attempts(root) == []
    assert completion.cost.cost_nanousd == 0 < completion.cost.flagship_cost_nanousd


def test_an_escalation_shows_both_attempts_and_why(traced: Traced) -> None:
    traced.suite.script({"small-1": [UNSURE], "large-1": [GOOD]})
    with traced.suite.client() as client:
        completion = client.complete("Which river flows through Bratislava?")
    root = traced.root(completion, spans_min=MISS_SPANS + 1)
    first, second = attempts(root)
    assert first.attributes["spillway.attempt.outcome"] == "rejected"
    assert first.attributes["spillway.gate.self_confidence.verdict"] == "fail"
    assert first.attributes["spillway.gate.self_confidence.reason"]
    assert second.attributes["gen_ai.request.model"] == "large-1"
    assert second.attributes["spillway.tier"] == "complex"
    assert root.attributes["spillway.escalations"] == 1
    cost = sum(span.attributes["spillway.cost_nanousd"] for span in (first, second))
    assert cost == completion.cost.cost_nanousd == root.attributes["spillway.cost_nanousd"]


def test_a_fallback_shows_the_failed_target_and_its_stand_in(traced: Traced) -> None:
    traced.suite.script({"small-1": [{"status": 500}], "small-2": [GOOD]})
    with traced.suite.client() as client:
        completion = client.complete("Which river flows through Belgrade?")
    root = traced.root(completion, spans_min=MISS_SPANS + 1)
    failed, stand_in = attempts(root)
    assert failed.error
    assert failed.attributes["spillway.attempt.outcome"] == "error"
    assert stand_in.attributes["gen_ai.request.model"] == "small-2"
    assert root.attributes["spillway.fallbacks"] == 1


def test_a_stream_is_traced_like_a_unary_call(traced: Traced) -> None:
    traced.suite.script({"small-1": [UNSURE], "large-1": [GOOD]})
    with traced.suite.client() as client:
        *_, completion = client.stream("Which river flows through Regensburg?")
    assert isinstance(completion, Completion)
    root = traced.root(completion, spans_min=MISS_SPANS + 1)
    check_root(root, "StreamComplete")
    hop(root, "executor", "StreamExecute")
    assert [span.attributes["spillway.attempt.outcome"] for span in attempts(root)] == ["rejected", "accepted"]


def test_an_incoming_traceparent_is_continued(traced: Traced) -> None:
    traced.suite.script({"*": [GOOD]})
    trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    request = CompletionRequest(chat=ChatRequest((Message.of(Role.USER, "Which river flows through Passau?"),)))
    with traced.suite.client(metadata=(("traceparent", f"00-{trace_id}-{span_id}-01"),)) as client:
        completion = client.complete(request)
    assert completion.trace_id == trace_id
    check_root(traced.root(completion, spans_min=MISS_SPANS, parent_id=span_id), "Complete")


def test_no_span_holds_a_prompt_or_an_answer(traced: Traced) -> None:
    traced.suite.script({"*": [{"text": "The zebra answer.", "confidence": 5}]})
    with traced.suite.client() as client:
        completion = client.complete("Which rivers do quokkas live at?")
    root = traced.root(completion, spans_min=MISS_SPANS)
    for span in root.walk():
        text = repr(span.attributes)
        assert "quokkas" not in text
        assert "zebra" not in text
