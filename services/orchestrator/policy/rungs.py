"""The rungs of a plan: of one configured tier, what may be asked of it for one request.

Promises: pure; a target whose context window is smaller than the estimate of what the request needs is left out, and
so is a tier that is left without targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from spillway.chat import ChatRequest, ImagePart
from spillway.routing import (
    AgreementSpec,
    CompositeSpec,
    GateSpec,
    JudgeSpec,
    LogprobSpec,
    PlannedTier,
    RulesSpec,
    SelfConfidenceSpec,
    SelfEvaluationSpec,
    StreamPrefix,
)
from spillway.settings import (
    AgreementGate,
    CompositeGate,
    Gate,
    JudgeGate,
    LogprobGate,
    RulesGate,
    SelfConfidenceGate,
    SelfEvaluationGate,
    Tier,
)

__all__ = ["estimated_tokens", "in_front", "planned_tier"]

# A provider counts a picture as so many tokens, more or less; only used to leave out targets that are too small.
_IMAGE_TOKENS = 1_000
# English has about four characters per token; three leave room for other languages and for markup.
_CHARS_PER_TOKEN = 3
NANOUSD_PER_USD = 1_000_000_000


def estimated_tokens(chat: ChatRequest) -> int:
    """A cautious estimate of the tokens that a request and its answer take in a context window."""
    chars = sum(len(tool.description) + len(tool.parameters_schema_json) for tool in chat.tools)
    chars += len(chat.response_format.schema_json) if chat.response_format else 0
    images = 0
    for message in chat.messages:
        chars += len(message.text) + sum(len(call.arguments_json) for call in message.tool_calls)
        images += sum(isinstance(part, ImagePart) for part in message.parts)
    return -(-chars // _CHARS_PER_TOKEN) + images * _IMAGE_TOKENS + (chat.generation.max_output_tokens or 0)


def planned_tier(
    tier: Tier, tokens: int, only_target: str, *, answering: Sequence[str] = (), gates: Sequence[Gate] | None = None
) -> PlannedTier | None:
    """One rung with the targets that have room, or None when none has.

    `only_target`: no other is asked for anything. `answering`: these answer, in this order, and the others may be asked
    for second opinions. `gates`: in place of the tier's.
    """
    asked = tuple(
        target.name
        for target in tier.targets
        if target.context_window_tokens >= tokens and (not only_target or target.name == only_target)
    )
    if not asked:
        return None
    names = tuple(name for name in answering if name in asked) or asked
    prefix = tier.stream_prefix
    return PlannedTier(
        name=tier.name,
        targets=names,
        gates=tuple(_gate_spec(gate, asked, names) for gate in (tier.gates if gates is None else gates)),
        attempt_timeout_s=tier.attempt_timeout_s,
        escape_valve=tier.escape_valve,
        stream_prefix=None if prefix is None else StreamPrefix(prefix.tokens, prefix.wait_s),
    )


def in_front(tier: Tier, target: str) -> tuple[str, ...]:
    """The tier's targets for a rung that is to ask `target` first.

    Where the executor chooses the order itself, nothing but the target alone makes it the first.
    """
    if tier.balance != "order":
        return (target,)
    return (target, *(each.name for each in tier.targets if each.name != target))


def _gate_spec(gate: Gate, asked: tuple[str, ...], answering: tuple[str, ...]) -> GateSpec:
    match gate:
        case AgreementGate():
            # The next target that answers, by the executor's rule; where none is left, the next one of the tier.
            other = next((name for name in asked if name not in answering), "") if len(answering) == 1 else ""
            spec = AgreementSpec(
                second_target=gate.second_target,
                normalizer=gate.normalizer,
                further_targets=tuple(target for target in gate.further_targets if target in asked),
                agreeing_min=gate.agreeing_min,
                in_turn=gate.in_turn,
                count_earlier=gate.count_earlier,
            )
            # A second opinion that was left out of the tier is replaced by the next one.
            named = spec.second_target in asked and not (other and answering == (spec.second_target,))
            return spec if named else replace(spec, second_target=other)
        case SelfConfidenceGate():
            return SelfConfidenceSpec(threshold=gate.threshold)
        case RulesGate():
            return RulesSpec(
                chars_min=gate.chars_min,
                chars_max=gate.chars_max,
                must_match=tuple(gate.must_match),
                must_not_match=tuple(gate.must_not_match),
                require_code_block=gate.require_code_block,
                number_min=gate.number_min,
                number_max=gate.number_max,
                require_citation=gate.require_citation,
                language=gate.language,
            )
        case SelfEvaluationGate():
            return SelfEvaluationSpec(target=gate.target, score_min=gate.score_min)
        case LogprobGate():
            return LogprobSpec(gate.mean_min, gate.least_min, gate.span_mean_min)
        case JudgeGate():
            return JudgeSpec(gate.target, gate.score_min, gate.rubric)
        case CompositeGate():
            cost_usd = gate.wrong_answer_cost_usd
            return CompositeSpec(gate.threshold, None if cost_usd is None else round(cost_usd * NANOUSD_PER_USD))
