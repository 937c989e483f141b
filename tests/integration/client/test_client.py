"""Both clients against a fake orchestrator on a real socket: answers, errors, retries, deadlines, streams."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from spillway.calling import CallerError, grpc_target
from spillway.chat import ChatRequest, GenerationParams, Message, Role, Usage
from spillway.client import DEFAULT_TARGET, TARGET_VARIABLE, AsyncClient, Client
from spillway.errors import (
    DeadlineError,
    InterruptedStreamError,
    InvalidRequestError,
    RequestError,
    ServerError,
    UnavailableError,
)
from spillway.failure import DETAILS_KEY
from spillway.routing import (
    AnswerDelta,
    CacheKind,
    CacheMode,
    CacheOutcome,
    Completion,
    CompletionRequest,
    CostSummary,
    Explanation,
    RoutingDecision,
    RoutingOptions,
    RuleTrial,
)
from spillway.v1 import orchestrator_pb2, orchestrator_pb2_grpc
from spillway.wire import (
    answer_delta_to_proto,
    completion_request_from_proto,
    completion_to_proto,
    explanation_to_proto,
)
from tests.support.fake_orchestrators import orchestrator_at
from tests.support.jobs_parts import completion

Request = orchestrator_pb2.CompleteRequest
Behaviour = Callable[[Request, grpc.ServicerContext], None]

ANSWER = completion("Paris.", usage=Usage(5, 2), cost=CostSummary(10, 100, "large-1"))
EXPLANATION = Explanation(RoutingDecision("complexity", "easy"), CacheOutcome(CacheKind.MISS), (RuleTrial("r", False),))


class Orchestrator(orchestrator_pb2_grpc.OrchestratorServiceServicer):
    """Answers ANSWER, after the next of `steps`, each of which may abort the call."""

    def __init__(self) -> None:
        self.steps: list[Behaviour] = []
        self.requests: list[Request] = []
        self.metadata: list[dict[str, Any]] = []
        self.pieces: list[str] = ["Par", "is."]
        self.send_completion = True
        self.after_first_piece: Callable[[grpc.ServicerContext], None] = lambda _: None
        self.cancelled = threading.Event()
        self.answer = completion_to_proto(ANSWER)

    def _step(self, request: Request, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if self.steps:
            self.steps.pop(0)(request, context)

    def Complete(  # noqa: N802 - named by the service
        self, request: Request, context: grpc.ServicerContext
    ) -> orchestrator_pb2.CompleteResponse:
        self._step(request, context)
        return orchestrator_pb2.CompleteResponse(completion=self.answer)

    def StreamComplete(  # noqa: N802 - named by the service
        self, request: orchestrator_pb2.StreamCompleteRequest, context: grpc.ServicerContext
    ) -> Iterator[orchestrator_pb2.StreamCompleteResponse]:
        context.add_callback(self.cancelled.set)
        self._step(request.request, context)
        for number, piece in enumerate(self.pieces):
            yield orchestrator_pb2.StreamCompleteResponse(delta=answer_delta_to_proto(AnswerDelta(piece)))
            if number == 0:
                self.after_first_piece(context)
        if self.send_completion:
            yield orchestrator_pb2.StreamCompleteResponse(completion=completion_to_proto(ANSWER))

    def Explain(  # noqa: N802 - named by the service
        self, request: orchestrator_pb2.ExplainRequest, context: grpc.ServicerContext
    ) -> orchestrator_pb2.ExplainResponse:
        self._step(request.request, context)
        return explanation_to_proto(EXPLANATION)

    def _absent(self, request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "")

    SubmitJob = GetJob = CancelJob = WatchJob = SendFeedback = _absent


def fail(code: grpc.StatusCode, reason: str = "", *, pushback: bool = False) -> Behaviour:
    def behaviour(_: Request, context: grpc.ServicerContext) -> None:
        status = status_pb2.Status(code=code.value[0], message="public text")
        status.details.add().Pack(error_details_pb2.ErrorInfo(domain="spillway.dev", reason=reason))
        stop: tuple[tuple[str, str | bytes], ...] = (("grpc-retry-pushback-ms", "-1"),) if pushback else ()
        context.set_trailing_metadata(((DETAILS_KEY, status.SerializeToString()), *stop))
        context.abort(code, "public text")

    return behaviour


def wait_for(event: threading.Event) -> None:
    event.wait(20)


def hang(_: Request, context: grpc.ServicerContext) -> None:
    gone = threading.Event()
    context.add_callback(gone.set)
    gone.wait(20)


@pytest.fixture
def orchestrator() -> Orchestrator:
    return Orchestrator()


@pytest.fixture
def target(orchestrator: Orchestrator) -> Iterator[str]:
    with orchestrator_at(orchestrator) as address:
        yield address


class Sync:
    """The threads' client, with the face of the other."""

    def __init__(self, target: str, **options: Any) -> None:
        self.client = Client(target, **options)

    async def complete(self, *args: Any, **options: Any) -> Completion:
        return await asyncio.to_thread(self.client.complete, *args, **options)

    async def explain(self, *args: Any, **options: Any) -> Explanation:
        return await asyncio.to_thread(self.client.explain, *args, **options)

    async def stream(self, *args: Any, **options: Any) -> AsyncIterator[AnswerDelta | Completion]:
        events = self.client.stream(*args, **options)
        try:
            while (event := await asyncio.to_thread(next, events, None)) is not None:
                yield event
        finally:
            events.close()  # type: ignore[attr-defined]

    async def close(self) -> None:
        self.client.close()


