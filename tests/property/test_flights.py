"""Single flight under any order of events: one call at a time, everybody gets through, and only equals share."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from enum import Enum

from hypothesis import given, settings
from hypothesis import strategies as st

from services.orchestrator.flights import IN_VAIN_MAX, Flights, Seat, flight_key
from services.runtime.clock import FakeClock
from spillway import wire
from spillway.chat import (
    ChatRequest,
    FinishReason,
    GenerationParams,
    ImagePart,
    Message,
    ResponseFormat,
    Role,
    TextPart,
    ToolCall,
    ToolChoice,
    ToolDefinition,
    Usage,
)
from spillway.routing import CachedAnswer, CompletionRequest, RoutingOptions, Strategy

ANSWER = CachedAnswer(Message.of(Role.ASSISTANT, "a"), FinishReason.STOP, "t", "x", "m", Usage(1, 1), 1, True)


class Fate(Enum):
    """What becomes of a caller, once it leads."""

    STORED = "stored"
    UNPROVEN = "unproven"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"
    CANCELLED_WAITING = "cancelled while waiting, if it waits"


class Journey:
    """Callers of one key, one after another aboard, and what they do."""

    def __init__(self, fates: list[Fate]) -> None:
        self.flights, self.clock = Flights(), FakeClock()
        self.fates = fates
        self.calling = self.calling_most = self.calls = self.shared = self.in_vain = 0
        self.is_free = False  # whether nobody has to wait any more
        self.let_go = asyncio.Event()

    async def travel(self, fate: Fate) -> None:
        seat = self.flights.board("key")
        assert seat is not None
        in_vain = False
        try:
            if seat.must_wait():
                await seat.wait(self.clock, 1_000.0)
            if seat.answer is not None:
                self.shared += 1
                return
            in_vain = await self._call(seat, fate)
        finally:
            seat.leave(in_vain=in_vain)

    async def _call(self, seat: Seat, fate: Fate) -> bool:
        self.calls += 1
        self.calling += 1
        if not self.is_free:
            self.calling_most = max(self.calling_most, self.calling)
        try:
            await self.let_go.wait()
            await asyncio.sleep(0)
        finally:
            self.calling -= 1
        if fate is Fate.CANCELLED:
            raise asyncio.CancelledError
        if fate is Fate.FAILED:
            raise ConnectionError
        if fate is Fate.STORED:
            self.is_free = True
            seat.land(ANSWER)
        elif fate is Fate.REFUSED:
            self.is_free = True
            seat.release()
        else:
            self.in_vain += 1
            self.is_free = self.is_free or self.in_vain >= IN_VAIN_MAX
        return fate is Fate.UNPROVEN

    async def run(self) -> list[object]:
        tasks = [asyncio.create_task(self.travel(fate)) for fate in self.fates]
        for _ in range(3):
            await asyncio.sleep(0)
        for task, fate in zip(tasks, self.fates, strict=True):
            if fate is Fate.CANCELLED_WAITING:
                task.cancel()
        self.let_go.set()
        async with asyncio.timeout(30):
            return await asyncio.gather(*tasks, return_exceptions=True)


@settings(max_examples=300)
@given(st.lists(st.sampled_from(list(Fate)), min_size=1, max_size=12))
def test_one_calls_at_a_time_and_everybody_gets_through(fates: list[Fate]) -> None:
    async def scenario() -> None:
        journey = Journey(fates)
        ends = await journey.run()
        assert journey.calling_most <= 1
        assert len(journey.flights) == 0
        for fate, end in zip(fates, ends, strict=True):
            if isinstance(end, asyncio.CancelledError):
                assert fate in {Fate.CANCELLED, Fate.CANCELLED_WAITING}
            elif isinstance(end, BaseException):
                assert (fate, type(end)) == (Fate.FAILED, ConnectionError)
        if fates[0] is Fate.STORED:
            assert journey.calls == 1

    asyncio.run(scenario())


few_texts = st.sampled_from(["", "a", "b"])
parts = st.sampled_from([TextPart("a"), TextPart("b"), ImagePart(url="a"), ImagePart(data=b"a", media_type="b")])
messages = st.builds(
    Message,
    st.sampled_from([Role.USER, Role.SYSTEM]),
    st.lists(parts, min_size=1, max_size=2).map(tuple),
    st.sampled_from([(), (ToolCall("a", "b", "{}"),)]),
    name=few_texts,
)
chats = st.builds(
    ChatRequest,
    st.lists(messages, min_size=1, max_size=2).map(tuple),
    st.builds(
        GenerationParams,
        temperature=st.sampled_from([None, 0.0, 1.0]),
        seed=st.sampled_from([None, 0, 1]),
        stop=st.sampled_from([(), ("a",), ("a", "b")]),
    ),
    tools=st.sampled_from([(), (ToolDefinition("a"),), (ToolDefinition("a", strict=True),)]),
    tool_choice=st.sampled_from([None, ToolChoice()]),
    response_format=st.sampled_from([None, ResponseFormat()]),
)
requests = st.builds(
    CompletionRequest,
    chats,
    request_id=few_texts,
    options=st.builds(
        RoutingOptions,
        strategy=st.sampled_from([None, Strategy.DIRECT]),
        tier_floor=few_texts,
        tier_ceiling=few_texts,
        confidence_min=st.sampled_from([None, 0.0, 0.5]),
        cost_nanousd_max=st.sampled_from([None, 0, 5]),
        escalations_max=st.sampled_from([None, 0, 1]),
    ),
    tenant=few_texts,
    namespace=few_texts,
    template_version=few_texts,
    knowledge_version=few_texts,
    endpoint=few_texts,
    user_tier=few_texts,
    end_user=few_texts,
    tags=st.sampled_from([(), ("a",), ("a", "b")]),
)


def on_the_wire(request: CompletionRequest) -> bytes:
    """All of a request but who asks and what they call it."""
    pb = wire.completion_request_to_proto(replace(request, request_id="", end_user=""))
    return pb.SerializeToString(deterministic=True)


@settings(max_examples=500)
@given(requests, requests, st.data())
def test_two_requests_share_exactly_when_they_are_equal_in_all_but_who_asks(
    one: CompletionRequest, other: CompletionRequest, data: st.DataObject
) -> None:
    # Two drawn apart are hardly ever equal but for one field: take that field from the other one.
    name = data.draw(st.sampled_from(list(CompletionRequest.__dataclass_fields__)))
    near = replace(one, **{name: getattr(other, name)})
    for third in (other, near):
        assert (flight_key(one, "c") == flight_key(third, "c")) is (on_the_wire(one) == on_the_wire(third))
    assert flight_key(one, "c") == flight_key(replace(one, end_user="somebody", request_id="x"), "c")
    assert flight_key(one, "c") != flight_key(one, "d")
