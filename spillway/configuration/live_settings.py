"""Which settings a running process takes over from a changed file, and which it keeps until it is started again.

Promises: pure. The table names every setting that needs a restart, for each process that reads it; all others are taken
over. What is kept is named with its path, never with its value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from spillway.settings import Settings

__all__ = ["EVERYONE", "NEEDS_RESTART", "Change", "change", "differences", "needs_restart"]

_S = TypeVar("_S", bound=BaseModel)

EVERYONE: Final = ("orchestrator", "classifier", "cache", "executor", "ledger")

NEEDS_RESTART: Final[dict[str, tuple[str, ...]]] = {
    # Sockets, channels and what gRPC is told once.
    "services.orchestrator.listen": ("orchestrator",),
    "services.classifier.listen": ("classifier",),
    "services.cache.listen": ("cache",),
    "services.executor.listen": ("executor",),
    "services.ledger.listen": ("ledger",),
    "services.classifier.target": ("orchestrator", "cache"),
    "services.cache.target": ("orchestrator",),
    "services.executor.target": ("orchestrator", "classifier"),
    "services.ledger.target": ("orchestrator",),
    "services.classifier.server_name": ("orchestrator", "cache"),
    "services.cache.server_name": ("orchestrator",),
    "services.executor.server_name": ("orchestrator", "classifier"),
    "services.ledger.server_name": ("orchestrator",),
    "tls": EVERYONE,
    "limits": EVERYONE,
    "telemetry.otlp_endpoint": EVERYONE,
    "telemetry.prometheus_listen": EVERYONE,
    "telemetry.sample_ratio": EVERYONE,
    "telemetry.export_interval_s": EVERYONE,
    "orchestrator.deadline_s": EVERYONE,
    # Connections to Redis, files that stay open, queues.
    "orchestrator.background_tasks_max": ("orchestrator",),
    "orchestrator.decision_log": ("orchestrator",),
    "orchestrator.keys_file": ("orchestrator",),
    "orchestrator.idempotency_window_s": ("orchestrator",),
    "orchestrator.redis_url": ("orchestrator",),
    "orchestrator.redis_password_env": ("orchestrator",),
    "orchestrator.redis_timeout_s": ("orchestrator",),
    "policy.new_users.forget_s": ("orchestrator",),
    "policy.new_users.users_max": ("orchestrator",),
    "jobs": ("orchestrator",),
    "ledger.enabled": ("orchestrator",),
    "ledger.queued_max": ("orchestrator",),
    "ledger.database_url": ("ledger",),
    "ledger.database_password_env": ("ledger",),
    "ledger.retention_days": ("ledger",),
    "executor.share_redis_url": ("executor",),
    "executor.share_redis_password_env": ("executor",),
    # The model, what was learned, and where it is kept.
    "classifier.embedding": ("classifier",),
    "classifier.embedding_provider": ("classifier",),
    "classifier.embedding_endpoint": ("classifier",),
    "classifier.model_dir": ("classifier",),
    "classifier.threads": ("classifier",),
    "classifier.heads_dir": ("classifier",),
    "classifier.memory": ("classifier",),
    # The store, its bounds, and the risk control, whose evidence was gathered under its own limit.
    "cache.store": ("cache",),
    "cache.file": ("cache",),
    "cache.redis_url": ("cache",),
    "cache.redis_password_env": ("cache",),
    "cache.redis_timeout_s": ("cache",),
    "cache.prompt_key_file": ("cache",),
    "cache.snapshot_dir": ("cache",),
    "cache.entries_max": ("cache",),
    "cache.tenant_entries_max": ("cache",),
    "cache.bytes_max": ("cache",),
    "cache.max_wrong_rate": ("cache",),
    "cache.verifier": ("cache",),
    "cache.audits.share": ("cache",),
}
"""Path of a setting or a section -> the processes that read it, and have to be started again to read it anew."""


@dataclass(frozen=True, slots=True)
class Change:
    """`settings` are those to be in force; `kept` the paths whose new values have to wait for a restart."""

    settings: Settings
    kept: tuple[str, ...] = ()


def change(service: str, running: Settings, wanted: Settings) -> Change:
    """What `service`, which was started with `running`, makes of a file that now says `wanted`."""
    kept: list[str] = []
    for path, services in NEEDS_RESTART.items():
        if service not in services:
            continue
        place = path.split(".")
        old, new = _at(running, place), _at(wanted, place)
        if old != new:
            kept += differences(old, new, path)
            wanted = _with(wanted, place, old)
    return Change(wanted, tuple(sorted(kept)))


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """The paths at which two sections differ; lists and mappings count as a whole."""
    if old == new:
        return
    if not (isinstance(old, BaseModel) and isinstance(new, BaseModel) and type(old) is type(new)):
        yield path
        return
    for name in type(old).model_fields:
        yield from differences(getattr(old, name), getattr(new, name), f"{path}.{name}" if path else name)


def needs_restart(path: str) -> tuple[str, ...]:
    """The processes that keep the setting at `path` until they are started again; empty when all take it over."""
    place = path.split(".")
    names = (".".join(place[:length]) for length in range(1, len(place) + 1))
    return next((NEEDS_RESTART[name] for name in names if name in NEEDS_RESTART), ())


def _at(section: Any, place: list[str]) -> Any:
    for name in place:
        section = getattr(section, name)
    return section


def _with(section: _S, place: list[str], value: Any) -> _S:
    first, *rest = place
    inner = _with(getattr(section, first), rest, value) if rest else value
    return section.model_copy(update={first: inner})
