"""All gates on one answer: the verdicts, and whether together they accept it.

Promises: pure. An answer is accepted when no gate fails and every gate that the tier asks for has proved it:
- the hard-failure gate always applies, the schema gate whenever the request asks for a form or offers tools;
- a configured gate that abstains has proved nothing, which counts as a failure; on the last rung, where no better
  answer can follow, it does not;
- a score below `confidence_min` counts as a failure of its gate;
- the self-confidence gate does not apply to JSON and to tool calls: there is no room for its line, and the schema
  gate speaks instead.
Once the answer is no answer at all, the remaining gates are not asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.executor.gates import agreement, hard_failure, rules, schema, self_confidence
from services.executor.outcome import Answer
from spillway.chat import ChatRequest, FormatKind, Message
from spillway.routing import (
    AgreementSpec,
    GateSpec,
    GateVerdict,
    RulesSpec,
    SelfConfidenceSpec,
    TaskType,
    Verdict,
)

__all__ = ["Evidence", "Judgement", "asks_for_confidence", "judge"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the gates may look at beside the answer."""

    chat: ChatRequest
    task_type: TaskType | None = None
    second: Message | None = None
    second_cost_nanousd: int = 0
    second_latency_s: float = 0.0
    confidence_min: float = 0.0
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """`answer` is without what was meant for Spillway; `notes` say what was wrong, for the next model."""

    answer: Answer
    verdicts: tuple[GateVerdict, ...]
    accepted: bool
    is_hard_failure: bool
    notes: tuple[str, ...] = ()


def asks_for_confidence(gates: tuple[GateSpec, ...], chat: ChatRequest) -> bool:
    """Whether the prompt is to ask for a line with the model's confidence."""
    form = chat.response_format
    plain = form is None or form.kind is FormatKind.TEXT
    return plain and any(isinstance(gate, SelfConfidenceSpec) for gate in gates)


def judge(answer: Answer, gates: tuple[GateSpec, ...], evidence: Evidence, schemas: schema.Schemas) -> Judgement:
    """The verdicts on an answer. Raises InvalidSchemaError for a schema that is none."""
    said: int | None = None
    asked = asks_for_confidence(gates, evidence.chat)
    if asked:
        answer, said = _without_confidence(answer)
    hard = [hard_failure.check(answer)]
    if hard[0].verdict is Verdict.PASS and schema.applies(evidence.chat):
        hard.append(schemas.check(answer.message, evidence.chat))
    if any(verdict.verdict is Verdict.FAIL for verdict in hard):
        failed = hard[-1]
        return Judgement(answer, tuple(hard), accepted=False, is_hard_failure=True, notes=(_note(failed),))
    soft: list[GateVerdict] = []
    for spec in gates:
        if isinstance(spec, RulesSpec):
            verdict = rules.check(answer.message.text, spec)
        elif isinstance(spec, AgreementSpec):
            verdict = _agreement(answer, spec, gates, evidence)
        elif isinstance(spec, SelfConfidenceSpec) and asked and not answer.message.tool_calls:
            verdict = self_confidence.check(said, spec)
        else:
            continue
        soft.append(_with_least(verdict, evidence.confidence_min))
    failed_soft = [
        verdict
        for verdict in soft
        if verdict.verdict is Verdict.FAIL or (verdict.verdict is Verdict.ABSTAIN and not evidence.is_last)
    ]
    return Judgement(
        answer,
        (*hard, *soft),
        accepted=not failed_soft,
        is_hard_failure=False,
        notes=tuple(_note(verdict) for verdict in failed_soft),
    )


def _agreement(answer: Answer, spec: AgreementSpec, gates: tuple[GateSpec, ...], evidence: Evidence) -> GateVerdict:
    second = evidence.second
    if second is not None and asks_for_confidence(gates, evidence.chat):
        second = _without_confidence(Answer(second))[0].message
    verdict = agreement.check(answer.message, second, spec, evidence.task_type)
    return replace(verdict, cost_nanousd=evidence.second_cost_nanousd, latency_s=evidence.second_latency_s)


def _without_confidence(answer: Answer) -> tuple[Answer, int | None]:
    text, said = self_confidence.strip(answer.message.text)
    if said is None:
        return answer, None
    message = Message.of(answer.message.role, text)
    return replace(answer, message=replace(message, tool_calls=answer.message.tool_calls)), said


def _with_least(verdict: GateVerdict, confidence_min: float) -> GateVerdict:
    if verdict.verdict is Verdict.PASS and verdict.score is not None and verdict.score < confidence_min:
        reason = f"{verdict.reason}; score {verdict.score:g} is below {confidence_min:g}"
        return replace(verdict, verdict=Verdict.FAIL, reason=reason)
    return verdict


def _note(verdict: GateVerdict) -> str:
    """What was wrong, in a few words for the next model. Short: it is read at the next model's price."""
    if verdict.gate == schema.GATE:
        return f"wrong form: {verdict.reason}"
    if verdict.gate == agreement.GATE:
        return "answers disagreed"
    if verdict.gate == self_confidence.GATE:
        return "its author was unsure"
    return verdict.reason
