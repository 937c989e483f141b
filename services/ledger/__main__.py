"""The ledger process: `python -m services.ledger --config FILE --listen HOST:PORT`."""

from __future__ import annotations

import asyncio
from typing import Final

from opentelemetry import metrics
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from services.ledger.database import DatabaseError, is_sqlite, migrate, open_database
from services.ledger.metrics import LedgerCounts
from services.ledger.retention import Retention
from services.ledger.servicer import LedgerServicer
from services.ledger.store import LedgerStore
from services.ledger.workers import Workers
from services.runtime.clock import SystemClock
from services.runtime.config import ConfigError, Loaded, read_secret
from services.runtime.logs import get_logger
from services.runtime.main import run
from services.runtime.reload import takes_over_nothing
from services.runtime.server import Service
from services.runtime.tasks import end_tasks
from spillway.configuration.document import Problem
from spillway.v1.ledger_pb2_grpc import add_LedgerServiceServicer_to_server

_log = get_logger(__name__)

# A file has one writer at a time; a server has others to serve as well.
WRITERS_FILE: Final = 1
WRITERS_SERVER: Final = 4
READERS: Final = 2
# Batches of some MB each: what waits here takes some 100 MB at most.
WRITES_WAITING_MAX: Final = 16
READS_WAITING_MAX: Final = 16
# A database that is away at the start is waited for, NOT_SERVING.
DATABASE_PAUSE_S: Final = 0.5
DATABASE_PAUSE_S_MAX: Final = 10.0


async def build(loaded: Loaded) -> Service:
    """The composition root."""
    clock = SystemClock()
    engine = _engine(loaded)
    store = LedgerStore(engine, answers_apart_s=loaded.settings.orchestrator.idempotency_window_s)
    writers = Workers(
        "write", threads=WRITERS_FILE if is_sqlite(engine) else WRITERS_SERVER, waiting_max=WRITES_WAITING_MAX
    )
    readers = Workers("read", threads=READERS, waiting_max=READS_WAITING_MAX)
    counts = LedgerCounts(metrics.get_meter("spillway.ledger"))
    counts.observe(
        {"write": lambda: writers.waiting, "read": lambda: readers.waiting},
        {"write": lambda: writers.refused, "read": lambda: readers.refused},
    )
    retention = Retention(store, writers, clock, days=loaded.settings.ledger.retention_days, on_delete=counts.deleted)
    servicer = LedgerServicer(store, writers=writers, readers=readers, clock=clock, counts=counts)
    tasks: list[asyncio.Task[None]] = []

    async def warm() -> None:
        await _migrate(loaded, engine, clock)
        tasks.append(asyncio.create_task(retention.run(), name="retention"))

    async def close() -> None:
        await end_tasks(tasks)
        writers.close()
        readers.close()
        engine.dispose()

    return Service(
        name="ledger",
        register=lambda server: add_LedgerServiceServicer_to_server(servicer, server),
        service_names=("spillway.v1.LedgerService",),
        warm=warm,
        close=close,
        reconfigure=takes_over_nothing,
    )


def _engine(loaded: Loaded) -> Engine:
    settings = loaded.settings.ledger
    try:
        return open_database(
            settings.database_url,
            password=read_secret(settings.database_password_env, ""),
            connections_max=WRITERS_SERVER + READERS,
        )
    except DatabaseError as error:
        raise _config_error(loaded, error) from error


async def _migrate(loaded: Loaded, engine: Engine, clock: SystemClock) -> None:
    """Raises ConfigError."""
    pause_s = DATABASE_PAUSE_S
    while True:
        try:
            await asyncio.to_thread(migrate, engine)
        except DatabaseError as error:
            raise _config_error(loaded, error) from error
        except SQLAlchemyError as error:
            _log.warning("ledger_database_away", again_in_s=pause_s, exception=type(error).__name__)
        else:
            return
        await clock.sleep(pause_s)
        pause_s = min(DATABASE_PAUSE_S_MAX, pause_s * 2)


def _config_error(loaded: Loaded, error: DatabaseError) -> ConfigError:
    return ConfigError(loaded.path, [Problem(0, "ledger.database_url", str(error))])


if __name__ == "__main__":
    run("ledger", build)
