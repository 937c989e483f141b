"""A channel whose certificates can be renewed: another one is opened beside it and takes its place.

gRPC for Python binds a channel to the certificates that it was made with. Promises: calls that begin go over the newest
channel that has connected; those under way end where they began, and then their channel is closed. Before the new one
has connected, the one before stays: certificates that the other side does not take yet lose nothing. At most
RETIRED_MAX channels wait for their last call. Stubs are made once and need not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import grpc

from services.runtime.tasks import end_tasks
from services.runtime.tls import Certificates, Pems

__all__ = ["RETIRED_MAX", "RenewedChannel"]

RETIRED_MAX: Final = 8
"""Renewals within one long call; beyond that the eldest channel is closed, with its calls."""

_IDLE: Final = grpc.ChannelConnectivity.IDLE


class _Generation:
    """One channel, and how many use it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.callables: dict[object, Any] = {}
        self.uses = 0
        self.replaced = asyncio.Event()


class RenewedChannel(grpc.aio.Channel):
    """`make` opens a channel with the given certificates. For one event loop."""

    def __init__(self, certificates: Certificates, make: Callable[[Pems], grpc.aio.Channel]) -> None:
        self._make = make
        self._current = _Generation(make(certificates.current))
        self._retired: list[_Generation] = []
        self._renewal: asyncio.Task[None] | None = None
        self._closings: set[asyncio.Task[None]] = set()
        self._unfollow = certificates.follow(self._renew)

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._callable("unary_unary", args, kwargs)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._callable("unary_stream", args, kwargs)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._callable("stream_unary", args, kwargs)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._callable("stream_stream", args, kwargs)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._current.channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._until_replaced(lambda channel: channel.wait_for_state_change(last_observed_state))

    async def channel_ready(self) -> None:
        while not await self._until_replaced(lambda channel: channel.channel_ready()):
            pass

    async def close(self, grace: float | None = None) -> None:
        self._unfollow()
        if self._renewal is not None:
            await end_tasks([self._renewal])
        generations = (*self._retired, self._current)
        self._retired.clear()
        await asyncio.gather(*(each.channel.close(grace) for each in generations), *self._closings)

    async def __aenter__(self) -> RenewedChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _callable(self, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[..., Any]:
        key = object()

        def call(*call_args: Any, **call_kwargs: Any) -> Any:
            generation = self._current
            made = generation.callables.get(key)
            if made is None:
                made = generation.callables[key] = getattr(generation.channel, kind)(*args, **kwargs)
            begun = made(*call_args, **call_kwargs)
            generation.uses += 1
            begun.add_done_callback(lambda _: self._leave(generation))
            return begun

        return call

    async def _until_replaced(self, wait: Callable[[grpc.aio.Channel], Any]) -> bool:
        """Whether `wait` of the current channel ended before that one was replaced."""
        generation = self._current
        generation.uses += 1
        waiting = asyncio.ensure_future(wait(generation.channel))
        replaced = asyncio.ensure_future(generation.replaced.wait())
        try:
            await asyncio.wait({waiting, replaced}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                return False
            waiting.result()
            return True
        finally:
            await end_tasks([waiting, replaced])
            self._leave(generation)

    def _renew(self, pems: Pems) -> None:
        if self._renewal is not None:
            self._renewal.cancel()  # newer ones have come before those had connected
        self._renewal = asyncio.create_task(self._exchange(pems), name="tls-channel")

    async def _exchange(self, pems: Pems) -> None:
        made = self._make(pems)
        try:
            if self._current.channel.get_state() is not _IDLE:  # which nobody has used yet
                await made.channel_ready()
        except BaseException:
            await made.close()
            raise
        before, self._current = self._current, _Generation(made)
        before.callables.clear()
        before.replaced.set()
        self._retired.append(before)
        if len(self._retired) > RETIRED_MAX:
            self._end(self._retired[0])
        if not before.uses:
            self._end(before)

    def _leave(self, generation: _Generation) -> None:
        generation.uses -= 1
        if not generation.uses and generation in self._retired:
            self._end(generation)

    def _end(self, generation: _Generation) -> None:
        self._retired.remove(generation)
        closing = asyncio.create_task(generation.channel.close(), name="tls-channel-close")
        self._closings.add(closing)
        closing.add_done_callback(self._closings.discard)
