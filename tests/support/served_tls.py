"""A toy service behind TLS, and callers of every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime import errors
from services.runtime.server import RunningServer, start
from services.runtime.tls import Certificates, open_certificates
from spillway.failure import read_failure
from spillway.v1 import executor_pb2_grpc
from tests.support.certificates import CertificateFolders
from tests.support.toy import Toy, command, settings, toy_service

__all__ = ["SERVING", "Served", "health", "served"]

SERVING = health_pb2.HealthCheckResponse.SERVING


class Served:
    """A toy that stands for the executor, behind TLS."""

    def __init__(self, folders: CertificateFolders, toy: Toy, server: RunningServer, own: Certificates) -> None:
        self.folders = folders
        self.toy = toy
        self.server = server
        self.own = own

    @asynccontextmanager
    async def channel(
        self, credentials: grpc.ChannelCredentials | None, *, address: str = "", server_name: str = ""
    ) -> AsyncIterator[Any]:
        """A channel of somebody else; plain without credentials."""
        options = [("grpc.ssl_target_name_override", server_name)] if server_name else []
        target = address or self.server.address
        if credentials is None:
            made = grpc.aio.insecure_channel(target, options)
        else:
            made = grpc.aio.secure_channel(target, credentials, options)
        async with made:
            yield made

    async def ask(self, credentials: grpc.ChannelCredentials | None, **options: str) -> errors.SpillwayError | None:
        """How a call of this caller ends; None when it is answered."""
        async with self.channel(credentials, **options) as channel:
            try:
                await executor_pb2_grpc.ExecutorServiceStub(channel).Execute(command("!ok"), timeout=20)
            except grpc.aio.AioRpcError as error:
                failure = read_failure(error)
                return errors.SpillwayError(failure.code, failure.reason, failure.message)
        return None

    async def renew(self, *names: str) -> None:
        """New certificates in the folders of `names`, taken over by the server."""
        for name in names:
            self.folders.issue(name)
        await self.own.look()


@asynccontextmanager
async def served(
    folder: Path,
    *,
    listen: str = "127.0.0.1:0",
    drain_s: float = 0.0,
    folders: CertificateFolders | None = None,
    **tls: Any,
) -> AsyncIterator[Served]:
    """The toy as it serves, with certificates in `folder`; `tls` is more of that section."""
    folders = folders or CertificateFolders(folder / "certs").make("executor", "orchestrator")
    sections = {"limits": {"drain_s": drain_s, "grace_s": 5}, "tls": {**folders.settings, **tls}}
    loaded = settings(folder, yaml.safe_dump(sections))
    own = open_certificates(loaded.settings.tls, "executor")
    assert own is not None
    toy = Toy()
    server = await start(replace(toy_service(toy), name="executor", certificates=own), loaded, listen)
    try:
        yield Served(folders, toy, server, own)
    finally:
        toy.release.set()
        await server.stop()


def health(channel: Any) -> Any:
    return health_pb2_grpc.HealthStub(channel)
