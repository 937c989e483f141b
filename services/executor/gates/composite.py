"""All gates on one answer: the verdicts, and whether together they accept it.

Promises: pure. An answer is accepted when no gate fails and every gate that the tier asks for has proved it:
- the hard-failure gate always applies, the schema gate whenever the request asks for a form or offers tools;
- a configured gate that abstains has proved nothing, which counts as a failure; on the last rung, where no better
  answer can follow, it does not;
- a score of the self-confidence or agreement gate below the least confidence counts as a failure of that gate, and so
  does a grade below what the request itself asked for. Other scores are on scales of their own;
- the self-confidence gate does not apply to JSON and to tool calls: there is no room for its line, and the schema
  gate speaks instead;
- with a composite gate, agreement, self-confidence and log-probability only inform it: they are its signals, and it
  decides in their place. Rules, self-evaluation and the judge are no signals of it and keep their say.
Once the answer is no answer at all, the remaining gates are not asked. Self-evaluation and judge cost a call each, so
they come last, and only for an answer that all others would take: `Judgement.to_ask` names them until they are asked.

The answer that leaves here is fit for the caller: without its confidence line and its mark to escalate, and as bare
JSON, without a markdown fence, when JSON was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from services.executor.gates import (
    agreement,
    hard_failure,
    judge,
    logprob,
    probability,
    rules,
    schema,
    self_confidence,
    self_evaluation,
)
from services.executor.gates.calibration import BASELINE, Calibration
from services.executor.gates.grading import Grade, Grader
from services.executor.gates.observation import OPINIONS_MAX, Observed
from services.executor.outcome import Answer
from spillway.chat import ChatRequest, FinishReason, FormatKind, Message
from spillway.routing import (
    AgreementSpec,
    CompositeSpec,
    GateSpec,
    GateVerdict,
    JudgeSpec,
    LogprobSpec,
    RulesSpec,
    SelfConfidenceSpec,
    SelfEvaluationSpec,
    TaskType,
    Verdict,
)

__all__ = ["Evidence", "Judgement", "Opinion", "as_opinion", "asks_for_confidence", "judge_answer", "wants_logprobs"]

_INFORMS: Final = (AgreementSpec, SelfConfidenceSpec, LogprobSpec)


@dataclass(frozen=True, slots=True)
class Opinion:
    """Another model's answer to the same question; None while, or because, there is none."""

    answer: Answer | None = None
    cost_nanousd: int = 0
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the gates may look at beside the answer. `grades` is None until graders have been asked.

    `earlier` is what earlier rungs said, as it compares, the last rung first. `confidence_asked` is the request's own
    least confidence, `confidence_min` the executor's; `next_nanousd` what the next rung is estimated to cost, None when
    none may follow.
    """

    chat: ChatRequest
    task_type: TaskType | None = None
    tier: str = ""
    opinions: tuple[Opinion, ...] = ()
    earlier: tuple[Message, ...] = ()
    grades: tuple[Grade, ...] | None = None
    confidence_min: float = 0.0
    confidence_asked: float | None = None
    next_nanousd: int | None = None
    is_last: bool = False
    calibration: Calibration = field(default=BASELINE, repr=False)

    @property
    def confidence_least(self) -> float:
        """The least confidence that holds: the request's, or else the executor's."""
        return self.confidence_min if self.confidence_asked is None else self.confidence_asked


@dataclass(frozen=True, slots=True)
class Judgement:
    """`answer` is fit for the caller; `notes` say what was wrong, for the next model.

    `is_open`: opinions that are still missing may change it. `to_ask`: graders whose word is still missing; ask them,
    and judge again. Until then `accepted` is provisional.
    """

    answer: Answer
    verdicts: tuple[GateVerdict, ...]
    accepted: bool
    is_hard_failure: bool
    notes: tuple[str, ...] = ()
    is_open: bool = False
    to_ask: tuple[Grader, ...] = ()


def asks_for_confidence(gates: tuple[GateSpec, ...], chat: ChatRequest) -> bool:
    """Whether the prompt is to ask for a line with the model's confidence."""
    form = chat.response_format
    plain = form is None or form.kind is FormatKind.TEXT
    return plain and any(isinstance(gate, SelfConfidenceSpec) for gate in gates)


