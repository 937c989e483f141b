"""Questions to one process of the suite, without the suite's front: does it answer, has the classifier its model?

Promises: no question takes longer than its timeout, or raises; each opens a connection of its own and closes it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from spillway.cli.channels import open_channel
from spillway.failure import read_failure
from spillway.v1 import classifier_pb2, classifier_pb2_grpc

__all__ = ["answers_grpc", "answers_http", "lacks_embedding"]

# A connection of its own, past every proxy: what is asked is whether this process answers now.
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
# With any other status the process has answered, if only that it has too much to do.
_SILENT = frozenset({grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE})
_NO_MODEL = "EMBEDDING_UNAVAILABLE"


async def answers_grpc(address: str, timeout_s: float) -> bool:
    """Whether the gRPC server answers a health check, whatever the answer."""
    async with open_channel(address, _OPTIONS) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its type stubs leave the methods out
        try:
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return error.code() not in _SILENT
    return True


async def answers_http(url: str, timeout_s: float) -> bool:
    """Whether the HTTP server at `url` (http://host:port) answers, whatever the answer."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                return bool(await reader.readline())
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):  # ValueError: a line without end
        return False


async def lacks_embedding(target: str, timeout_s: float) -> bool:
    """Whether the classifier at `target` says that it has no embedding model; False when it says nothing."""
    async with open_channel(target, _OPTIONS) as channel:
        stub = classifier_pb2_grpc.ClassifierServiceStub(channel)
        try:
            await stub.Embed(classifier_pb2.EmbedRequest(texts=["?"]), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return read_failure(error).reason == _NO_MODEL
    return False
