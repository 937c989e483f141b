"""The connections to the other services."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from services.runtime.channel import open_channel
from services.runtime.tls import Certificates
from spillway.settings import ServiceAddress, Settings

__all__ = ["Channels"]


@dataclass(frozen=True, slots=True)
class Channels:
    """To each of them; `close` at the end."""

    cache: grpc.aio.Channel
    classifier: grpc.aio.Channel
    executor: grpc.aio.Channel
    ledger: grpc.aio.Channel

    @classmethod
    def to(cls, settings: Settings, certificates: Certificates | None) -> Channels:
        """Connects to none yet."""

        def channel(address: ServiceAddress, name: str) -> grpc.aio.Channel:
            return open_channel(
                address.target,
                service_name=f"spillway.v1.{name}",
                message_bytes_max=settings.limits.message_bytes_max,
                certificates=certificates,
                server_name=address.server_name,
            )

        services = settings.services
        return cls(
            channel(services.cache, "CacheService"),
            channel(services.classifier, "ClassifierService"),
            channel(services.executor, "ExecutorService"),
            channel(services.ledger, "LedgerService"),
        )

    def connect(self) -> None:
        """Begins to connect to those that answer requests."""
        for channel in (self.cache, self.classifier, self.executor):
            channel.get_state(try_to_connect=True)

    async def close(self) -> None:
        """Of all."""
        for channel in (self.cache, self.classifier, self.executor, self.ledger):
            await channel.close()
