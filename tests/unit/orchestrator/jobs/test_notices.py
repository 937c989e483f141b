"""Who is told of a job's end: once, again while it fails, never where it may not be."""

from __future__ import annotations

import asyncio

import pytest

from services.orchestrator.jobs.retries import DELIVERY_DELAYS_S
from services.orchestrator.jobs.webhook_sender import Sent
from services.runtime.errors import InvalidRequest
from spillway.routing import JobState, WebhookDelivery
from tests.support.jobs_parts import submission
from tests.unit.orchestrator.jobs.world import URL, World


async def test_a_webhook_is_told_once_of_the_end(world: World) -> None:
    async with world.running() as jobs:
        job = await jobs.submit(submission(webhook_url=URL), "acme")
        await world.ended(jobs, job)

        async def told() -> bool:
            return bool((await jobs.get(job.job_id, "acme")).deliveries)

        await world.until(told)
        for _ in range(50):
            await asyncio.sleep(0)
            world.clock.advance(60.0)
        ((notice),) = world.hooks.sent
        assert (notice.url, notice.job.state) == (URL, JobState.SUCCEEDED)
        assert (await jobs.get(job.job_id, "acme")).deliveries == (WebhookDelivery(1.0, 200),)
    assert world.hooks.closed


async def test_a_webhook_that_fails_is_told_again_until_its_tries_are_used_up(world: World) -> None:
    refused = Sent(WebhookDelivery(1.0, 500, "STATUS"))
    world.hooks.script = [refused] * 20
    async with world.running() as jobs:
        job = await jobs.submit(submission(webhook_url=URL), "acme")
        tries = len(DELIVERY_DELAYS_S) + 1

        async def all_made() -> bool:
            return len((await jobs.get(job.job_id, "acme")).deliveries) == tries

        await world.until(all_made, step_s=20.0)
        world.clock.advance(10_000.0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(world.hooks.sent) == tries


async def test_a_webhook_that_may_never_be_told_is_not_told_again(world: World) -> None:
    world.hooks.script = [Sent(WebhookDelivery(1.0, 0, "ADDRESS_NOT_PUBLIC"), is_final=True)]
    async with world.running() as jobs:
        job = await jobs.submit(submission(webhook_url=URL), "acme")

        async def noted() -> bool:
            return bool((await jobs.get(job.job_id, "acme")).deliveries)

        await world.until(noted)
        for _ in range(50):
            await asyncio.sleep(0)
            world.clock.advance(600.0)
        assert len(world.hooks.sent) == 1


@pytest.mark.parametrize("url", ["http://hooks.example.com/", "https://10.0.0.1/", "https://user@hooks.example.com/"])
async def test_a_webhook_that_may_not_be_is_refused_at_submission(world: World, url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await world.process().submit(submission(webhook_url=url), "acme")
    assert caught.value.violations[0][0] == "webhook_url"


async def test_without_a_secret_there_are_no_webhooks(world: World) -> None:
    with pytest.raises(InvalidRequest):
        await world.process(webhooks=False).submit(submission(webhook_url=URL), "acme")


async def test_a_notice_that_could_not_be_tried_is_not_charged_for_it(world: World) -> None:
    world.hooks.script = [Sent(None, retry_after_s=1.0)] * (2 * len(DELIVERY_DELAYS_S))
    async with world.running() as jobs:
        job = await jobs.submit(submission(webhook_url=URL), "acme")

        async def is_told() -> bool:
            return bool((await jobs.get(job.job_id, "acme")).deliveries)

        await world.until(is_told)
        told = await jobs.get(job.job_id, "acme")
    assert [each.status for each in told.deliveries] == [200]
    assert {notice.tenant for notice in world.hooks.sent} == {"acme"}
