"""Jobs, feedback and API keys through both clients, against a fake orchestrator on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest

from spillway.client import API_KEY_VARIABLE, AsyncClient, Client
from spillway.errors import DeadlineError, InterruptedStreamError, InvalidRequestError, RefusedError
from spillway.routing import CompletionRequest, FeedbackKind, Job, JobState, WebhookDelivery
from spillway.v1 import orchestrator_pb2 as pb
from spillway.v1 import orchestrator_pb2_grpc
from spillway.wire import completion_to_proto, job_to_proto
from tests.support.fake_orchestrators import orchestrator_at
from tests.support.jobs_parts import completion, request

QUEUED = Job("job_1", JobState.QUEUED, submitted_at_unix_s=1.5, changed_at_unix_s=1.5)
DONE = Job(
    "job_1",
    JobState.SUCCEEDED,
    completion(),
    tries=2,
    submitted_at_unix_s=1.5,
    changed_at_unix_s=2.5,
    expires_at_unix_s=9.5,
    deliveries=(WebhookDelivery(3.0, 500, "STATUS"), WebhookDelivery(4.0, 200)),
)


class Orchestrator(orchestrator_pb2_grpc.OrchestratorServiceServicer):
    """Keeps what it is asked, and answers with what is above."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.metadata: list[dict[str, Any]] = []
        self.states = [QUEUED, DONE]
        self.breaks_off = False
        self.hangs = False

    def _note(self, message: Any, context: grpc.ServicerContext) -> None:
        self.asked.append(message)
        self.metadata.append(dict(context.invocation_metadata()))

    def Complete(self, request: Any, context: grpc.ServicerContext) -> pb.CompleteResponse:  # noqa: N802
        self._note(request, context)
        return pb.CompleteResponse(completion=completion_to_proto(completion()))

    def SubmitJob(self, request: Any, context: grpc.ServicerContext) -> pb.SubmitJobResponse:  # noqa: N802
        self._note(request, context)
        return pb.SubmitJobResponse(job=job_to_proto(QUEUED))

    def GetJob(self, request: Any, context: grpc.ServicerContext) -> pb.GetJobResponse:  # noqa: N802
        self._note(request, context)
        if request.tenant != "acme":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such job")
        return pb.GetJobResponse(job=job_to_proto(DONE))

    def CancelJob(self, request: Any, context: grpc.ServicerContext) -> pb.CancelJobResponse:  # noqa: N802
        self._note(request, context)
        return pb.CancelJobResponse(job=job_to_proto(DONE))

    def WatchJob(self, request: Any, context: grpc.ServicerContext) -> Iterator[pb.WatchJobResponse]:  # noqa: N802
        self._note(request, context)
        for state in self.states:
            yield pb.WatchJobResponse(job=job_to_proto(state))
            if self.breaks_off:
                context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            while self.hangs and context.is_active():
                context.time_remaining()

    def SendFeedback(self, request: Any, context: grpc.ServicerContext) -> pb.SendFeedbackResponse:  # noqa: N802
        self._note(request, context)
        retried = completion_to_proto(completion("better")) if request.HasField("retry") else None
        return pb.SendFeedbackResponse(retried=retried)

    Explain = StreamComplete = Complete  # type: ignore[assignment]


Caller = Callable[..., Any]


@pytest.fixture
def fake() -> Iterator[tuple[Orchestrator, str]]:
    servicer = Orchestrator()
    with orchestrator_at(servicer) as address:
        yield servicer, address


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, fake: tuple[Orchestrator, str]) -> Caller:
    """Calls a method of either client; what iterates comes back as a list."""
    is_async = request.param == "async"

    def sync_call(method: str, *args: Any, key: str = "", **options: Any) -> Any:
        with Client(fake[1], tenant="acme", api_key=key) as client:
            result = getattr(client, method)(*args, **options)
            return list(result) if isinstance(result, Iterator) else result

    async def async_call(method: str, *args: Any, key: str = "", **options: Any) -> Any:
        async with AsyncClient(fake[1], tenant="acme", api_key=key) as client:
            result = getattr(client, method)(*args, **options)
            return [one async for one in result] if isinstance(result, AsyncIterator) else await result

    if is_async:
        return lambda *args, **options: asyncio.run(async_call(*args, **options))
    return sync_call


