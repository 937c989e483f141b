"""The database behind the ledger: how it is opened, and how its tables come to be what `schema` says.

Promises: what a transaction has committed outlives a killed process and a power cut (SQLite: WAL with full
synchronisation; PostgreSQL: its default). `migrate` brings any older ledger up to date in one transaction, keeping what
it holds, under a lock of the database itself, so that replicas may start at once. Errors name no value of any row.
Everything here blocks: it is for threads.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError

__all__ = ["DatabaseError", "is_sqlite", "migrate", "open_database", "reading", "upgrade"]

MIGRATIONS: Final = Path(__file__).parent / "migrations"
# A writer waits so long for another; a batch takes some tens of milliseconds.
BUSY_TIMEOUT_MS: Final = 5_000
_WAL_PAUSE_MS: Final = 50
CONNECT_TIMEOUT_S: Final = 5
# No statement of the ledger's takes a second on a sound server.
STATEMENT_TIMEOUT_MS: Final = 15_000
# A server that is gone without a word (a cut cable) is noticed after this.
UNACKNOWLEDGED_MS: Final = 10_000
# Any number, the same in all versions: replicas that start at once migrate one after the other.
_LOCK: Final = 7_318_349_394_477_056

# Rows of a batch in one INSERT. Every number of rows up to it is a statement of its own, which drivers (and PostgreSQL)
# keep prepared, for each connection: with batches whole, up to 500 rows, that came to 250 MiB.
INSERT_ROWS_MAX: Final = 20

_READS: Final = "spillway_reads"


class DatabaseError(Exception):
    """The database cannot be used as it is configured. The message says why, without a password."""


def open_database(url: str, *, password: str = "", connections_max: int) -> Engine:
    """An engine for `url` (sqlite:///FILE or postgresql://…), which connects when first used; thread-safe.

    `password` takes the place of one in the URL, where none may stand. Raises DatabaseError.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise DatabaseError("is no database URL") from error
    if parsed.password:
        raise DatabaseError("must not contain a password: name its variable in ledger.database_password_env")
    dialect, _, driver = parsed.drivername.partition("+")
    if dialect == "sqlite" and driver in {"", "pysqlite"}:
        return _open_sqlite(parsed, connections_max)
    if dialect == "postgresql" and driver in {"", "psycopg"}:
        return _open_postgresql(parsed, password, connections_max)
    raise DatabaseError(f"{parsed.drivername} is not known: use sqlite:///FILE or postgresql://user@host/name")


def is_sqlite(engine: Engine) -> bool:
    """Whether there can be one writer only."""
    return engine.dialect.name == "sqlite"


def reading(engine: Engine) -> Engine:
    """The same database for transactions that only read: they wait for no writer."""
    return engine.execution_options(**{_READS: True})


def migrate(engine: Engine) -> None:
    """Brings the tables up to date. Safe for several processes at once.

    Raises DatabaseError for a ledger of a later version, and SQLAlchemy's errors when the database is away.
    """
    if is_sqlite(engine):
        _prepare_sqlite(engine)
    with engine.begin() as connection:
        if not is_sqlite(engine):  # there the transaction has begun as a writer's, which is a lock already
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        upgrade(connection)


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Applies the migrations up to `revision`, inside the connection's transaction. Raises DatabaseError."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise DatabaseError(f"was written by a later version: {error}") from error


def _open_sqlite(url: URL, connections_max: int) -> Engine:
    if not url.database or url.database == ":memory:":
        raise DatabaseError("needs a file: sqlite:///FILE")
    path = Path(url.database).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        raise DatabaseError(f"{path} cannot be written: {error.strerror}") from error
    engine = create_engine(
        url.set(database=str(path)),
        hide_parameters=True,
        pool_size=connections_max,
        max_overflow=0,
        pool_timeout=1.0,
        insertmanyvalues_page_size=INSERT_ROWS_MAX,
    )

    @event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, record: Any) -> None:
        connection.isolation_level = None  # transactions begin below, not when Python's module sees fit
        for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", "foreign_keys=ON", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        # A writer says so at once: one that reads first and writes later could find that another has come between.
        reads = connection.get_execution_options().get(_READS, False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _prepare_sqlite(engine: Engine) -> None:
    """Readers and the writer do not wait for each other from here on; the file remembers it.

    SQLite does not wait for others with this one statement, so it is tried again.
    """
    raw = engine.raw_connection()
    try:
        for tries_left in reversed(range(BUSY_TIMEOUT_MS // _WAL_PAUSE_MS)):
            try:
                raw.cursor().execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError:
                if not tries_left:
                    raise
                time.sleep(_WAL_PAUSE_MS / 1_000)
    finally:
        raw.close()


def _open_postgresql(url: URL, password: str, connections_max: int) -> Engine:
    if password:
        url = url.set(password=password)
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        hide_parameters=True,
        pool_size=connections_max,
        max_overflow=0,
        pool_timeout=1.0,
        insertmanyvalues_page_size=INSERT_ROWS_MAX,
        pool_pre_ping=True,  # a connection may have died with its server
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "keepalives_idle": 10,
            "tcp_user_timeout": UNACKNOWLEDGED_MS,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={STATEMENT_TIMEOUT_MS}",
            "application_name": "spillway-ledger",
        },
    )