@pytest.fixture(params=[Sync, AsyncClient])
async def client(request: pytest.FixtureRequest, target: str) -> AsyncIterator[AsyncClient]:
    made = request.param(target, timeout_s=20, tenant="acme", metadata=(("x-caller", "test"),))
    yield made
    await made.close()


async def collect(events: AsyncIterator[AnswerDelta | Completion], seen: list[AnswerDelta | Completion]) -> None:
    async for event in events:
        seen.append(event)  # noqa: PERF401 - what came before an error counts


async def test_a_text_is_one_user_message(client: AsyncClient, orchestrator: Orchestrator) -> None:
    assert await client.complete("Capital of France?") == ANSWER
    (request,) = [completion_request_from_proto(sent) for sent in orchestrator.requests]
    assert request.chat.messages == (Message.of(Role.USER, "Capital of France?"),)
    assert request.tenant == "acme"
    assert len(request.request_id) == 32
    assert orchestrator.metadata[0]["x-caller"] == "test"


async def test_options_and_generation_replace_those_of_a_request(
    client: AsyncClient, orchestrator: Orchestrator
) -> None:
    whole = CompletionRequest(ChatRequest((Message.of(Role.USER, "x"),)), request_id="mine", tenant="theirs")
    options = RoutingOptions(tier_floor="complex", cache_mode=CacheMode.BYPASS)
    await client.complete(whole, options=options, generation=GenerationParams(temperature=0.0))
    (request,) = [completion_request_from_proto(sent) for sent in orchestrator.requests]
    assert (request.request_id, request.tenant, request.options) == ("mine", "theirs", options)
    assert request.chat.generation.temperature == 0.0


async def test_a_conversation_is_sent_as_it_is(client: AsyncClient, orchestrator: Orchestrator) -> None:
    turns = [Message.of(Role.SYSTEM, "Be brief."), Message.of(Role.USER, "x")]
    await client.complete(turns)
    assert completion_request_from_proto(orchestrator.requests[0]).chat.messages == tuple(turns)


async def test_unavailable_is_retried_with_the_same_request_id(client: AsyncClient, orchestrator: Orchestrator) -> None:
    orchestrator.steps = [fail(grpc.StatusCode.UNAVAILABLE), fail(grpc.StatusCode.UNAVAILABLE)]
    assert await client.complete("x") == ANSWER
    assert len(orchestrator.requests) == 3
    assert len({request.request_id for request in orchestrator.requests}) == 1


async def test_many_calls_lost_at_once_are_each_retried(client: AsyncClient, orchestrator: Orchestrator) -> None:
    known: set[str] = set()

    def lose_once(request: Request, context: grpc.ServicerContext) -> None:
        if request.request_id not in known:
            known.add(request.request_id)
            fail(grpc.StatusCode.UNAVAILABLE)(request, context)

    orchestrator.steps = [lose_once] * 200
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(client.complete("x")) for _ in range(40)]
    assert [call.result() for call in calls] == [ANSWER] * 40


async def test_an_outage_is_hardly_multiplied(client: AsyncClient, orchestrator: Orchestrator) -> None:
    orchestrator.steps = [fail(grpc.StatusCode.UNAVAILABLE)] * 10_000
    for _ in range(3):  # enough to use up the tokens
        await asyncio.gather(*(client.complete("x") for _ in range(40)), return_exceptions=True)
    before = len(orchestrator.requests)
    await asyncio.gather(*(client.complete("x") for _ in range(40)), return_exceptions=True)
    assert len(orchestrator.requests) == before + 40


async def test_an_unavailable_that_forbids_it_is_not_retried(client: AsyncClient, orchestrator: Orchestrator) -> None:
    orchestrator.steps = [fail(grpc.StatusCode.UNAVAILABLE, "NO_MODEL_AVAILABLE", pushback=True)]
    with pytest.raises(UnavailableError) as caught:
        await client.complete("x")
    assert caught.value.failure.reason == "NO_MODEL_AVAILABLE"
    assert len(orchestrator.requests) == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [(grpc.StatusCode.INVALID_ARGUMENT, InvalidRequestError), (grpc.StatusCode.INTERNAL, ServerError)],
)
async def test_other_errors_are_not_retried_and_never_raw(
    client: AsyncClient, orchestrator: Orchestrator, code: grpc.StatusCode, kind: type[RequestError]
) -> None:
    orchestrator.steps = [fail(code, "SOME_REASON")] * 2
    with pytest.raises(kind) as caught:
        await client.complete("x")
    assert (caught.value.failure.reason, caught.value.failure.message) == ("SOME_REASON", "public text")
    with pytest.raises(kind):
        await client.explain("x")
    assert len(orchestrator.requests) == 2


