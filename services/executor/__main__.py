"""`python -m services.executor`: the composition root of the executor."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

import grpc
from opentelemetry.metrics import get_meter

from services.executor.execution import Executor
from services.executor.gates.calibration import Calibration, CalibrationError
from services.executor.gates.calibration import load as load_calibration
from services.executor.metrics import ExecutorMetrics
from services.executor.providers.anthropic_messages import AnthropicMessages
from services.executor.providers.openai_chat import OpenAIChat
from services.executor.servicer import ExecutorServicer
from services.executor.sharing import BreakerSharing
from services.executor.targets import TargetPool
from services.runtime.clock import Clock, SystemClock
from services.runtime.config import ConfigError, Loaded, SecretMissingError, read_api_key, read_secret
from services.runtime.document import Problem
from services.runtime.logs import get_logger
from services.runtime.main import run
from services.runtime.server import Service
from spillway.settings import Executor as ExecutorSettings
from spillway.settings import Provider
from spillway.v1 import executor_pb2, executor_pb2_grpc

__all__ = ["build"]

_KINDS: Final = {"openai": OpenAIChat, "anthropic": AnthropicMessages}


async def build(loaded: Loaded) -> Service:
    """The service, from its settings."""
    settings = loaded.settings
    providers = {
        name: _KINDS[provider.kind](
            provider.base_url,
            api_key=_api_key(name, provider),
            connections_max=provider.connections_max,
            connect_timeout_s=settings.executor.connect_timeout_s,
            answer_bytes_max=settings.executor.answer_bytes_max,
        )
        for name, provider in settings.providers.items()
    }
    clock = SystemClock()
    pool = TargetPool(settings, random=random.random)
    executor = Executor(
        providers,
        pool,
        clock,
        confidence_min=settings.executor.confidence_min,
        calibration=_calibration(loaded),
        hedging=settings.executor.hedging,
        metrics=ExecutorMetrics(get_meter("spillway.executor"), pool),
    )
    sharing = _sharing(settings.executor, pool, clock)
    servicer = ExecutorServicer(executor, pool, clock, deadline_s=settings.orchestrator.deadline_s)

    def register(server: grpc.aio.Server) -> None:
        executor_pb2_grpc.add_ExecutorServiceServicer_to_server(servicer, server)

    async def close() -> None:
        if sharing is not None:
            await sharing.close()
        for provider in providers.values():
            await provider.close()

    name = executor_pb2.DESCRIPTOR.services_by_name["ExecutorService"].full_name
    warm = None if sharing is None else sharing.start
    return Service("executor", register, (name,), warm=warm, close=close)


def _sharing(settings: ExecutorSettings, pool: TargetPool, clock: Clock) -> BreakerSharing | None:
    """What tells other replicas of open breakers; None without a Redis to do it through."""
    if not settings.share_redis_url:
        return None
    password = read_secret(settings.share_redis_password_env, "")
    return BreakerSharing(settings.share_redis_url, password=password, pool=pool, clock=clock)


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
    except SecretMissingError:
        get_logger(__name__).warning("provider_without_key", provider=name, variable=provider.api_key_env)
        return ""


if __name__ == "__main__":
    run("executor", build)
