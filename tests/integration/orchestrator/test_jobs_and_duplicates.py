"""Jobs, duplicates, keys, quotas and feedback through the orchestrator's door, over real sockets."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from spillway.cli.app import app
from spillway.failure import read_failure
from spillway.routing import CacheKind
from spillway.v1 import orchestrator_pb2 as api
from tests.integration.orchestrator.neighbours import Neighbourhood, asking, hit

TIMEOUT_S = 30.0


async def refused(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    seen = read_failure(raised.value)
    return seen.code.name, seen.reason


async def test_fifty_duplicates_at_once_ask_one_model_and_get_one_answer() -> None:
    async with Neighbourhood() as town:
        request = asking(request_id="r-1", tenant="acme")
        answers = await asyncio.gather(*(town.stub.Complete(request, timeout=TIMEOUT_S) for _ in range(50)))
        later = await town.stub.Complete(request, timeout=TIMEOUT_S)
    assert len(town.executor.asked) == 1
    assert {answer.completion.SerializeToString() for answer in (*answers, later)} == {
        answers[0].completion.SerializeToString()
    }


async def test_a_duplicate_stream_is_the_same_answer_in_one_piece() -> None:
    async with Neighbourhood() as town:
        request = asking(request_id="r-1")
        first = (await town.stub.Complete(request, timeout=TIMEOUT_S)).completion
        call = town.stub.StreamComplete(api.StreamCompleteRequest(request=request), timeout=TIMEOUT_S)
        events = [event async for event in call]
    assert [event.WhichOneof("event") for event in events] == ["delta", "completion"]
    assert events[0].delta.text == first.message.parts[0].text
    assert events[1].completion == first
    assert len(town.executor.asked) == 1


async def test_a_stream_has_its_answer_kept_for_its_duplicates() -> None:
    async with Neighbourhood() as town:
        request = asking(request_id="r-1")
        call = town.stub.StreamComplete(api.StreamCompleteRequest(request=request), timeout=TIMEOUT_S)
        events = [event async for event in call]
        again = (await town.stub.Complete(request, timeout=TIMEOUT_S)).completion
    assert events[-1].completion == again
    assert len(town.executor.asked) == 1


async def test_another_request_under_a_used_id_is_a_conflict_and_another_tenants_is_not() -> None:
    async with Neighbourhood() as town:
        await town.stub.Complete(asking(request_id="r-1", tenant="acme"), timeout=TIMEOUT_S)
        other = asking(request_id="r-1", tenant="acme", namespace="elsewhere")
        assert await refused(town.stub.Complete(other)) == ("FAILED_PRECONDITION", "IDEMPOTENCY_CONFLICT")
        await town.stub.Complete(asking(request_id="r-1", tenant="globex"), timeout=TIMEOUT_S)
    assert len(town.executor.asked) == 2


async def test_a_request_that_failed_is_tried_again_by_its_duplicate() -> None:
    async def broken() -> None:
        raise ValueError("once")

    async with Neighbourhood() as town:
        town.executor.before = broken
        request = asking(request_id="r-1")
        await refused(town.stub.Complete(request, timeout=TIMEOUT_S))
        tried = len(town.executor.asked)
        town.executor.before = Neighbourhood().executor.before
        await town.stub.Complete(request, timeout=TIMEOUT_S)
    assert len(town.executor.asked) == tried + 1


async def test_a_job_is_answered_once_and_seen_by_its_tenant_alone() -> None:
    async with Neighbourhood() as town:
        request = asking(request_id="r-1", tenant="acme")
        submitted = (await town.stub.SubmitJob(api.SubmitJobRequest(request=request), timeout=TIMEOUT_S)).job
        again = (await town.stub.SubmitJob(api.SubmitJobRequest(request=request), timeout=TIMEOUT_S)).job
        assert (submitted.state, again.job_id) == (api.JOB_STATE_QUEUED, submitted.job_id)
        key = {"job_id": submitted.job_id, "tenant": "acme"}
        states = [seen.job.state async for seen in town.stub.WatchJob(api.WatchJobRequest(**key), timeout=TIMEOUT_S)]
        assert states[-1] == api.JOB_STATE_SUCCEEDED
        job = (await town.stub.GetJob(api.GetJobRequest(**key), timeout=TIMEOUT_S)).job
        assert job.completion.request_id == submitted.job_id
        assert job.completion.cost.cost_nanousd == 4_350
        assert (await town.stub.CancelJob(api.CancelJobRequest(**key), timeout=TIMEOUT_S)).job == job
        foreign = api.GetJobRequest(job_id=submitted.job_id, tenant="globex")
        assert await refused(town.stub.GetJob(foreign)) == ("NOT_FOUND", "NOT_FOUND")
    assert len(town.executor.asked) == 1


async def test_a_running_job_that_is_cancelled_stops_its_model() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    async with Neighbourhood() as town:
        town.executor.before = forever
        job = (await town.stub.SubmitJob(api.SubmitJobRequest(request=asking()), timeout=TIMEOUT_S)).job
        await asyncio.wait_for(town.executor.working.wait(), TIMEOUT_S)
        ended = (await town.stub.CancelJob(api.CancelJobRequest(job_id=job.job_id), timeout=TIMEOUT_S)).job
        assert ended.state == api.JOB_STATE_CANCELLED
        await asyncio.wait_for(town.executor.cancelled.wait(), TIMEOUT_S)


@pytest.mark.parametrize("name", ["SubmitJob", "GetJob", "CancelJob", "WatchJob", "SendFeedback"])
async def test_an_empty_request_says_what_is_missing(name: str) -> None:
    async with Neighbourhood() as town:
        message = getattr(api, f"{name}Request")()
        call = getattr(town.stub, name)(message, timeout=TIMEOUT_S)
        assert await refused(call.read() if name == "WatchJob" else call) == ("INVALID_ARGUMENT", "INVALID_FIELD")


async def test_feedback_that_cannot_be_kept_is_unavailable_and_never_lost_silently() -> None:
    async with Neighbourhood() as town:
        await town.stop("ledger")
        feedback = api.SendFeedbackRequest(request_id="r-1", kind=api.SendFeedbackRequest.KIND_THUMBS_UP)
        assert (await refused(town.stub.SendFeedback(feedback, timeout=TIMEOUT_S)))[0] == "UNAVAILABLE"


async def test_a_hit_is_replayed_as_the_hit_that_it_was() -> None:
    async with Neighbourhood() as town:
        town.cache.exact = hit(CacheKind.EXACT_HIT)
        request = asking(request_id="r-1")
        first = (await town.stub.Complete(request, timeout=TIMEOUT_S)).completion
        again = (await town.stub.Complete(request, timeout=TIMEOUT_S)).completion
    assert first == again
    assert len(town.cache.lookups) == 1


async def test_where_keys_are_required_the_key_names_the_tenant_and_the_scope(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    command = ["keys", "new", "--file", str(path), "--tenant", "acme", "--scope", "complete", "--scope", "jobs"]
    secret = CliRunner().invoke(app, command).stdout.split()[0]
    async with Neighbourhood(orchestrator={"keys_file": str(path)}) as town:
        stub, mine = town.stub, (("authorization", f"Bearer {secret}"),)
        assert await refused(stub.Complete(asking())) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
        wrong = (("authorization", f"Bearer {secret[:-1]}x"),)
        assert await refused(stub.Complete(asking(), metadata=wrong)) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
        await stub.Complete(asking(), metadata=mine, timeout=TIMEOUT_S)
        await stub.Complete(asking(tenant="acme"), metadata=mine, timeout=TIMEOUT_S)
        assert {lookup.scope.tenant for lookup in town.cache.lookups} == {"acme"}
        denied = ("PERMISSION_DENIED", "PERMISSION_DENIED")
        assert await refused(stub.Complete(asking(tenant="globex"), metadata=mine)) == denied
        assert await refused(stub.Explain(api.ExplainRequest(request=asking()), metadata=mine)) == denied
        job = (await stub.SubmitJob(api.SubmitJobRequest(request=asking()), metadata=mine, timeout=TIMEOUT_S)).job
        assert await refused(stub.GetJob(api.GetJobRequest(job_id=job.job_id))) == ("UNAUTHENTICATED",) * 2
        seen = await stub.GetJob(api.GetJobRequest(job_id=job.job_id), metadata=mine, timeout=TIMEOUT_S)
        assert seen.job.job_id == job.job_id


async def test_a_rate_counts_cached_answers_and_jobs_too_and_says_when_to_come_back() -> None:
    rates = {"rates": [{"name": "slow", "requests_per_minute": 2}]}
    async with Neighbourhood(quotas=rates) as town:
        town.cache.exact = hit(CacheKind.EXACT_HIT)
        await town.stub.Complete(asking(tenant="acme"), timeout=TIMEOUT_S)
        await town.stub.SubmitJob(api.SubmitJobRequest(request=asking(tenant="acme")), timeout=TIMEOUT_S)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await town.stub.Complete(asking(tenant="acme"), timeout=TIMEOUT_S)
        error = read_failure(raised.value)
        assert (error.code.name, error.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
        assert error.retry_after_s is not None
        assert 0 < error.retry_after_s <= 30
        await town.stub.Complete(asking(tenant="globex"), timeout=TIMEOUT_S)


async def test_a_budget_becomes_the_plans_ceiling_and_what_is_left_is_what_was_not_spent() -> None:
    budgets = {"budgets": [{"name": "day", "period": "day", "cost_usd": 0.05}]}
    async with Neighbourhood(quotas=budgets) as town:
        await town.stub.Complete(asking(tenant="acme"), timeout=TIMEOUT_S)
        ceiling = town.executor.asked[0].plan.cost_nanousd_max
        assert 4_350 < ceiling <= 50_000_000
        spent = replace(town.executor.gives.attempts[-1], cost_nanousd=50_000_000)
        town.executor.gives = replace(town.executor.gives, attempts=(spent,))
        await town.stub.Complete(asking("another", tenant="acme"), timeout=TIMEOUT_S)
        third = town.stub.Complete(asking("a third", tenant="acme"), timeout=TIMEOUT_S)
        assert await refused(third) == ("RESOURCE_EXHAUSTED", "BUDGET_EXHAUSTED")
        await town.stub.Complete(asking("a third", tenant="globex"), timeout=TIMEOUT_S)
    assert len(town.executor.asked) == 3
