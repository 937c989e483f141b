"""The Collector keeps every error, escalation, fallback, job and slow request: its policies, held against real traces.

What a policy does is written down here as its documentation and sources say it (processor/tailsampling of
opentelemetry-collector-contrib 0.139): a policy about an attribute or a status looks at every span, the one about
latency at the whole trace, and one that says yes is enough.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.runtime.config import load
from spillway.client import RequestError
from tests.observability.traffic import FAILING, FRESH, GOOD, UNSURE
from tests.observability.watched import Watched, is_whole
from tests.support.otlp import Span
from tests.support.processes import wait_until

PRODUCTION = Path(__file__).resolve().parents[2] / "deploy" / "k8s" / "overlays" / "production"
CONFIG = yaml.safe_load((PRODUCTION / "collector.config.yaml").read_text())
SAMPLING = CONFIG["processors"]["tail_sampling"]
CHANCE = {"probabilistic", "rate_limiting"}


def keeps(policy: Mapping[str, Any], root: Span) -> bool:
    """Whether the policy says yes to a trace; what depends on chance or rate says yes."""
    kind = policy["type"]
    if kind in CHANCE:
        return True
    said = policy[kind]
    spans = root.walk()
    if kind == "and":
        return all(keeps(one, root) for one in said["and_sub_policy"])
    if kind == "status_code":
        assert said == {"status_codes": ["ERROR"]}
        return any(span.error for span in spans)
    if kind == "latency":
        lasted_ns = max(span.end_ns for span in spans) - min(span.start_ns for span in spans)
        return bool(lasted_ns // 1_000_000 >= said["threshold_ms"])
    values = [span.attributes[said["key"]] for span in spans if said["key"] in span.attributes]
    if kind == "numeric_attribute":
        assert all(type(value) is int for value in values), said["key"]  # the Collector reads others as 0
        return any(said["min_value"] <= value <= said["max_value"] for value in values)
    assert kind == "string_attribute"
    assert said["enabled_regex_matching"]
    return any(re.search(pattern, value) for pattern in said["values"] for value in values)


def kept_by(root: Span) -> set[str]:
    return {policy["name"] for policy in SAMPLING["policies"] if policy["type"] not in CHANCE and keeps(policy, root)}


def traced(watched: Watched, *, tenant: str = "", pin: str = "", job: bool = False) -> Span:
    """The trace of one request, once both sides of its calls are there."""
    trace_id, parent_id = secrets.token_hex(16), secrets.token_hex(8)
    with watched.client(metadata=(("traceparent", f"00-{trace_id}-{parent_id}-01"),), tenant=tenant) as client:
        prompt, options = f"Which river flows through {parent_id}?", replace(FRESH, pinned_target=pin)
        with suppress(RequestError):
            client.submit_job(prompt) if job else client.complete(prompt, options=options)

    def look() -> Span | None:
        root = watched.receiver.tree(trace_id, spans_min=1, parent_id=parent_id)
        return root if is_whole(root, ()) else None

    found: Span = wait_until(look, what="a whole trace")
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "pin", "policies"),
    [
        ({"*": [GOOD]}, "", set()),
        ({"small-1": [UNSURE], "small-2": [UNSURE], "large-1": [GOOD]}, "", {"escalations"}),
        ({"small-1": [FAILING], "small-2": [FAILING], "large-1": [GOOD]}, "", {"errors", "fallbacks"}),
        ({"*": [FAILING]}, "small-2", {"errors", "refused"}),
    ],
    ids=["ordinary", "escalated", "fallen back", "failed"],
)
def test_what_became_of_a_request_decides_whether_its_trace_is_kept(
    watched: Watched, script: dict[str, list[dict[str, Any]]], pin: str, policies: set[str]
) -> None:
    watched.suite.script(script)
    found = kept_by(traced(watched, pin=pin))
    assert policies <= found
    assert bool(policies) is bool(found)


@pytest.mark.slow
def test_a_refused_request_is_kept_as_far_as_there_are_not_too_many(watched: Watched) -> None:
    watched.suite.script({"*": [GOOD]})
    _, second = (traced(watched, tenant="hasty") for _ in range(2))
    assert kept_by(second) == {"refused"}


@pytest.mark.slow
def test_a_job_is_kept_from_its_submission_on(watched: Watched) -> None:
    watched.suite.script({"*": [GOOD]})
    assert "jobs" in kept_by(traced(watched, job=True))


def test_a_trace_is_slow_when_it_took_as_long_as_is_said() -> None:
    limit_ns = 10_000 * 1_000_000
    inner = Span("spillway-executor", "chat m", "client", "b", "a", 1, 1, {}, error=False)
    root = Span("spillway-orchestrator", "Complete", "server", "a", "", 0, limit_ns, {}, error=False, children=[inner])
    assert kept_by(root) == {"slow"}
    assert kept_by(replace(root, end_ns=limit_ns - 1)) == set()


def test_the_decision_waits_for_the_last_span_of_the_longest_request() -> None:
    settings = load(PRODUCTION / "spillway.yaml", {}).settings
    wait_s = int(SAMPLING["decision_wait"].removesuffix("s"))
    assert wait_s > settings.orchestrator.deadline_s + settings.telemetry.export_interval_s
    assert settings.telemetry.sample_ratio == 1.0


def test_every_part_of_the_collector_is_defined_and_used() -> None:
    (pipeline,) = CONFIG["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) == set(CONFIG[kind]), kind
    assert pipeline["processors"][0] == "memory_limiter"
    assert pipeline["processors"][-1] == "batch"  # of what is kept, no longer by traces
    assert set(CONFIG["service"]["extensions"]) == set(CONFIG["extensions"])
    assert len({policy["name"] for policy in SAMPLING["policies"]}) == len(SAMPLING["policies"])
    for policy in SAMPLING["policies"]:
        assert set(policy) == {"name", "type", policy["type"]}