def wants_logprobs(gates: tuple[GateSpec, ...]) -> bool:
    """Whether the provider is to be asked for log-probabilities."""
    return any(isinstance(gate, LogprobSpec) for gate in gates)


def judge_answer(answer: Answer, gates: tuple[GateSpec, ...], evidence: Evidence, schemas: schema.Schemas) -> Judgement:
    """The verdicts on an answer. Raises InvalidSchemaError for a schema that is none."""
    asked = asks_for_confidence(gates, evidence.chat)
    answer, said = _without_confidence(answer) if asked else (answer, None)
    hard = [hard_failure.check(answer, evidence.chat, evidence.task_type)]
    if hard[0].verdict is Verdict.PASS and schema.applies(evidence.chat):
        hard.append(schemas.check(answer.message, evidence.chat))
    clean = _clean(answer, evidence.chat, well_formed=hard[-1].verdict is Verdict.PASS)
    if any(verdict.verdict is Verdict.FAIL for verdict in hard):
        return Judgement(clean, tuple(hard), accepted=False, is_hard_failure=True, notes=(_note(hard[-1]),))
    soft = [
        (spec, verdict)
        for spec in gates
        if (verdict := _soft(spec, clean, said if asked else None, gates, evidence)) is not None
    ]
    composed = any(isinstance(spec, CompositeSpec) for spec in gates)
    deciding = [verdict for spec, verdict in soft if not (composed and isinstance(spec, _INFORMS))]
    failed = [
        verdict
        for verdict in deciding
        if verdict.verdict is Verdict.FAIL or (verdict.verdict is Verdict.ABSTAIN and not evidence.is_last)
    ]
    graders = tuple(spec for spec in gates if isinstance(spec, Grader)) if evidence.grades is None else ()
    return Judgement(
        clean,
        (*hard, *(verdict for _, verdict in soft)),
        accepted=not failed,
        is_hard_failure=False,
        notes=tuple(dict.fromkeys(_note(verdict) for verdict in failed)),
        is_open=_is_open(soft, evidence, composed=composed),
        to_ask=() if failed else graders,
    )


def _is_open(soft: list[tuple[GateSpec, GateVerdict]], evidence: Evidence, *, composed: bool) -> bool:
    """Whether an opinion that is still missing may change what is decided. One probability counts every opinion."""
    if all(opinion.answer is not None for opinion in evidence.opinions):
        return False
    for spec, verdict in soft:
        may_change = isinstance(spec, CompositeSpec) or (composed and isinstance(spec, _INFORMS))
        if verdict.verdict is Verdict.FAIL and not may_change:
            return False  # nothing can make up for it
    return composed or any(
        isinstance(spec, AgreementSpec) and verdict.verdict is Verdict.ABSTAIN for spec, verdict in soft
    )


def _soft(
    spec: GateSpec, answer: Answer, said: int | None, gates: tuple[GateSpec, ...], evidence: Evidence
) -> GateVerdict | None:
    """One gate's verdict; None when it does not apply, or is not asked yet."""
    least = evidence.confidence_least
    match spec:
        case RulesSpec():
            return rules.check(answer.message.text, spec)
        case AgreementSpec():
            return _with_least(_agreement(answer, spec, gates, evidence), least)
        case SelfConfidenceSpec():
            if not asks_for_confidence(gates, evidence.chat) or answer.message.tool_calls:
                return None
            return _with_least(self_confidence.check(said, spec), least)
        case LogprobSpec():
            return logprob.check(answer.logprobs, spec)
        case CompositeSpec():
            stakes = probability.Stakes(evidence.confidence_min, evidence.confidence_asked, evidence.next_nanousd)
            observed = _observed(answer, said, gates, evidence)
            return probability.check(observed, spec, stakes, evidence.calibration, evidence.tier)
        case SelfEvaluationSpec() | JudgeSpec():
            if evidence.grades is None:
                return None
            grade = next((grade for grade in evidence.grades if grade.spec == spec), None)
            check = judge.check if isinstance(spec, JudgeSpec) else self_evaluation.check
            return check(grade, answer.message, evidence.confidence_asked or 0.0)


