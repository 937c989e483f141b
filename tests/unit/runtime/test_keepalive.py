"""Connections on which nothing is said for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import grpc
import grpc.aio
from grpc_channelz.v1 import channelz_pb2
from grpc_channelz.v1.channelz import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.runtime import channel, port
from spillway.settings import Limits

# Every duration of both ends is divided by this.
FASTER = 100
# A server that is pinged too often cuts the connection at the fifth.
PINGS = 6


def faster(options: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return [(name, value // FASTER if name.endswith("_ms") else value) for name, value in options]


async def pings_sent() -> int:
    """By the clients of this process, on connections that there are."""
    servicer = aio.ChannelzServicer()
    top = await servicer.GetTopChannels(channelz_pb2.GetTopChannelsRequest(start_channel_id=0), None)
    sent = 0
    for entry in top.channel:
        for reference in entry.subchannel_ref:
            request = channelz_pb2.GetSubchannelRequest(subchannel_id=reference.subchannel_id)
            subchannel = await servicer.GetSubchannel(request, None)
            for found in subchannel.subchannel.socket_ref:
                socket = await servicer.GetSocket(channelz_pb2.GetSocketRequest(socket_id=found.socket_id), None)
                sent += socket.socket.data.keep_alives_sent
    return sent


async def until(ended: Callable[[], bool]) -> None:
    while not ended() and await pings_sent() < PINGS:  # noqa: ASYNC110 - nobody is told of a ping
        await asyncio.sleep(0.05)


async def test_a_quiet_call_is_not_cut_by_the_pings_that_keep_its_connection() -> None:
    servicer = health.aio.HealthServicer()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    server = grpc.aio.server(options=faster(port._options(Limits(connection_age_s=3_600), 120.0)))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    options = faster(
        [
            ("grpc.keepalive_time_ms", int(channel.KEEPALIVE_S * 1_000)),
            ("grpc.keepalive_timeout_ms", int(channel.KEEPALIVE_TIMEOUT_S * 1_000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
        ]
    )
    try:
        async with grpc.aio.insecure_channel(address, options=options) as client:
            stub: Any = health_pb2_grpc.HealthStub(client)
            watch = stub.Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            await asyncio.wait_for(until(watch.done), 60)
            assert not watch.done(), await watch.details()
            watch.cancel()
    finally:
        await server.stop(0)
