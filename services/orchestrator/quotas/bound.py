"""What a request can cost at most, and what it costs at least, before any model is asked.

Promises: pure. The most is what the plan comes to when every call is answered, with as many escalations as it allows,
each with everything that its gates ask, on the dearest rungs that can be reached. Calls that are billed and fail come
on top, and that is no danger to a budget of money: what is granted goes to the executor as a ceiling, which no call may
exceed. So it is a matter of how much is held while nothing is known. Tokens have no such ceiling: their bound counts
every call that the plan can come to, answers that are graded at four bytes a token. What calls came to afterwards is
what their providers counted; one that may have been charged and that nobody counted has taken its bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from spillway.bounds import cost_most, input_tokens_most, output_tokens_least, output_tokens_most
from spillway.chat import ChatRequest
from spillway.routing import (
    AgreementSpec,
    Attempt,
    AttemptOutcome,
    AttemptPurpose,
    JudgeSpec,
    Plan,
    PlannedTier,
    SelfEvaluationSpec,
    Strategy,
)
from spillway.settings import Price

__all__ = ["Bound", "bound_of", "tokens_spent"]

_ADDITIONS_TOKENS: Final = 600  # what gates may add to a prompt
_GRADE_INPUT_TOKENS: Final = 256  # how a grader is asked, beside question, answer and rubric
_GRADE_OUTPUT_TOKENS: Final = 400
_WATERFALL_RUNGS: Final = 3
_NEVER_CHARGED: Final = frozenset({AttemptOutcome.SKIPPED, AttemptOutcome.THROTTLED})
_GRADES: Final = frozenset({AttemptPurpose.JUDGE, AttemptPurpose.SELF_EVALUATION})


@dataclass(frozen=True, slots=True)
class Bound:
    """Of one request. Less than `least_cost_nanousd` buys no answer. `rate_tokens` are those of one call."""

    cost_nanousd: int
    tokens: int
    least_cost_nanousd: int
    rate_tokens: int = 0


@dataclass(frozen=True, slots=True)
class _Call:
    cost_nanousd: int
    tokens: int


def bound_of(chat: ChatRequest, plan: Plan, prices: Mapping[str, Price]) -> Bound:
    """The bound of `plan` for `chat`. `prices` are by target; one that is not known costs as much as the dearest."""
    dearest = max(prices.values(), key=lambda price: price.input_usd_per_mtok + price.output_usd_per_mtok)
    tokens_in = input_tokens_most(chat) + _ADDITIONS_TOKENS
    tokens_out = output_tokens_most(chat)

    def call(target: str, tokens_in: int, tokens_out: int) -> _Call:
        return _Call(cost_most(prices.get(target, dearest), tokens_in, tokens_out), tokens_in + tokens_out)

    def asked_by_gates(tier: PlannedTier, target: str) -> Iterable[_Call]:
        for gate in tier.gates:
            if isinstance(gate, AgreementSpec):
                others = (gate.second_target, *tier.targets) if gate.second_target else tier.targets
                second = max((call(name, tokens_in, tokens_out) for name in others), key=lambda one: one.cost_nanousd)
                yield second
                yield from (call(name, tokens_in, tokens_out) for name in gate.further_targets)
            elif isinstance(gate, JudgeSpec | SelfEvaluationSpec):
                yield call(gate.target or target, _graded(tokens_in, tokens_out, gate), _GRADE_OUTPUT_TOKENS)

    def answer(tier: PlannedTier, target: str) -> _Call:
        calls = [call(target, tokens_in, tokens_out), *asked_by_gates(tier, target)]
        return _Call(sum(one.cost_nanousd for one in calls), sum(one.tokens for one in calls))

    tiers = plan.tiers[:1] if plan.strategy is Strategy.DIRECT else plan.tiers
    answers = [[answer(tier, target) for target in tier.targets] for tier in tiers]
    rungs = sorted(max(one.cost_nanousd for one in of_tier) for of_tier in answers)
    cost = sum(rungs[-_answers_max(plan) :])
    if plan.strategy is Strategy.HEDGED:
        cost += rungs[-1]
    if plan.cost_nanousd_max is not None:
        cost = min(cost, plan.cost_nanousd_max)
    least = min(
        cost_most(prices.get(target, dearest), tokens_in, output_tokens_least(chat))
        for tier in tiers
        for target in tier.targets
    )
    return Bound(
        cost_nanousd=cost,
        tokens=sum(one.tokens for of_tier in answers for one in of_tier),
        least_cost_nanousd=min(least, cost),
        rate_tokens=tokens_in + tokens_out,
    )


def tokens_spent(chat: ChatRequest, plan: Plan, attempts: Sequence[Attempt], prices: Mapping[str, Price]) -> int:
    """The tokens that `attempts` under `plan` took, and for those that nobody counted the most that it may have been.

    A call without a cost was not charged, unless its target is one that costs nothing.
    """
    tokens_in = input_tokens_most(chat) + _ADDITIONS_TOKENS
    tokens_out = output_tokens_most(chat)
    graders = [gate for tier in plan.tiers for gate in tier.gates if isinstance(gate, JudgeSpec | SelfEvaluationSpec)]
    graded = max((_graded(tokens_in, tokens_out, gate) for gate in graders), default=tokens_in)

    def of(attempt: Attempt) -> int:
        if attempt.usage is not None:
            return attempt.usage.input_tokens + attempt.usage.output_tokens
        price = prices.get(attempt.target)
        is_free = price is not None and not price.input_usd_per_mtok and not price.output_usd_per_mtok
        if not attempt.cost_nanousd and (not is_free or attempt.outcome in _NEVER_CHARGED):
            return 0
        return graded + _GRADE_OUTPUT_TOKENS if attempt.purpose in _GRADES else tokens_in + tokens_out

    return sum(of(attempt) for attempt in attempts)


def _graded(tokens_in: int, tokens_out: int, gate: JudgeSpec | SelfEvaluationSpec) -> int:
    """What a grader reads. The answer has as many bytes as it has; four for each token is what texts come to."""
    rubric = len(gate.rubric.encode()) if isinstance(gate, JudgeSpec) else 0
    return tokens_in + 4 * tokens_out + _GRADE_INPUT_TOKENS + rubric


def _answers_max(plan: Plan) -> int:
    """How many rungs may answer."""
    if plan.strategy is Strategy.DIRECT:
        return 1
    if plan.strategy is Strategy.RACE:
        return len(plan.tiers)
    return _WATERFALL_RUNGS if plan.strategy is Strategy.WATERFALL else plan.escalations_max + 1