def test_a_job_is_submitted_with_all_that_was_said(fake: tuple[Orchestrator, str], call: Caller) -> None:
    prompt = request("long work", request_id="mine", tenant="")
    assert call("submit_job", prompt, webhook_url="https://x.example/", job_timeout_s=90.0) == QUEUED
    (asked,) = fake[0].asked
    assert (asked.request.request_id, asked.request.tenant) == ("mine", "acme")
    assert asked.request.chat.messages[0].parts[0].text == "long work"
    assert (asked.webhook_url, asked.timeout.seconds) == ("https://x.example/", 90)


def test_a_submission_that_names_no_id_gets_one_and_may_say_nothing_else(
    fake: tuple[Orchestrator, str], call: Caller
) -> None:
    call("submit_job", "long work")
    (asked,) = fake[0].asked
    assert len(asked.request.request_id) == 32
    assert not asked.HasField("timeout")
    assert asked.webhook_url == ""


def test_a_job_comes_back_as_it_is(fake: tuple[Orchestrator, str], call: Caller) -> None:
    assert call("get_job", "job_1") == DONE
    assert call("cancel_job", "job_1", tenant="umbrella") == DONE
    assert [(asked.job_id, asked.tenant) for asked in fake[0].asked] == [("job_1", "acme"), ("job_1", "umbrella")]


def test_a_job_of_somebody_else_is_refused(call: Caller) -> None:
    with pytest.raises(RefusedError):
        call("get_job", "job_1", tenant="umbrella")


def test_watching_gives_each_state_in_turn(call: Caller) -> None:
    assert call("watch_job", "job_1") == [QUEUED, DONE]


def test_a_watch_that_breaks_off_says_so(fake: tuple[Orchestrator, str], call: Caller) -> None:
    fake[0].breaks_off = True
    with pytest.raises(InterruptedStreamError):
        call("watch_job", "job_1")


def test_a_watch_has_a_time_limit(fake: tuple[Orchestrator, str], call: Caller) -> None:
    fake[0].hangs = True
    with pytest.raises(DeadlineError):
        call("watch_job", "job_1", timeout_s=0.3)


def test_feedback_is_sent_and_a_retry_is_answered(fake: tuple[Orchestrator, str], call: Caller) -> None:
    assert call("send_feedback", "r1", FeedbackKind.THUMBS_UP, comment="good") is None
    retried = call("send_feedback", "r1", FeedbackKind.THUMBS_DOWN, retry="what is 6 * 7?")
    assert retried == completion("better")
    up, down = fake[0].asked
    assert (up.request_id, up.tenant, up.comment, up.HasField("retry")) == ("r1", "acme", "good", False)
    assert down.kind == pb.SendFeedbackRequest.KIND_THUMBS_DOWN
    assert down.retry.chat.messages[0].parts[0].text == "what is 6 * 7?"


def test_a_kind_of_feedback_that_there_is_not_is_a_value_error(call: Caller) -> None:
    with pytest.raises(ValueError, match="meh"):
        call("send_feedback", "r1", "meh")


def test_the_key_goes_with_every_call(fake: tuple[Orchestrator, str], call: Caller) -> None:
    call("complete", "hi", key="sw_key")
    call("submit_job", "hi", key="sw_key")
    call("watch_job", "job_1", key="sw_key")
    call("send_feedback", "r", FeedbackKind.ACCEPTED, key="sw_key")
    assert {metadata.get("authorization") for metadata in fake[0].metadata} == {"Bearer sw_key"}


def test_without_a_key_none_is_sent_and_the_environment_may_have_it(
    fake: tuple[Orchestrator, str], call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("complete", "hi")
    monkeypatch.setenv(API_KEY_VARIABLE, "sw_env")
    call("complete", "hi", key=None)
    call("complete", "hi", key="")
    assert [metadata.get("authorization") for metadata in fake[0].metadata] == [None, "Bearer sw_env", None]


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ValueError, match="API key") as caught:
        Client("127.0.0.1:1", api_key=key)
    assert key not in str(caught.value)


def test_half_of_a_surrogate_pair_is_the_callers_mistake(call: Caller) -> None:
    with pytest.raises(InvalidRequestError):
        call("submit_job", "hi", webhook_url="https://x.example/\ud800")
    with pytest.raises(InvalidRequestError):
        call("submit_job", CompletionRequest(request("\ud800").chat))
    with pytest.raises(InvalidRequestError):
        call("send_feedback", "r", FeedbackKind.COMPLAINT, comment="\ud800")
