"""Telling a webhook once: its form, and that it goes nowhere else."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from services.orchestrator.jobs.job_store import Notice
from services.orchestrator.jobs.name_resolver import TENANT_THREADS, NameResolver, ResolversBusyError
from services.orchestrator.jobs.webhook import BODY_BYTES_MAX, body_of, headers_of, parse_secrets
from services.orchestrator.jobs.webhook_guard import WebhookGuard
from services.orchestrator.jobs.webhook_sender import BUSY_AGAIN_S, WebhookSender
from services.runtime.clock import SystemClock
from spillway.routing import CacheKind, CacheOutcome, Job, JobState, WebhookDelivery
from tests.support.jobs_parts import completion
from tests.support.webhook_receiver import Receiver, receiver

NAME = "hooks.example.com"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
JOB = Job("job_1", JobState.SUCCEEDED, completion("6 * 7 = 42, né"), tries=2, changed_at_unix_s=1_700_000_000.5)


@dataclass(frozen=True)
class Tried:
    """What became of a try."""

    delivery: WebhookDelivery
    is_final: bool
    retry_after_s: float | None


class Resolver:
    """Answers in turn, the last answer for all that follow."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def sender(
    to: Receiver, resolve: Resolver, *, private: Sequence[str] = (NAME,), timeout_s: float = 15.0
) -> WebhookSender:
    secrets = parse_secrets(f"{SECRET} {OLD_SECRET}")
    return WebhookSender(
        WebhookGuard(private), secrets, clock=SystemClock(), resolve=resolve, tls=to.trust, timeout_s=timeout_s
    )


async def tried(by: WebhookSender, notice: Notice) -> Tried:
    sent = await by.send(notice)
    assert sent.delivery is not None
    return Tried(sent.delivery, sent.is_final, sent.retry_after_s)


async def send(to: Receiver, resolve: Resolver, *, path: str = "/hook?a=1", timeout_s: float = 15.0) -> Tried:
    made = sender(to, resolve, timeout_s=timeout_s)
    try:
        return await tried(made, Notice(JOB, f"https://{NAME}:{to.port}{path}"))
    finally:
        made.close()


async def test_a_stock_library_verifies_what_arrives_by_the_new_secret_and_by_the_old(tmp_path: Path) -> None:
    async with receiver(tmp_path, NAME) as to:
        sent = await send(to, Resolver(["127.0.0.1"]))
    assert (sent.delivery.status, sent.delivery.error, sent.is_final) == (204, "", False)
    (got,) = to.received
    assert got.target == "/hook?a=1"
    assert got.headers["host"] == f"{NAME}:{to.port}"
    for secret in (SECRET, OLD_SECRET):
        notice = Webhook(secret).verify(got.body, got.headers)
        assert (notice["type"], notice["timestamp"]) == ("job.succeeded", "2023-11-14T22:13:20.500Z")
        assert notice["data"]["job_id"] == "job_1"
        assert notice["data"]["completion"]["message"]["parts"][0]["text"] == "6 * 7 = 42, né"


async def test_every_try_has_the_same_id(tmp_path: Path) -> None:
    async with receiver(tmp_path, NAME) as to:
        to.answers = ["HTTP/1.1 500 No\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"]
        first = await send(to, Resolver(["127.0.0.1"]))
        second = await send(to, Resolver(["127.0.0.1"]))
    assert (first.delivery.status, first.delivery.error) == (500, "STATUS")
    assert (second.delivery.status, second.delivery.error) == (200, "")
    assert {got.headers["webhook-id"] for got in to.received} == {"msg_job_1"}


