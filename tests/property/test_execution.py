"""Plans run against models in memory, with any strategy and any luck."""

from __future__ import annotations

import asyncio

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.executor.outcome import Answer, ProviderFailure
from services.executor.providers.provider import FakeStep
from services.runtime.errors import SpillwayError
from spillway.chat import Usage
from spillway.routing import (
    AgreementSpec,
    AnswerDelta,
    AttemptOutcome,
    Execution,
    GateSpec,
    Plan,
    PlannedTier,
    RulesSpec,
    SelfConfidenceSpec,
    Strategy,
    StreamPrefix,
)
from tests.unit.executor.builders import CUT, DOWN, REFUSED, Bench, answer, chat

TARGETS = {"simple": ("a1", "a2"), "medium": ("b1",), "complex": ("c1", "c2")}

luck = st.fixed_dictionaries(
    {
        name: st.tuples(
            st.sampled_from(["good", "unsure", "refusal", "escalate", "empty", "cut", "down", "refused", "broken"]),
            st.integers(1, 40),
            st.integers(0, 12),
        )
        for names in TARGETS.values()
        for name in names
    }
)
gates = st.lists(
    st.sampled_from([SelfConfidenceSpec(), RulesSpec(must_not_match=("unsure",)), AgreementSpec()]), max_size=2
)
prefixes = st.none() | st.integers(1, 30).map(lambda tokens: StreamPrefix(tokens, 2.0))


def step(name: str, what: str, chunk_chars: int, cut_after: int) -> FakeStep:
    """Every text names its author, so that no two can be mistaken for one."""
    text = f"{name} says: this is a long and careful answer by {name}."
    results: dict[str, Answer | ProviderFailure] = {
        "good": answer(f"{text}\nCONFIDENCE: 5"),
        "unsure": answer(f"{text} But {name} is unsure.\nCONFIDENCE: 1"),
        "refusal": answer("I'm sorry, but I can't help with that."),
        "escalate": answer(f"{text}\n[ESCALATE]"),
        "empty": answer(""),
        "cut": answer(text, CUT),
        "down": DOWN,
        "refused": REFUSED,
        "broken": answer(text * 3),
    }
    return FakeStep(results[what], cut_after=cut_after if what == "broken" else None, chunk_chars=chunk_chars)


@given(
    luck,
    st.sampled_from(list(Strategy)),
    st.fixed_dictionaries({tier: st.tuples(gates, prefixes) for tier in TARGETS}),
    st.booleans(),
    st.none() | st.integers(1, 200_000_000),
)
@example(  # the race is won in the moment in which the last stream is the only one left
    fate={
        "a1": ("good", 2, 0),
        "a2": ("good", 1, 0),
        "b1": ("refusal", 1, 0),
        "c1": ("good", 1, 0),
        "c2": ("good", 1, 0),
    },
    strategy=Strategy.RACE,
    shape={"simple": ([], StreamPrefix(16, 2.0)), "medium": ([], None), "complex": ([], None)},
    streaming=True,
    ceiling=None,
)
@settings(max_examples=150)
def test_one_answer_of_one_model_with_every_cost(
    fate: dict[str, tuple[str, int, int]],
    strategy: Strategy,
    shape: dict[str, tuple[list[GateSpec], StreamPrefix | None]],
    streaming: bool,
    ceiling: int | None,
) -> None:
    bench = Bench({name: [step(name, *what)] for name, what in fate.items()})
    tiers = tuple(
        PlannedTier(tier, names, tuple(shape[tier][0]), stream_prefix=shape[tier][1]) for tier, names in TARGETS.items()
    )
    plan = Plan(tiers, strategy, cost_nanousd_max=ceiling)
    sent: list[str] = []

    async def run() -> Execution | str:
        try:
            if not streaming:
                return await bench.executor.execute(chat(), plan, None, 60.0)
            end = None
            async for event in bench.executor.stream(chat(), plan, None, 60.0):
                assert end is None, "the execution comes last"
                if isinstance(event, AnswerDelta):
                    sent.append(event.text)
                else:
                    end = event
            assert end is not None
            return end
        except SpillwayError as error:
            return error.reason

    async def bounded() -> Execution | str:
        async with asyncio.timeout(20):
            return await run()

    end = asyncio.run(bounded())
    text = "".join(sent)
    assert "[ESCALATE]" not in text
    authors = {name for name in fate if name in text}
    assert len(authors) <= 1, "never spliced"
    assert all(state.breaker.in_flight == 0 for state in bench.pool.states(0.0)), "every lease is given back"
    if isinstance(end, str):
        assert not text or end == "STREAM_INTERRUPTED"
        return
    assert end.cost_nanousd == sum(attempt.cost_nanousd for attempt in end.attempts)
    assert ceiling is None or end.cost_nanousd <= ceiling
    assert end.escalations <= 2
    if any(isinstance(gate, SelfConfidenceSpec) for gate in shape[end.tier][0]):
        assert "CONFIDENCE" not in end.message.text
    assert "[ESCALATE]" not in end.message.text
    if streaming:
        assert text == end.message.text, "what has flowed is what is reported"
    assert authors <= {end.target}
    winners = [attempt.target for attempt in end.attempts if attempt.outcome is AttemptOutcome.ACCEPTED]
    assert winners == [end.target]
    known = [attempt.usage for attempt in end.attempts if attempt.usage is not None]
    assert end.usage_total.input_tokens >= sum(known, start=Usage()).input_tokens
