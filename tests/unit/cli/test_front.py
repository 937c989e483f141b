"""Whether a suite that has just started is whole, as its front tells it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest

from spillway.cli.front import Front, look_at_front
from spillway.client import AsyncClient
from spillway.errors import error_for
from spillway.failure import Failure
from spillway.routing import CacheKind, CacheOutcome, Explanation
from tests.unit.cli.test_show import COMPLETION

REFUSED = Failure(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", "a valid API key is needed")
AWAY = Failure(grpc.StatusCode.UNAVAILABLE)
WHOLE = Explanation(replace(COMPLETION.routing, degraded=()), CacheOutcome(CacheKind.MISS))
PATIENCE_S = 60.0


class Fronted(AsyncClient):
    """A client whose suite says one thing after the other."""

    def __init__(self, *told: Failure | Explanation) -> None:
        super().__init__("127.0.0.1:1")
        self._told: Iterator[Failure | Explanation] = iter(told)

    async def explain(self, *_: Any, **__: Any) -> Explanation:
        found = next(self._told)
        if isinstance(found, Failure):
            raise error_for(found)
        return found


async def look(*told: Failure | Explanation, within_s: float = PATIENCE_S) -> Front:
    async with Fronted(*told) as client:
        return await look_at_front(client, within_s=within_s)


async def test_a_front_that_wants_a_key_serves_and_is_asked_once() -> None:
    assert await look(REFUSED) == Front(wants_key=True)


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED])
async def test_a_front_that_refuses_the_request_has_answered(code: grpc.StatusCode) -> None:
    assert await look(Failure(code, "ANY")) == Front()


async def test_a_front_that_is_still_connecting_is_asked_again() -> None:
    without = replace(WHOLE, routing=replace(WHOLE.routing, degraded=("classifier",)))
    uncached = replace(WHOLE, cache=CacheOutcome(CacheKind.UNAVAILABLE))
    assert await look(AWAY, without, uncached, WHOLE) == Front()


async def test_what_is_missing_at_the_end_is_named() -> None:
    assert await look(AWAY, within_s=0) == Front(("orchestrator",))
    assert await look(replace(WHOLE, cache=CacheOutcome(CacheKind.UNAVAILABLE)), within_s=0) == Front(("cache",))
