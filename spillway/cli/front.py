"""Whether the front of a suite that has just started reaches everything behind it, asked as a caller asks.

Promises: ends after `within_s` and one request at the latest; never raises a RequestError. A front that refuses the
request has answered: what is behind it cannot be asked then, and counts as there.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from spillway.client import AsyncClient
from spillway.errors import InvalidRequestError, RefusedError, RequestError
from spillway.routing import CacheKind

__all__ = ["Front", "look_at_front"]

_PAUSE_S: Final = 0.1
_PROBE: Final = "Is everybody there?"


@dataclass(frozen=True, slots=True)
class Front:
    """What was missing when last looked: names of services. `wants_key`: it refused the request for want of a key."""

    missing: tuple[str, ...] = ()
    wants_key: bool = False


async def look_at_front(client: AsyncClient, *, within_s: float) -> Front:
    """Look until nothing is missing, for at most `within_s`: it may still be connecting when all are up."""
    deadline = time.monotonic() + within_s
    while True:
        found = await _look(client, within_s)
        if not found.missing or time.monotonic() >= deadline:
            return found
        await asyncio.sleep(_PAUSE_S)


async def _look(client: AsyncClient, timeout_s: float) -> Front:
    try:
        explanation = await client.explain(_PROBE, timeout_s=timeout_s)
    except (RefusedError, InvalidRequestError) as error:
        return Front(wants_key=error.failure.reason == "UNAUTHENTICATED")
    except RequestError:
        return Front(("orchestrator",))
    absent = ("cache",) if explanation.cache.kind is CacheKind.UNAVAILABLE else ()
    return Front(tuple(dict.fromkeys((*explanation.routing.degraded, *absent))))
