"""What tiers below said is an opinion on this tier's answer, where a gate counts it."""

from __future__ import annotations

import pytest

from spillway.chat import FormatKind, ResponseFormat
from spillway.routing import (
    AgreementSpec,
    CompositeSpec,
    GateSpec,
    Plan,
    PlannedTier,
    RulesSpec,
    SelfConfidenceSpec,
    Verdict,
)
from tests.unit.executor.builders import DOWN, Bench, chat
from tests.unit.executor.gated import run


def ladder(*gates: GateSpec, first: GateSpec | None = None) -> Plan:
    """simple with a gate, then medium with `gates`, then complex."""
    simple, medium = (
        PlannedTier("simple", ("a1", "a2"), (first or AgreementSpec("a2"),)),
        PlannedTier("medium", ("b1",), gates),
    )
    return Plan((simple, medium, PlannedTier("complex", ("c1",))))


EARLIER = AgreementSpec(agreeing_min=1, count_earlier=True)


@pytest.mark.parametrize(
    ("said", "tier"), [("#### 41", "medium"), ("#### 42", "medium"), ("#### 43", "complex"), ("No idea.", "complex")]
)
async def test_an_answer_that_agrees_with_anything_said_earlier_is_accepted_at_no_further_cost(
    said: str, tier: str
) -> None:
    bench = Bench({"a1": ["#### 42"], "a2": ["#### 41"], "b1": [said], "c1": ["#### 42"]})
    execution = await run(bench, ladder(EARLIER))
    assert execution.tier == tier
    assert bench.asked == ["a1", "a2", "b1", *(["c1"] if tier == "complex" else [])]
    agreement = next(a for a in execution.attempts if a.target == "b1").verdicts[-1]
    assert (agreement.gate, agreement.cost_nanousd) == ("agreement", 0)


async def test_by_default_all_that_was_said_earlier_must_agree() -> None:
    bench = Bench({"a1": ["#### 42"], "a2": ["#### 41"], "b1": ["#### 42"], "c1": ["#### 42"]})
    execution = await run(bench, ladder(AgreementSpec(count_earlier=True)))
    assert execution.tier == "complex"


async def test_earlier_answers_do_not_count_unless_asked_for() -> None:
    bench = Bench({"a1": ["#### 42"], "a2": ["#### 41"], "b1": ["#### 42", "#### 43"], "c1": ["#### 44"]})
    execution = await run(bench, ladder(AgreementSpec(agreeing_min=1)))
    assert (bench.asked, execution.tier) == (["a1", "a2", "b1", "b1", "c1"], "complex")


async def test_what_is_no_answer_is_nothing_to_agree_with_later() -> None:
    refusal = "I'm sorry, but I can't help with that."
    bench = Bench({"a1": [refusal], "b1": [refusal, "#### 42"], "c1": ["#### 42"]})
    given = ladder(EARLIER, first=RulesSpec(chars_min=1))
    execution = await run(bench, given)
    assert (bench.asked, execution.tier) == (["a1", "b1", "c1"], "complex")
    wrong_form = Bench({"a1": ['{"b": 1}'], "b1": ['{"a": 1}'], "c1": ['{"a": 1}']})
    schema = '{"type": "object", "required": ["a"]}'
    form = chat(response_format=ResponseFormat(FormatKind.JSON_SCHEMA, schema_json=schema))
    execution = await run(wrong_form, given, form)
    found = next(a for a in execution.attempts if a.target == "b1").verdicts[-1]
    assert (found.verdict, found.reason) == (Verdict.ABSTAIN, "no second opinion")


async def test_with_nothing_said_earlier_the_gate_proves_nothing_and_asks_nobody() -> None:
    bench = Bench({"a1": [DOWN], "a2": [DOWN], "b1": ["#### 42"], "c1": ["#### 42"]})
    execution = await run(bench, ladder(EARLIER))
    assert execution.tier == "complex"
    assert bench.asked.count("b1") == 1


async def test_a_confidence_line_of_an_earlier_tier_is_no_part_of_what_it_said() -> None:
    bench = Bench({"a1": ["a fine day\nCONFIDENCE: 1"], "b1": ["A fine day."], "c1": ["No."]})
    execution = await run(bench, ladder(EARLIER, first=SelfConfidenceSpec(4)))
    assert execution.tier == "medium"


async def test_earlier_answers_inform_one_probability_too() -> None:
    scores: list[float] = []
    for said in ("#### 42", "#### 43"):
        bench = Bench({"a1": ["#### 42"], "a2": ["#### 41"], "b1": [said], "c1": ["#### 42"]})
        execution = await run(bench, ladder(EARLIER, CompositeSpec(0.0)))
        scores.append(next(a for a in execution.attempts if a.target == "b1").verdicts[-1].score or 0.0)
    assert scores[0] > scores[1]
