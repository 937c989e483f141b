"""What the ledger says to its database does not grow with the sizes of batches: prepared statements are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import event

from services.ledger.database import INSERT_ROWS_MAX, migrate, open_database
from services.ledger.rows import decision_rows
from services.ledger.store import LedgerStore
from tests.support.ledger_records import record_pb

TABLES = ("decisions", "attempts", "verdicts", "hops")
SIZES = range(1, 3 * INSERT_ROWS_MAX)


def test_batches_of_any_size_are_a_few_statements(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/ledger.sqlite", connections_max=2)
    migrate(engine)
    said: set[str] = set()

    @event.listens_for(engine, "before_cursor_execute")
    def noted(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        said.add(statement)

    store = LedgerStore(engine)
    for size in SIZES:
        rows = [decision_rows(record_pb(f"{size}-{number}")) for number in range(size)]
        assert store.record_decisions(rows) == size
    engine.dispose()
    assert len(said) <= INSERT_ROWS_MAX + len(TABLES)
    assert max(map(len, said)) < 20_000
