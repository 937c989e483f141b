"""All gates together: what decides, what informs, what the caller and the next model get to see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.executor.gates import calibration
from services.executor.gates.composite import Evidence, Judgement, Opinion, judge_answer
from services.executor.gates.grading import Grade
from services.executor.gates.schema import Schemas
from services.executor.outcome import Answer
from services.executor.prompt import augment
from spillway.chat import ChatRequest, FormatKind, ResponseFormat
from spillway.routing import (
    AgreementSpec,
    CompositeSpec,
    GateSpec,
    GateVerdict,
    JudgeSpec,
    LogprobSpec,
    PlannedTier,
    RulesSpec,
    SelfConfidenceSpec,
    SelfEvaluationSpec,
    Verdict,
)
from tests.unit.executor.builders import answer, chat

AGREED = (Opinion(answer("#### 42"), 7, 0.5),)
DIFFERENT = (Opinion(answer("#### 41"), 7, 0.5),)
GOOD = "6 * 7 = 42\n#### 42"


def judged(text: str | Answer, *gates: GateSpec, request: ChatRequest | None = None, **evidence: Any) -> Judgement:
    given = Evidence(request or chat(), confidence_min=0.8)
    given = replace(given, **evidence)
    return judge_answer(answer(text) if isinstance(text, str) else text, gates, given, Schemas())


def verdict_of(judgement: Judgement, gate: str) -> GateVerdict:
    return next(verdict for verdict in judgement.verdicts if verdict.gate == gate)


def test_one_probability_decides_in_place_of_what_informs_it() -> None:
    found = judged(GOOD, AgreementSpec(), CompositeSpec(threshold=0.0), opinions=DIFFERENT)
    assert verdict_of(found, "agreement").verdict is Verdict.FAIL
    assert found.accepted
    assert not judged(GOOD, AgreementSpec(), CompositeSpec(threshold=1.0), opinions=AGREED).accepted


def test_opinions_move_the_probability() -> None:
    agreed = judged(GOOD, AgreementSpec(), CompositeSpec(), opinions=AGREED)
    different = judged(GOOD, AgreementSpec(), CompositeSpec(), opinions=DIFFERENT)
    scores = [verdict_of(found, "composite").score for found in (different, agreed)]
    assert scores[0] is not None
    assert scores[1] is not None
    assert scores[0] < scores[1]
    assert "agree" in verdict_of(different, "composite").reason


def test_hard_failures_forms_and_rules_still_reject() -> None:
    anything = CompositeSpec(threshold=0.0)
    assert not judged("", anything).accepted
    form = chat(response_format=ResponseFormat(FormatKind.JSON_OBJECT))
    assert not judged("no json", anything, request=form).accepted
    assert not judged(GOOD, anything, RulesSpec(chars_min=1_000)).accepted


def test_graders_keep_their_say_beside_one_probability() -> None:
    spec = SelfEvaluationSpec()
    graded = judged(GOOD, CompositeSpec(threshold=0.0), spec, grades=(Grade(spec, '{"score": 0.1}'),))
    assert not graded.accepted


@pytest.mark.parametrize(
    ("spec", "evidence", "needed"),
    [
        (CompositeSpec(threshold=0.33, wrong_answer_cost_nanousd=1_000), {"confidence_asked": 0.5}, "0.33"),
        (CompositeSpec(wrong_answer_cost_nanousd=1_000), {"confidence_asked": 0.5, "next_nanousd": 300}, "0.50"),
        (CompositeSpec(wrong_answer_cost_nanousd=1_000), {"next_nanousd": 300}, "0.70"),
        (CompositeSpec(wrong_answer_cost_nanousd=1_000), {"next_nanousd": None}, "0.80"),
        (CompositeSpec(), {"next_nanousd": 300}, "0.80"),
    ],
)
def test_where_the_threshold_comes_from(spec: CompositeSpec, evidence: dict[str, Any], needed: str) -> None:
    assert f", {needed} needed" in verdict_of(judged(GOOD, spec, **evidence), "composite").reason


def test_the_head_of_the_tier_is_used() -> None:
    base = calibration.BASELINE
    default = base.heads[calibration.DEFAULT_HEAD]
    sure = replace(default.models[None], bias=9.0)
    known = replace(base, heads={**base.heads, "simple": calibration.Head({None: sure})})
    score = verdict_of(judged(GOOD, CompositeSpec(), calibration=known, tier="simple"), "composite").score
    other = verdict_of(judged(GOOD, CompositeSpec(), calibration=known, tier="medium"), "composite").score
    assert score is not None
    assert other is not None
    assert score > 0.99 > other


def test_graders_are_named_only_for_an_answer_that_all_others_take() -> None:
    graders = (SelfEvaluationSpec(), JudgeSpec("c1"))
    assert judged(GOOD, *graders).to_ask == graders
    assert judged(GOOD, RulesSpec(chars_min=1_000), *graders).to_ask == ()
    assert judged("", *graders).to_ask == ()
    grades = tuple(Grade(spec, '{"score": 1}') for spec in graders)
    asked = judged(GOOD, *graders, grades=grades)
    assert asked.to_ask == ()
    assert asked.accepted


def test_a_grader_that_could_not_be_asked_proves_nothing() -> None:
    spec = JudgeSpec("c1")
    missing = (Grade(spec, None, "no time was left"),)
    found = judged(GOOD, spec, grades=missing)
    assert not found.accepted
    assert "no time was left" in verdict_of(found, "judge").reason
    assert judged(GOOD, spec, grades=missing, is_last=True).accepted


@pytest.mark.parametrize(
    ("said", "gates", "is_open"),
    [
        ((None, None), (AgreementSpec(further_targets=("b",)),), True),
        (("42", None), (AgreementSpec(further_targets=("b",)),), True),
        (("41", None), (AgreementSpec(further_targets=("b",)),), False),  # not all can agree any more
        (("42", None), (AgreementSpec(further_targets=("b",), agreeing_min=1),), False),
        (("41", None), (AgreementSpec(further_targets=("b",), agreeing_min=1),), True),
        (("42", None), (AgreementSpec(further_targets=("b",), agreeing_min=1), CompositeSpec()), True),
        (("42", None), (AgreementSpec(further_targets=("b",)), RulesSpec(chars_min=1_000)), False),
        (("42", "42"), (AgreementSpec(further_targets=("b",)), CompositeSpec()), False),
    ],
)
def test_opinions_are_waited_for_while_they_may_matter(
    said: tuple[str | None, ...], gates: tuple[GateSpec, ...], is_open: bool
) -> None:
    opinions = tuple(Opinion(None if text is None else answer(f"#### {text}")) for text in said)
    assert judged(GOOD, *gates, opinions=opinions).is_open is is_open


def test_the_cost_of_every_opinion_is_in_the_verdict() -> None:
    opinions = (Opinion(answer("#### 42"), 7, 0.5), Opinion(None, 4, 2.0))
    verdict = verdict_of(judged(GOOD, AgreementSpec(agreeing_min=1), opinions=opinions), "agreement")
    assert (verdict.verdict, verdict.cost_nanousd, verdict.latency_s) == (Verdict.PASS, 11, 2.0)


def test_a_refusal_is_no_opinion() -> None:
    found = judged(GOOD, AgreementSpec(), opinions=(Opinion(answer("I can't help with that.")),))
    assert verdict_of(found, "agreement").verdict is Verdict.ABSTAIN


@pytest.mark.parametrize("kind", [FormatKind.JSON_OBJECT, FormatKind.JSON_SCHEMA])
def test_json_that_was_asked_for_is_returned_without_its_fence(kind: FormatKind) -> None:
    form = ResponseFormat(kind, '{"type": "object"}' if kind is FormatKind.JSON_SCHEMA else "")
    fenced = '```json\n{"a": 1}\n```'
    assert judged(fenced, request=chat(response_format=form)).answer.message.text == '{"a": 1}'
    assert judged(fenced).answer.message.text == fenced


def test_the_way_out_never_reaches_the_caller() -> None:
    for text, rest in (("[ESCALATE]", ""), ("Perhaps 42.\n[ESCALATE]", "Perhaps 42.")):
        found = judged(text, is_last=True)
        assert found.is_hard_failure
        assert found.answer.message.text == rest
        assert found.answer.is_empty == (not rest)


def test_a_request_that_asks_for_more_is_heard_by_graders_and_logprobs_have_their_own_scale() -> None:
    spec = SelfEvaluationSpec(score_min=0.7)
    grades = (Grade(spec, '{"score": 0.75}'),)
    assert judged(GOOD, spec, grades=grades).accepted  # the executor's 0.80 is not about grades
    assert not judged(GOOD, spec, grades=grades, confidence_asked=0.9).accepted
    unsure = replace(answer(GOOD), logprobs=(("#### 42", -1.0),))
    assert judged(unsure, LogprobSpec(mean_min=-2.0), confidence_asked=0.9).accepted


# What the operator wrote, what another model said, and how the gates came to their verdict.
SECRETS = ("PATTERN", "a pattern", "RUBRIC", "secret-target", "GRADER SAYS", "41", "needed", "P(acceptable)")


def test_the_next_model_is_told_what_was_wrong_and_no_secret() -> None:
    judge, evaluation = JudgeSpec("secret-target", 0.7, "RUBRIC"), SelfEvaluationSpec("secret-target")
    spoken = '{"reason": "GRADER SAYS it is 41", "score": 0.1}'
    form = chat(response_format=ResponseFormat(FormatKind.JSON_SCHEMA, '{"type": "array"}'))
    rejected = [
        judged(GOOD, RulesSpec(must_match=("PATTERN",))),
        judged(GOOD, RulesSpec(must_not_match=("4(2|PATTERN)",))),
        judged(GOOD, RulesSpec(must_match=("(PATTERN+)+",))),
        judged(GOOD, RulesSpec(language="fr", require_citation=True)),
        judged(GOOD, AgreementSpec("secret-target"), opinions=DIFFERENT),
        judged(GOOD + "\nCONFIDENCE: 1", SelfConfidenceSpec()),
        judged(replace(answer(GOOD), logprobs=(("42", -9.0),)), LogprobSpec(mean_min=-1)),
        judged(GOOD, judge, grades=(Grade(judge, spoken),)),
        judged(GOOD, evaluation, grades=(Grade(evaluation, spoken),)),
        judged(GOOD, CompositeSpec(threshold=1.0)),
        judged('{"PATTERN": 41}', request=form),
        judged("I can't help with that."),
    ]
    for found in rejected:
        assert not found.accepted
        assert found.notes
        told = augment(chat(), PlannedTier("complex", ("c1",)), found.notes).messages[0].text
        assert not [secret for secret in SECRETS if secret in told]
        reasons = " ".join(verdict.reason for verdict in found.verdicts)
        assert "GRADER" not in reasons
        assert "RUBRIC" not in reasons