async def test_the_connection_is_made_to_the_address_that_was_judged(tmp_path: Path) -> None:
    """A name that resolves elsewhere a moment later: it is asked once, and what it said then is connected to."""
    resolve = Resolver(["127.0.0.1"], ["127.0.0.2"])
    async with receiver(tmp_path, NAME) as to:
        assert not (await send(to, resolve)).delivery.error
    assert resolve.asked == [(NAME, to.port)]
    assert to.connections == 1


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["93.184.215.14", "127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["169.254.169.254"]]
)
async def test_an_address_that_is_not_public_gets_no_connection(tmp_path: Path, addresses: list[str]) -> None:
    async with receiver(tmp_path, NAME) as to:
        made = sender(to, Resolver(addresses), private=())
        sent = await tried(made, Notice(JOB, f"https://{NAME}:{to.port}/"))
        made.close()
    assert (sent.delivery.status, sent.delivery.error, sent.is_final) == (0, "ADDRESS_NOT_PUBLIC", True)
    assert to.connections == 0


async def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    async with receiver(tmp_path, "other.example.com") as to:
        assert (await send(to, Resolver(["127.0.0.1"]))).delivery.error == "TLS"
    assert to.received == []


async def test_a_certificate_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    async with receiver(tmp_path, NAME) as to:
        made = WebhookSender(
            WebhookGuard([NAME]), parse_secrets(SECRET), clock=SystemClock(), resolve=Resolver(["127.0.0.1"])
        )
        assert (await tried(made, Notice(JOB, f"https://{NAME}:{to.port}/"))).delivery.error == "TLS"
        made.close()
    assert to.received == []


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    async with receiver(tmp_path, NAME) as to:
        to.answers = [f"HTTP/1.1 307 Go\r\nLocation: https://{NAME}:{to.port}/there\r\nContent-Length: 0\r\n\r\n"]
        sent = await send(to, Resolver(["127.0.0.1"]))
    assert (sent.delivery.status, sent.delivery.error, sent.is_final) == (307, "REDIRECT", False)
    assert [got.target for got in to.received] == ["/hook?a=1"]


async def test_a_webhook_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    async with receiver(tmp_path, NAME) as to:
        to.answers = [None]
        sent = await send(to, Resolver(["127.0.0.1"]), timeout_s=0.5)
    assert sent.delivery.error == "TIMEOUT"


async def test_the_body_of_the_answer_is_not_read(tmp_path: Path) -> None:
    async with receiver(tmp_path, NAME) as to:
        to.answers = ["HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nand then nothing"]
        assert not (await send(to, Resolver(["127.0.0.1"]))).delivery.error


async def test_a_webhook_that_is_gone_is_not_tried_again_and_a_busy_one_names_its_time(tmp_path: Path) -> None:
    async with receiver(tmp_path, NAME) as to:
        to.answers = ["HTTP/1.1 410 Gone\r\n\r\n", "HTTP/1.1 503 Later\r\nRetry-After: 90\r\n\r\n"]
        assert (await send(to, Resolver(["127.0.0.1"]))).is_final
        busy = await send(to, Resolver(["127.0.0.1"]))
    assert (busy.is_final, busy.retry_after_s) == (False, 90.0)


async def test_the_next_address_is_tried_when_one_takes_no_connection(tmp_path: Path) -> None:
    async with receiver(tmp_path, NAME) as to:
        assert not (await send(to, Resolver(["127.0.0.3", "127.0.0.1"]))).delivery.error
        assert (await send(to, Resolver(["127.0.0.3"]))).delivery.error == "CONNECT"


async def test_a_name_without_addresses_is_said_to_have_none(tmp_path: Path) -> None:
    async with receiver(tmp_path, NAME) as to:
        assert (await send(to, Resolver([]))).delivery.error == "NO_ADDRESS"


async def test_names_are_resolved_by_the_system_unless_told_otherwise(tmp_path: Path) -> None:
    async with receiver(tmp_path) as to:
        made = WebhookSender(WebhookGuard(["localhost"]), parse_secrets(SECRET), clock=SystemClock())
        sent = await tried(made, Notice(JOB, f"http://localhost:{to.port}/"))
        made.close()
    assert not sent.delivery.error


