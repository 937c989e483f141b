"""The executors of a suite, as the command sees them: what each knows of its targets.

Promises: an executor that does not answer within `ASK_S_MAX` is reported as such, and delays the others no longer than
that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc

from spillway.cli.channels import open_channel
from spillway.v1 import executor_pb2, executor_pb2_grpc

__all__ = ["ExecutorHealth", "Executors", "TargetHealth"]

ASK_S_MAX = 2.0
_STATE_PREFIX = "BREAKER_STATE_"


@dataclass(frozen=True, slots=True)
class TargetHealth:
    """One target in one executor. `state` is closed, open or half_open; `open_for_s` is 0 unless it is open."""

    target: str
    tier: str
    model: str
    state: str
    open_for_s: float
    opened_by_peer: bool
    window_calls: int
    window_failures: int
    window_slow: int
    in_flight: int
    latency_average_s: float | None


@dataclass(frozen=True, slots=True)
class ExecutorHealth:
    """One executor; with an `error` it did not answer."""

    address: str
    targets: tuple[TargetHealth, ...] = ()
    error: str = ""


class Executors:
    """Channels to them. An async context manager."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._channels: list[grpc.aio.Channel] = []

    async def __aenter__(self) -> Self:
        options = [("grpc.max_reconnect_backoff_ms", 1_000)]
        self._channels = [open_channel(address, options) for address in self._addresses]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels))

    async def ask(self) -> tuple[ExecutorHealth, ...]:
        """All of them at once, in the order of their addresses."""
        asking = [_ask(*one) for one in zip(self._addresses, self._channels, strict=True)]
        return tuple(await asyncio.gather(*asking))


async def _ask(address: str, channel: grpc.aio.Channel) -> ExecutorHealth:
    stub = executor_pb2_grpc.ExecutorServiceStub(channel)
    try:
        listed = await stub.ListTargets(executor_pb2.ListTargetsRequest(), timeout=ASK_S_MAX)
    except grpc.aio.AioRpcError as error:
        return ExecutorHealth(address, error=error.code().name.lower().replace("_", " "))
    return ExecutorHealth(address, tuple(_health(one) for one in listed.targets))


def _health(one: executor_pb2.TargetStatus) -> TargetHealth:
    try:
        state = executor_pb2.TargetStatus.BreakerState.Name(one.breaker).removeprefix(_STATE_PREFIX).lower()
    except ValueError:  # an executor of a later version
        state = "unknown"
    return TargetHealth(
        target=one.target,
        tier=one.tier,
        model=one.model,
        state=state,
        open_for_s=one.open_for.ToTimedelta().total_seconds(),
        opened_by_peer=one.opened_by_peer,
        window_calls=one.window_calls,
        window_failures=one.window_failures,
        window_slow=one.window_slow,
        in_flight=one.in_flight,
        latency_average_s=(
            one.latency_average.ToTimedelta().total_seconds() if one.HasField("latency_average") else None
        ),
    )
