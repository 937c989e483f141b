"""What a person reads: completions, explanations, statuses, figures, and how numbers are written."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from rich.console import Console, RenderableType

from services.sandbox import wire
from services.sandbox.answers import AnswerMaker
from services.sandbox.replay import Replay
from services.sandbox.script import Step
from services.sandbox.wire import Call
from spillway.chat import FinishReason, Message, Role, Usage
from spillway.cli.demo import PROMPTS, Demo, demo_view, own_command, what_next
from spillway.cli.replay_figures import Result, figures_by_task
from spillway.cli.replay_view import replay_view
from spillway.cli.show import completion_view, explanation_view
from spillway.cli.status import PlainStatus, status_table
from spillway.cli.supervisor import ProcessState, ProcessStatus
from spillway.cli.terminal import ms, percent, saved, usd
from spillway.errors import error_for
from spillway.failure import Failure
from spillway.routing import (
    AgreementSpec,
    Attempt,
    AttemptOutcome,
    CacheKind,
    CacheOutcome,
    Classification,
    Completion,
    Complexity,
    CostSummary,
    Explanation,
    GateVerdict,
    Layer,
    Plan,
    PlannedTier,
    RoutingDecision,
    RuleTrial,
    SelfConfidenceSpec,
    Signal,
    TaskType,
    Verdict,
)

COLUMNS = 100
JUDGED = Classification(
    TaskType.MATH,
    Complexity.SIMPLE,
    (0.8, 0.15, 0.05),
    0.8,
    Layer.EMBEDDING,
    (Signal("question_words", 0.5, -0.4, "[how] many"),),
    "near simple sums",
)
REJECTED = Attempt(
    "simple",
    "small-1",
    "gpt-small",
    "p",
    AttemptOutcome.REJECTED,
    (GateVerdict("self_confidence", Verdict.FAIL, "confidence 1 of 5", 0.2),),
    Usage(12, 3),
    2_400,
    latency_s=0.08,
)
ACCEPTED = replace(
    REJECTED,
    tier="medium",
    target="mid-1",
    outcome=AttemptOutcome.ACCEPTED,
    verdicts=(GateVerdict("self_confidence", Verdict.PASS, "confidence 5 of 5", 0.97),),
)
BROKEN = replace(REJECTED, outcome=AttemptOutcome.ERROR, verdicts=(), usage=None, error_reason="PROVIDER_5XX")
COMPLETION = Completion(
    request_id="r",
    message=Message.of(Role.ASSISTANT, "30"),
    finish_reason=FinishReason.STOP,
    accepted=True,
    tier="medium",
    target="mid-1",
    model="gpt-mid",
    usage=Usage(12, 3),
    cost=CostSummary(4_800, 48_000, "flagship-1"),
    cache=CacheOutcome(CacheKind.MISS, "nothing [bold]near[/bold]"),
    routing=RoutingDecision("complexity", "simple starts at simple", classification=JUDGED, degraded=("cache",)),
    attempts=(BROKEN, REJECTED, ACCEPTED),
    escalations=1,
)


def shown(renderable: RenderableType, columns: int = COLUMNS) -> str:
    console = Console(file=io.StringIO(), width=columns, highlight=False)
    with console.capture() as capture:
        console.print(renderable)
    text = capture.get()
    assert all(len(line) <= columns for line in text.splitlines())
    return text


def test_what_only_a_bound_has_in_it_is_shown_beside_the_cost() -> None:
    attempts = (replace(REJECTED, usage=None, cost_nanousd=2_002_400, cost_excess_nanousd=2_000_000),)
    cost = CostSummary(2_002_400, 48_000, "flagship-1")
    text = " ".join(shown(completion_view(replace(COMPLETION, attempts=attempts, cost=cost))).split())
    assert "$0.00000240 · flagship-1 alone about $0.0000480 · saved 95 %" in text
    assert "at most $0.00200 more, for calls that nobody counted" in text


def test_a_completion_shows_who_answered_the_path_and_the_cost() -> None:
    text = shown(completion_view(COMPLETION))
    assert "medium · mid-1 (gpt-mid) · accepted · stop · 12 in, 3 out tokens" in text
    assert "math, simple · confidence 0.80" in text
    assert "$0.00000480 · flagship-1 alone about $0.0000480 · saved 90 %" in text
    assert "✗ self_confidence (confidence 1 of 5)" in text
    assert "✓ self_confidence" in text
    assert "PROVIDER_5XX" in text
    assert "without cache" in text


def test_what_services_say_is_never_taken_for_markup() -> None:
    assert "nothing [bold]near[/bold]" in shown(completion_view(COMPLETION))


def test_an_answer_that_was_not_proven_says_so() -> None:
    assert "not proven" in shown(completion_view(replace(COMPLETION, accepted=False)))


def test_an_answer_that_is_none_of_the_sandbox_is_said_to_be() -> None:
    assert "sandbox" not in shown(completion_view(COMPLETION))
    answers = AnswerMaker(Replay([]), len, examples_mode=True, clock=float)
    call = Call("m", (wire.Message("user", "Who wrote this?"),), stream=False, tools_json="", parameters={})
    said = answers.make(call, Step(), answer_id="1", tool_call_id_prefix="c").text
    unanswered = replace(COMPLETION, message=Message.of(Role.ASSISTANT, said or ""))
    assert "sandbox     it has no answer to this prompt" in shown(completion_view(unanswered))


def test_a_hit_shows_its_kind_and_age() -> None:
    hit = CacheOutcome(CacheKind.SEMANTIC_HIT, "every guard passed", age_s=12.4)
    text = shown(completion_view(replace(COMPLETION, cache=hit, attempts=(), cost=CostSummary(0, 48_000, "f"))))
    assert "semantic hit · 12 s old · every guard passed" in text
    assert "$0 · f alone about $0.0000480 · saved 100 %" in text


def test_an_explanation_shows_plan_gates_rules_and_signals() -> None:
    plan = Plan(
        (
            PlannedTier("simple", ("small-1",), (AgreementSpec("small-2"), SelfConfidenceSpec(3)), 20),
            PlannedTier("complex", ("big-1", "big-2")),
        )
    )
    trials = (RuleTrial("long", False, "input_chars_min: 5 of 1,000"), RuleTrial("maths", True))
    routing = RoutingDecision("rule", "the rule says so", "maths", replace(JUDGED, language="de"), plan, arm="routed")
    text = shown(explanation_view(Explanation(routing, CacheOutcome(CacheKind.MISS), trials)))
    for part in (
        "rule maths · routed arm · the rule says so",
        "· in de",
        "near simple sums",
        "cheap_first, at most 2 escalations",
        "agreement with small-2",
        "self_confidence ≥ 3",
        "big-1, big-2",
        "input_chars_min: 5 of 1,000",
        "question_words",
        "[how] many",
    ):
        assert part in text


def test_the_demo_shows_hits_escalations_savings_and_failures() -> None:
    failed = error_for(Failure(grpc.StatusCode.UNAVAILABLE, "NO_MODEL_AVAILABLE", "no model"))
    hit = replace(COMPLETION, cache=CacheOutcome(CacheKind.EXACT_HIT), attempts=(), escalations=0)
    demo = Demo(((PROMPTS[0], COMPLETION), (PROMPTS[1], hit), (PROMPTS[2], failed)))
    text = shown(demo_view(demo))
    assert "exact hit" in text
    assert "✗ self_confidence" in text
    assert "2 answered, 1 from the cache, 1 escalated" in text
    assert "1 failed" in text
    assert demo.most_telling is COMPLETION


def test_the_demo_says_once_why_prompts_failed_and_how_the_first_of_them_did() -> None:
    def failed(attempts: str) -> Failure:
        return Failure(
            grpc.StatusCode.UNAVAILABLE, "NO_MODEL_AVAILABLE", "no model", metadata=(("attempts", attempts),)
        )

    refused = [error_for(failed(f"small-1:{why}")) for why in ("PROVIDER_UNREACHABLE", "BREAKER_OPEN", "BREAKER_OPEN")]
    text = shown(demo_view(Demo(tuple(zip(PROMPTS, refused, strict=False)))))
    assert text.count("Tried: small-1 PROVIDER_UNREACHABLE") == 1
    assert "BREAKER_OPEN" not in text


def test_what_next_names_the_command_as_this_shell_finds_it(tmp_path: Path) -> None:
    python, elsewhere = tmp_path / ".venv" / "bin" / "python", tmp_path / "usr"
    script = python.with_name("spillway")
    script.parent.mkdir(parents=True)
    elsewhere.mkdir()
    assert own_command(python, tmp_path, str(elsewhere)) == f"{python} -m spillway.cli"
    for path in (script, elsewhere / "spillway"):
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    assert own_command(python, tmp_path, str(elsewhere)) == ".venv/bin/spillway"
    assert own_command(python, elsewhere, "") == str(script)
    assert own_command(python, tmp_path, f"{script.parent}:{elsewhere}") == "spillway"
    assert ".venv/bin/spillway explain 'Prove" in what_next(".venv/bin/spillway", with_sandbox=True).plain


def test_the_figures_fit_and_say_what_was_saved_and_lost() -> None:
    routed = [
        Result("1", "gsm", True, 0.1, 100, 900, "m", "simple", True),
        Result("2", "gsm", False, 0.2, 100, 900, "m", "complex", True, escalations=1),
        Result("3", "math", False, 0.2, error="NO_MODEL_AVAILABLE"),
    ]
    flagship = [Result(str(number), "x", True, 0.1, 400) for number in range(3)]
    text = shown(
        replay_view(
            figures_by_task(routed, [replace(one, task=r.task) for one, r in zip(flagship, routed, strict=True)]), "big"
        )
    )
    assert "83.3 % cheaper than big alone, accuracy -66.67 points" in text
    assert "errors, counted as wrong: 1 NO_MODEL_AVAILABLE" in text
    assert "simple 50 %" in text


def test_the_status_table_shows_every_process() -> None:
    statuses = [
        ProcessStatus("cache", ProcessState.SERVING, 12345, "127.0.0.1:50053", 0, "serving"),
        ProcessStatus("executor", ProcessState.RESTARTING, None, "127.0.0.1:50054", 3, "x" * 200),
    ]
    text = shown(status_table(statuses))
    assert "12345" in text
    assert "restarting" in text
    assert len(text.splitlines()) == 3


def test_plain_status_prints_a_line_for_each_change_only() -> None:
    statuses = [ProcessStatus("cache", ProcessState.STARTING, None, "a:1", 0, "")]
    console = Console(file=io.StringIO(), width=COLUMNS)
    view = PlainStatus(console, lambda: statuses)
    with console.capture() as capture:
        view.changed()
        statuses[0] = replace(statuses[0], pid=1)
        view.changed()
        statuses[0] = replace(statuses[0], last_event="something")
        view.changed()
        statuses[0] = replace(statuses[0], state=ProcessState.SERVING)
        view.changed()
    assert [line.split()[1] for line in capture.get().splitlines()] == ["starting", "serving"]


@pytest.mark.parametrize(
    ("nanousd", "text"),
    [(0, "$0"), (1, "$0.000000001"), (8_500, "$0.00000850"), (123_456_789, "$0.123"), (3_404_000_000, "$3.40")],
)
def test_money_keeps_its_significant_digits(nanousd: int, text: str) -> None:
    assert usd(nanousd) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.0012, "1.2 ms"), (0.0841, "84 ms"), (1.25, "1.2 s"), (61, "61 s")])
def test_times_are_short(seconds: float, text: str) -> None:
    assert ms(seconds) == text


def test_savings_need_a_flagship_and_may_be_negative() -> None:
    assert saved(5, 0) is None
    assert percent(saved(5, 0)) == "–"
    assert percent(saved(115, 100), 0) == "-15 %"
