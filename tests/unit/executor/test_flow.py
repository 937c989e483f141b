"""When an answer may begin to flow."""

from __future__ import annotations

from typing import Any

import pytest

from services.executor.flow import Decision, Flow
from services.executor.gates import prefix
from services.executor.steps import Call
from spillway.routing import GateSpec, PlannedTier, RulesSpec, SelfConfidenceSpec, StreamPrefix

PREFIX = StreamPrefix(tokens=4, wait_s=2.0)
TEXT = "A long and useful answer."


def flow(*gates: GateSpec, stream_prefix: StreamPrefix | None = PREFIX, is_last: bool = False, **fields: Any) -> Flow:
    tier = PlannedTier("t", ("a",), gates, stream_prefix=stream_prefix)
    return Flow(Call(tier, "a", 10.0, is_last=is_last), **{"is_plain": True, "confidence": False, **fields})


def test_a_prefix_that_is_long_enough_and_good_commits() -> None:
    subject = flow(RulesSpec(must_not_match=("secret",)))
    subject.feed(TEXT[:15], 0.0)
    assert subject.decide(0.0, is_alone=True) is Decision.HOLD
    assert subject.take() == ""
    subject.feed(TEXT[15:], 0.0)
    assert subject.decide(0.0, is_alone=True) is Decision.COMMIT
    assert subject.decide(0.0, is_alone=True) is Decision.HOLD
    assert (subject.take(), subject.sent, subject.take()) == (TEXT, TEXT, "")


def test_a_short_prefix_commits_when_its_time_is_over() -> None:
    subject = flow(SelfConfidenceSpec())
    due_at_s = [subject.due_at_s]
    subject.feed("Good", 5.0)
    due_at_s.append(subject.due_at_s)
    assert subject.decide(6.9, is_alone=True) is Decision.HOLD
    assert subject.decide(7.0, is_alone=True) is Decision.COMMIT
    assert [*due_at_s, subject.due_at_s] == [None, 7.0, None]


@pytest.mark.parametrize("bad", ["I'm sorry, but I can't help with that.", "[ESCALATE]\nand more", "the secret is out"])
def test_a_bad_prefix_is_rejected_before_anything_leaves(bad: str) -> None:
    subject = flow(RulesSpec(must_not_match=("secret",)))
    subject.feed(bad, 0.0)
    assert subject.decide(0.0, is_alone=True) is Decision.REJECT
    assert subject.verdict is not None
    assert (subject.take(), subject.sent) == ("", "")


def test_spaces_alone_commit_nothing() -> None:
    subject = flow(is_last=True)
    subject.feed("\n" * 40, 0.0)
    assert subject.decide(9.0, is_alone=True) is Decision.HOLD


@pytest.mark.parametrize(
    ("gates", "stream_prefix", "fields", "decision"),
    [
        ((), None, {}, Decision.COMMIT),
        ((SelfConfidenceSpec(),), PREFIX, {}, Decision.COMMIT),
        ((SelfConfidenceSpec(),), None, {}, Decision.HOLD),
        ((), None, {"is_plain": False}, Decision.HOLD),
        ((), PREFIX, {"is_plain": False}, Decision.COMMIT),
    ],
)
def test_the_last_rung_flows_at_its_first_visible_character(
    gates: tuple[GateSpec, ...], stream_prefix: StreamPrefix | None, fields: dict[str, Any], decision: Decision
) -> None:
    subject = flow(*gates, stream_prefix=stream_prefix, is_last=True, **fields)
    subject.feed("A", 0.0)
    assert subject.decide(0.0, is_alone=False) is Decision.HOLD, "others may still be accepted"
    assert subject.decide(0.0, is_alone=True) is decision


def test_a_bad_prefix_only_holds_back_the_last_rung() -> None:
    subject = flow(is_last=True)
    subject.feed("I'm sorry, but I can't help with that.", 0.0)
    assert subject.decide(0.0, is_alone=False) is Decision.HOLD
    assert subject.decide(0.0, is_alone=False) is Decision.HOLD
    assert subject.decide(0.0, is_alone=True) is Decision.COMMIT, "nothing can replace it any more"


def test_what_is_whole_before_it_was_committed_is_judged_whole() -> None:
    subject = flow()
    subject.feed("Short", 0.0)
    subject.finish()
    assert subject.decide(99.0, is_alone=True) is Decision.HOLD
    assert subject.take() == ""


def test_the_confidence_never_flows() -> None:
    subject = flow(confidence=True)
    sent = ""
    for piece in (TEXT, "\nCONFI", "DENCE: 4", "\n"):
        subject.feed(piece, 0.0)
        subject.decide(0.0, is_alone=True)
        sent += subject.take()
    subject.finish()
    assert sent + subject.take() == TEXT


def test_only_what_can_be_known_of_a_beginning_speaks_against_it() -> None:
    wants_more = (RulesSpec(chars_min=100, must_match=("end",), require_code_block=True), SelfConfidenceSpec())
    assert prefix.rejection("A beginning", wants_more) is None
    rejected = prefix.rejection("x" * 20, (RulesSpec(chars_max=10),))
    assert rejected is not None
    assert rejected.gate == "rules"