def test_a_notice_that_would_be_too_long_goes_without_the_completion() -> None:
    long = replace(JOB, completion=completion("x" * BODY_BYTES_MAX))
    notice = json.loads(body_of(long))
    assert "completion" not in notice["data"]
    assert notice["type"] == "job.succeeded"


def test_a_notice_tells_no_more_of_the_cache_than_an_answer_does() -> None:
    outcome = CacheOutcome(CacheKind.SEMANTIC_HIT, reason="similarity 0.97 to entry 12", similarity=0.97, entry_key="k")
    notice = body_of(replace(JOB, completion=replace(completion(), cache=outcome)))
    assert b"0.97" not in notice
    assert b"entry 12" not in notice


def test_the_signature_is_of_id_time_and_body() -> None:
    secrets = parse_secrets(SECRET)
    one = headers_of("j", b"body", now_unix_s=1_700_000_000.9, secrets=secrets)
    assert one["webhook-timestamp"] == "1700000000"
    others = [
        headers_of("k", b"body", now_unix_s=1_700_000_000, secrets=secrets),
        headers_of("j", b"body!", now_unix_s=1_700_000_000, secrets=secrets),
        headers_of("j", b"body", now_unix_s=1_700_000_001, secrets=secrets),
    ]
    assert len({found["webhook-signature"] for found in [one, *others]}) == 4


@pytest.mark.parametrize("text", ["x", "whsec_", "whsec_AAAA", "whsec_" + "A" * 100, "whsec_%%%", SECRET[6:]])
def test_a_secret_that_is_none_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="whsec_") as caught:
        parse_secrets(text)
    assert text not in str(caught.value) or text in {"x", "whsec_"}


async def test_names_that_are_slow_to_resolve_hold_up_their_own_tenant_alone() -> None:
    go_on = threading.Event()

    def ask(host: str, port: int) -> list[str]:
        if host.startswith("slow"):
            go_on.wait(20)
            raise OSError
        return ["127.0.0.1"]

    names = NameResolver(ask, wait_s=0.01)
    made = WebhookSender(WebhookGuard(), parse_secrets(SECRET), clock=SystemClock(), names=names)
    slow = [
        asyncio.create_task(made.send(Notice(JOB, f"https://slow{number}.example.com/", "umbrella")))
        for number in range(TENANT_THREADS)
    ]
    await asyncio.sleep(0)
    more = await made.send(Notice(JOB, "https://slow-too.example.com/", "umbrella"))
    assert more.delivery is None, "what was not looked up was not tried"
    assert (more.is_final, more.retry_after_s) == (False, BUSY_AGAIN_S)
    assert (await tried(made, Notice(JOB, "https://quick.example.com/", "acme"))).delivery.error == "ADDRESS_NOT_PUBLIC"
    go_on.set()
    ended = await asyncio.gather(*slow)
    assert [sent.delivery and sent.delivery.error for sent in ended] == ["NO_ADDRESS"] * TENANT_THREADS
    again = await tried(made, Notice(JOB, "https://quick.example.com/", "umbrella"))
    assert again.delivery.error == "ADDRESS_NOT_PUBLIC"
    made.close()


async def test_a_lookup_that_nobody_waits_for_any_more_still_has_its_thread() -> None:
    go_on = threading.Event()

    def ask(host: str, port: int) -> list[str]:
        go_on.wait(20)
        return []

    names = NameResolver(ask, wait_s=0.01)
    left = [asyncio.create_task(names.resolve("umbrella", "slow", 443)) for _ in range(TENANT_THREADS)]
    await asyncio.sleep(0)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    with pytest.raises(ResolversBusyError):
        await names.resolve("umbrella", "slow", 443)
    waiting = asyncio.create_task(NameResolver.resolve(names, "acme", "slow", 443))
    go_on.set()
    assert await waiting == []
    names.close()
