"""Completions, submissions and waiting, for the tests of jobs and idempotency."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from spillway.chat import ChatRequest, FinishReason, Message, Role, Usage
from spillway.routing import (
    CacheKind,
    CacheOutcome,
    Completion,
    CompletionRequest,
    CostSummary,
    JobSubmission,
    RoutingDecision,
)

__all__ = ["WELL_S", "completion", "redis_client", "request", "submission"]

WELL_S = 20.0


def completion(text: str = "42", request_id: str = "r", **changed: Any) -> Completion:
    """An answer of the first tier that nothing is special about, but for what is `changed`."""
    made = Completion(
        request_id=request_id,
        message=Message.of(Role.ASSISTANT, text),
        finish_reason=FinishReason.STOP,
        accepted=True,
        tier="simple",
        target="small-1",
        model="small",
        usage=Usage(10, 2),
        cost=CostSummary(1_000, 5_000, "big-1"),
        cache=CacheOutcome(CacheKind.MISS, reason="nothing stored"),
        routing=RoutingDecision(policy_step="complexity"),
        completed_at_unix_s=1_700_000_000.0,
    )
    return replace(made, **changed)


def request(text: str = "what is 6 * 7?", *, request_id: str = "", tenant: str = "acme") -> CompletionRequest:
    return CompletionRequest(ChatRequest((Message.of(Role.USER, text),)), request_id=request_id, tenant=tenant)


def submission(text: str = "what is 6 * 7?", *, request_id: str = "", webhook_url: str = "") -> JobSubmission:
    return JobSubmission(request(text, request_id=request_id), webhook_url=webhook_url)


def redis_client(url: str) -> Any:
    """As the composition root makes it, with time for a busy machine."""
    return Redis.from_url(
        url,
        socket_timeout=WELL_S,
        socket_connect_timeout=WELL_S,
        retry=Retry(NoBackoff(), 0),
        decode_responses=False,
        protocol=2,
    )