async def test_half_a_surrogate_pair_is_an_invalid_request(client: AsyncClient, orchestrator: Orchestrator) -> None:
    for call in (client.complete, client.explain):
        with pytest.raises(InvalidRequestError, match="not valid Unicode"):
            await call("caf\udce9")
    with pytest.raises(InvalidRequestError, match="not valid Unicode"):
        await collect(client.stream("caf\udce9"), [])
    assert orchestrator.requests == []


async def test_the_deadline_ends_a_call_that_hangs(client: AsyncClient, orchestrator: Orchestrator) -> None:
    orchestrator.steps = [hang, hang]
    with pytest.raises(DeadlineError):
        await client.complete("x", timeout_s=0.1)
    with pytest.raises(DeadlineError):
        async for _ in client.stream("x", timeout_s=0.1):
            pass


async def test_a_call_always_carries_a_deadline(client: AsyncClient, orchestrator: Orchestrator) -> None:
    left_s: list[float | None] = []
    orchestrator.steps = [lambda _, context: left_s.append(context.time_remaining())]
    await client.complete("x")
    assert left_s[0] is not None
    assert 0 < left_s[0] < 21  # grpc rounds up


async def test_nobody_there_is_unavailable(client: AsyncClient) -> None:
    made = type(client)("127.0.0.1:1", timeout_s=20)
    with pytest.raises(UnavailableError):
        await made.complete("x")
    await made.close()


async def test_a_stream_gives_its_pieces_and_then_the_completion(client: AsyncClient) -> None:
    events = [event async for event in client.stream("x")]
    assert events == [AnswerDelta("Par"), AnswerDelta("is."), ANSWER]


async def test_a_stream_that_has_not_begun_is_retried(client: AsyncClient, orchestrator: Orchestrator) -> None:
    orchestrator.steps = [fail(grpc.StatusCode.UNAVAILABLE)]
    assert [event async for event in client.stream("x")][-1] == ANSWER
    assert len(orchestrator.requests) == 2


async def test_a_stream_that_has_begun_is_never_retried(client: AsyncClient, orchestrator: Orchestrator) -> None:
    orchestrator.after_first_piece = lambda context: context.abort(grpc.StatusCode.UNAVAILABLE, "lost")
    seen: list[AnswerDelta | Completion] = []
    with pytest.raises(InterruptedStreamError):
        await collect(client.stream("x"), seen)
    assert seen == [AnswerDelta("Par")]
    assert len(orchestrator.requests) == 1


async def test_a_stream_without_its_completion_is_an_error(client: AsyncClient, orchestrator: Orchestrator) -> None:
    orchestrator.send_completion = False
    with pytest.raises(ServerError, match="without a completion"):
        [event async for event in client.stream("x")]


async def test_leaving_a_stream_cancels_the_call(client: AsyncClient, orchestrator: Orchestrator) -> None:
    orchestrator.after_first_piece = lambda _: wait_for(orchestrator.cancelled)
    events = client.stream("x")
    async for _ in events:
        break
    await events.aclose()  # type: ignore[attr-defined]
    assert await asyncio.to_thread(orchestrator.cancelled.wait, 20)


async def test_an_explanation_arrives(client: AsyncClient) -> None:
    assert await client.explain("x") == EXPLANATION


async def test_an_answer_of_a_newer_version_is_a_server_error(client: AsyncClient, orchestrator: Orchestrator) -> None:
    orchestrator.answer.cache.kind = 99  # type: ignore[assignment]
    with pytest.raises(ServerError, match="newer version"):
        await client.complete("x")


@pytest.mark.parametrize("made", [Client, AsyncClient])
@pytest.mark.parametrize("target", ["http://spillway:50051", "HTTPS://spillway:50051/", "grpc://spillway:50051"])
async def test_the_address_of_a_web_page_is_refused_with_the_one_that_is_meant(
    made: type[Client | AsyncClient], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CallerError, match="write spillway:50051, a gRPC address"):
        made(target)
    monkeypatch.setenv("SPILLWAY_TARGET", target)
    with pytest.raises(ValueError, match="spillway:50051"):
        made()


@pytest.mark.parametrize(
    "target", ["dns:///spillway:50051", "ipv4:127.0.0.1:1,127.0.0.1:2", "unix:/tmp/s", "unix:///s"]
)
def test_what_grpc_calls_a_target_is_one(target: str) -> None:
    assert grpc_target(target) == target


def test_the_target_comes_from_the_argument_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TARGET_VARIABLE, "127.0.0.1:7")
    with Client() as client, Client("127.0.0.1:8") as other:
        assert (client.target, other.target) == ("127.0.0.1:7", "127.0.0.1:8")
    monkeypatch.delenv(TARGET_VARIABLE)
    with Client() as client:
        assert client.target == DEFAULT_TARGET


def test_a_timeout_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        Client(timeout_s=0)
