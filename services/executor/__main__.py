"""`python -m services.executor`: the composition root of the executor."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from opentelemetry.metrics import get_meter

from services.executor.execution import Executor
from services.executor.gates.calibration import Calibration, CalibrationError
from services.executor.gates.calibration import load as load_calibration
from services.executor.generations import Client, Generation, Generations
from services.executor.metrics import ExecutorMetrics
from services.executor.providers.anthropic_messages import AnthropicMessages
from services.executor.providers.openai_chat import OpenAIChat
from services.executor.servicer import ExecutorServicer
from services.executor.sharing import BreakerSharing
from services.executor.targets import TargetPool
from services.runtime.clock import Clock, SystemClock
from services.runtime.config import ConfigError, Loaded, SecretMissingError, read_api_key, read_secret
from services.runtime.logs import get_logger
from services.runtime.main import run
from services.runtime.reload import Reloader
from services.runtime.server import Service
from spillway.configuration.document import Problem
from spillway.settings import Provider
from spillway.v1 import executor_pb2, executor_pb2_grpc

__all__ = ["build"]

_KINDS: Final = {"openai": OpenAIChat, "anthropic": AnthropicMessages}


async def build(loaded: Loaded) -> Service:
    """The service, from its settings."""
    settings = loaded.settings
    clock = SystemClock()
    opened = await _open(loaded, {})
    pool = TargetPool(settings, random=random.random)
    metrics = ExecutorMetrics(get_meter("spillway.executor"), pool, clock)
    sharing = _sharing(loaded, pool, clock)

    def generation(of: Loaded, opened: _Opened, pool: TargetPool, before: Executor | None = None) -> Generation:
        executor = Executor(
            {name: client.provider for name, client in opened.clients.items()},
            pool,
            clock,
            confidence_min=of.settings.executor.confidence_min,
            calibration=opened.calibration,
            hedging=of.settings.executor.hedging,
            metrics=metrics,
            before=before,
        )
        return Generation(of.version, executor, pool, opened.clients)

    generations = Generations(generation(loaded, opened, pool), clock)
    servicer = ExecutorServicer(generations, clock, deadline_s=settings.orchestrator.deadline_s)

    def register(server: grpc.aio.Server) -> None:
        executor_pb2_grpc.add_ExecutorServiceServicer_to_server(servicer, server)

    async def reconfigure(changed: Loaded) -> None:
        before = generations.current
        opened = await _open(changed, before.clients)
        # From here on nothing fails and nothing waits.
        pool = TargetPool(changed.settings, random=random.random, before=before.pool)
        metrics.follow(pool)
        if sharing is not None:
            sharing.follow(pool)
        generations.exchange(generation(changed, opened, pool, before.executor))

    def following(reloader: Reloader) -> None:
        generations.look_for = reloader.look_for

    async def close() -> None:
        if sharing is not None:
            await sharing.close()
        await generations.close()

    name = executor_pb2.DESCRIPTOR.services_by_name["ExecutorService"].full_name
    warm = None if sharing is None else sharing.start
    return Service("executor", register, (name,), warm=warm, close=close, reconfigure=reconfigure, following=following)


@dataclass(frozen=True, slots=True)
class _Opened:
    """What a configuration names and may lack."""

    clients: dict[str, Client]
    calibration: Calibration


async def _open(loaded: Loaded, known: dict[str, Client]) -> _Opened:
    """Connections to every provider, those of `known` where nothing has changed, and the gates' weights.

    Raises ConfigError, SecretError.
    """

    def read() -> tuple[dict[str, str], Calibration]:
        keys = {name: _api_key(name, provider) for name, provider in loaded.settings.providers.items()}
        return keys, _calibration(loaded)

    keys, calibration = await asyncio.to_thread(read)
    return _Opened(_clients(loaded, keys, known), calibration)


def _clients(loaded: Loaded, keys: dict[str, str], known: dict[str, Client]) -> dict[str, Client]:
    """What connects to each provider; nothing is connected before the first call. Raises ConfigError."""
    options = loaded.settings.executor
    clients: dict[str, Client] = {}
    for name, provider in loaded.settings.providers.items():
        made: dict[str, Any] = {
            "api_key": keys[name],
            "connections_max": provider.connections_max,
            "connect_timeout_s": options.connect_timeout_s,
            "answer_bytes_max": options.answer_bytes_max,
        }
        place = (provider.kind, provider.base_url, *made.values())
        if name in known and known[name].place == place:
            clients[name] = known[name]
            continue
        try:
            clients[name] = Client(place, _KINDS[provider.kind](provider.base_url, **made))
        except ValueError as error:  # of the URL or the key; its text has neither
            raise ConfigError(loaded.path, [Problem(0, f"providers.{name}", str(error))]) from error
    return clients


def _sharing(loaded: Loaded, pool: TargetPool, clock: Clock) -> BreakerSharing | None:
    """What tells other replicas of open breakers; None without a Redis to do it through. Raises ConfigError."""
    settings = loaded.settings.executor
    if not settings.share_redis_url:
        return None
    password = read_secret(settings.share_redis_password_env, "")
    try:
        return BreakerSharing(settings.share_redis_url, password=password, pool=pool, clock=clock)
    except ValueError as error:
        raise ConfigError(loaded.path, [Problem(0, "", str(error))]) from error


def _calibration(loaded: Loaded) -> Calibration:
    """The weights of the composite gate: the configured ones, else those that are shipped. Raises ConfigError."""
    path = loaded.settings.executor.gate_weights
    try:
        return load_calibration(Path(path) if path else None)
    except CalibrationError as error:
        raise ConfigError(loaded.path, [Problem(0, "executor.gate_weights", str(error))]) from error


def _api_key(name: str, provider: Provider) -> str:
    """The key; without its variable set, none: local servers ask for none, and others will answer 401."""
    try:
        return read_api_key(provider.api_key_env, provider.api_key_file)
    except SecretMissingError as error:
        get_logger(__name__).warning("provider_without_key", provider=name, why=str(error))
        return ""


if __name__ == "__main__":
    run("executor", build)