def _agreement(answer: Answer, spec: AgreementSpec, gates: tuple[GateSpec, ...], evidence: Evidence) -> GateVerdict:
    verdict = agreement.check(answer.message, _opinions(gates, spec, evidence), spec, evidence.task_type)
    return replace(
        verdict,
        cost_nanousd=sum(opinion.cost_nanousd for opinion in evidence.opinions),
        latency_s=max((opinion.latency_s for opinion in evidence.opinions), default=0.0),
    )


def as_opinion(
    given: Answer, gates: tuple[GateSpec, ...], chat: ChatRequest, task_type: TaskType | None
) -> Message | None:
    """What was said beside an answer under `gates`, as it compares: what is no answer at all is no opinion either."""
    if asks_for_confidence(gates, chat):
        given = _without_confidence(given)[0]
    return given.message if hard_failure.check(given, chat, task_type).verdict is Verdict.PASS else None


def _opinions(gates: tuple[GateSpec, ...], spec: AgreementSpec, evidence: Evidence) -> list[Message | None]:
    """Every opinion that counts for `spec`, None where there is none, or none yet."""
    asked = [
        None if opinion.answer is None else as_opinion(opinion.answer, gates, evidence.chat, evidence.task_type)
        for opinion in evidence.opinions
    ]
    return [*asked, *(evidence.earlier if spec.count_earlier else ())]


def _observed(answer: Answer, said: int | None, gates: tuple[GateSpec, ...], evidence: Evidence) -> Observed:
    spec = next((gate for gate in gates if isinstance(gate, AgreementSpec)), AgreementSpec())
    figures = logprob.figures(answer.logprobs)
    opinions = [message.text for message in _opinions(gates, spec, evidence) if message is not None]
    return Observed(
        question=evidence.chat.last_user_text,
        answer=answer.message.text,
        task_type=evidence.task_type,
        opinions=tuple(opinions[:OPINIONS_MAX]),
        normalizer=spec.normalizer,
        self_confidence=said,
        logprob_mean=None if figures is None else figures.mean,
        logprob_min=None if figures is None else figures.least,
        is_cut=answer.finish_reason is FinishReason.LENGTH,
    )


def _without_confidence(answer: Answer) -> tuple[Answer, int | None]:
    text, said = self_confidence.strip(answer.message.text)
    return (answer, None) if said is None else (_with_text(answer, text), said)


def _clean(answer: Answer, chat: ChatRequest, *, well_formed: bool) -> Answer:
    """The answer without the mark to escalate, and without a fence when it is JSON that was asked for as such."""
    text = hard_failure.without_mark(answer.message.text)
    if well_formed and not answer.message.tool_calls:
        text = schema.bare(text, chat)
    return answer if text == answer.message.text else _with_text(answer, text)


def _with_text(answer: Answer, text: str) -> Answer:
    message = Message.of(answer.message.role, text) if text else Message(answer.message.role)
    return replace(answer, message=replace(message, tool_calls=answer.message.tool_calls))


def _with_least(verdict: GateVerdict, confidence_min: float) -> GateVerdict:
    if verdict.verdict is Verdict.PASS and verdict.score is not None and verdict.score < confidence_min:
        reason = f"{verdict.reason}; score {verdict.score:g} is below {confidence_min:g}"
        return replace(verdict, verdict=Verdict.FAIL, reason=reason)
    return verdict


_NOTES: Final = {
    agreement.GATE: "answers disagreed",
    self_confidence.GATE: "its author was unsure",
    logprob.GATE: "its author was unsure",
    self_evaluation.GATE: "a check found it wanting",
    judge.GATE: "a review found it wanting",
    probability.GATE: "it was probably wrong",
}


def _note(verdict: GateVerdict) -> str:
    """What was wrong, in a few words for the next model. Short: it is read at the next model's price.

    Never what the operator or another model wrote: no pattern, rubric or name of a target, no judge's words.
    """
    if verdict.gate == schema.GATE:
        return f"wrong form: {verdict.reason}"
    if verdict.gate == rules.GATE and verdict.verdict is Verdict.ABSTAIN:
        return "it could not be checked"
    return _NOTES.get(verdict.gate, verdict.reason)
