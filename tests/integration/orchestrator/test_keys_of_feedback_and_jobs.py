"""What a key must have for feedback and jobs, what counts against its rates, and what a revoked one still sets off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from services.runtime.errors import from_rpc_error
from spillway import wire
from spillway.cli.app import app
from spillway.routing import CacheMode, RoutingOptions
from spillway.v1 import orchestrator_pb2 as api
from tests.integration.orchestrator.neighbours import Neighbourhood, asking
from tests.support.waiting import until
from tests.unit.orchestrator.ladder import request_of

TIMEOUT_S = 30.0
Feedback = api.SendFeedbackRequest
Metadata = tuple[tuple[str, str], ...]


def new_key(path: Path, *scopes: str) -> Metadata:
    words = [word for scope in scopes for word in ("--scope", scope)]
    made = CliRunner().invoke(app, ["keys", "new", "--file", str(path), "--tenant", "acme", *words])
    return (("authorization", f"Bearer {made.stdout.split()[0]}"),)


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), from_rpc_error(caught.value).reason


def disliked(retry: api.CompleteRequest, kind: Feedback.Kind.ValueType = Feedback.KIND_THUMBS_DOWN) -> Feedback:
    return Feedback(request_id="r", kind=kind, retry=retry)


async def test_a_key_for_feedback_alone_has_nothing_answered(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    alone, both = new_key(path, "feedback"), new_key(path, "feedback", "complete")
    async with Neighbourhood(orchestrator={"keys_file": str(path)}) as town:
        send = town.stub.SendFeedback
        code, _ = await refused(send(disliked(asking()), metadata=alone, timeout=TIMEOUT_S))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert town.executor.asked == []
        plain = Feedback(request_id="r", kind=Feedback.KIND_THUMBS_DOWN)
        assert not (await send(plain, metadata=alone, timeout=TIMEOUT_S)).HasField("retried")
        assert (await send(disliked(asking()), metadata=both, timeout=TIMEOUT_S)).HasField("retried")


@pytest.mark.parametrize("kind", [Feedback.KIND_THUMBS_UP, Feedback.KIND_ACCEPTED, Feedback.KIND_EDITED])
async def test_only_an_answer_that_was_disliked_is_made_again(kind: Feedback.Kind.ValueType) -> None:
    async with Neighbourhood() as town:
        code, _ = await refused(town.stub.SendFeedback(disliked(asking(), kind), timeout=TIMEOUT_S))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert town.executor.asked == []


async def test_a_retry_whose_limits_exclude_the_flagship_is_refused() -> None:
    async with Neighbourhood() as town:
        low = wire.completion_request_to_proto(replace(request_of("q"), options=RoutingOptions(tier_ceiling="simple")))
        _, reason = await refused(town.stub.SendFeedback(disliked(low), timeout=TIMEOUT_S))
        assert reason == "NO_ELIGIBLE_TARGET"
        assert town.executor.asked == []


async def test_a_retry_has_the_callers_ceiling_and_stays_out_of_the_cache() -> None:
    async with Neighbourhood() as town:
        options = RoutingOptions(cache_mode=CacheMode.BYPASS, cost_nanousd_max=50_000_000)
        retry = wire.completion_request_to_proto(replace(request_of("a secret"), options=options))
        answer = await town.stub.SendFeedback(disliked(retry), timeout=TIMEOUT_S)
        (asked,) = town.executor.asked
    assert asked.plan.cost_nanousd_max == 50_000_000
    assert answer.HasField("retried")
    assert town.cache.lookups == []
    assert town.cache.stored.empty()


@pytest.mark.parametrize("method", ["SubmitJob", "SendFeedback"])
async def test_who_has_no_key_learns_nothing_of_what_is_wrong_with_a_request(tmp_path: Path, method: str) -> None:
    path = tmp_path / "keys.json"
    new_key(path, "admin")
    bad = {"SubmitJob": api.SubmitJobRequest(), "SendFeedback": Feedback(request_id="r")}
    async with Neighbourhood(orchestrator={"keys_file": str(path)}) as town:
        code, _ = await refused(getattr(town.stub, method)(bad[method], timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("method", ["Explain", "SendFeedback"])
async def test_explanations_and_feedback_count_against_rates(method: str) -> None:
    rates = [{"name": "slow", "requests_per_minute": 1}]
    message = {
        "Explain": api.ExplainRequest(request=asking()),
        "SendFeedback": Feedback(request_id="r", kind=Feedback.KIND_THUMBS_UP),
    }[method]
    async with Neighbourhood(quotas={"rates": rates}) as town:
        call = getattr(town.stub, method)
        await call(message, timeout=TIMEOUT_S)
        _, reason = await refused(call(message, timeout=TIMEOUT_S))
        assert len(town.classifier.asked) <= 1
    assert reason == "RATE_LIMITED"


async def test_a_revoked_key_has_no_queued_job_begun(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = new_key(path, "jobs")
    go_on = asyncio.Event()

    async def hold() -> None:
        await go_on.wait()

    async with Neighbourhood(orchestrator={"keys_file": str(path)}, jobs={"workers": 1}) as town:
        town.executor.before = hold
        first, second = [
            (await town.stub.SubmitJob(api.SubmitJobRequest(request=asking(text)), metadata=key, timeout=TIMEOUT_S)).job
            for text in ("one", "two")
        ]
        await asyncio.wait_for(town.executor.working.wait(), TIMEOUT_S)
        other = new_key(path, "jobs")
        key_id = key[0][1].removeprefix("Bearer ").split("_")[1]
        assert CliRunner().invoke(app, ["keys", "revoke", key_id, "--file", str(path)]).exit_code == 0

        async def is_revoked() -> bool:
            try:
                await town.stub.GetJob(api.GetJobRequest(job_id=first.job_id), metadata=key, timeout=TIMEOUT_S)
            except grpc.aio.AioRpcError:
                return True
            return False

        async def job(job_id: str) -> api.Job:
            got = await town.stub.GetJob(api.GetJobRequest(job_id=job_id), metadata=other, timeout=TIMEOUT_S)
            return got.job

        async def have_ended() -> bool:
            return all([(await job(each.job_id)).HasField("expires_at") for each in (first, second)])

        await until(is_revoked, what="the change is taken over")
        go_on.set()
        await until(have_ended, what="both have ended")
        assert (await job(first.job_id)).state == api.JOB_STATE_SUCCEEDED, "what was under way goes on"
        assert (await job(second.job_id)).state == api.JOB_STATE_FAILED
        assert len(town.executor.asked) == 1
