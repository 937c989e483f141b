"""A real socket for a fake orchestrator, on threads of its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc

from spillway.v1.orchestrator_pb2_grpc import OrchestratorServiceServicer, add_OrchestratorServiceServicer_to_server

__all__ = ["orchestrator_at"]

THREADS = 8


@contextmanager
def orchestrator_at(servicer: OrchestratorServiceServicer) -> Iterator[str]:
    """Its address, a free loopback port, inside the block; nobody else can be given the same one."""
    server = grpc.server(futures.ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", 0)])
    add_OrchestratorServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
