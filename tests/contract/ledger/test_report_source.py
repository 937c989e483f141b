"""What a report reads, on SQLite and on PostgreSQL: runs of a request, trials of a rollout, who was graded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.ledger.database import migrate, open_database
from services.ledger.report.source import Source, Window
from services.ledger.rows import decision_rows, grade_row
from services.ledger.store import LedgerStore
from spillway.routing import CacheKind, CacheOutcome
from tests.support.ledger_records import JUDGED, NOW, grade, record, record_pb


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    file = f"sqlite:///{tmp_path}/ledger.sqlite"
    url = file if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))
    engine = open_database(url, connections_max=2)
    migrate(engine)
    yield engine
    engine.dispose()


def test_runs_of_a_request_are_folded_and_hits_have_the_kind_of_work_of_their_prompt(engine: Engine) -> None:
    store = LedgerStore(engine)
    base = record("r").routing
    unjudged = replace(base, classification=None)
    failed = {"status_code": 14, "error_reason": "X", "tier": "", "target": "", "accepted": False}
    hit = {"cache": CacheOutcome(CacheKind.EXACT_HIT, entry_key="k"), "routing": unjudged}
    batch = [
        record_pb("r1", received_at_unix_s=NOW, **failed),
        record_pb("r1", received_at_unix_s=NOW + 1, **failed),
        record_pb("r1", received_at_unix_s=NOW + 2, end_user_hash="ann"),
        record_pb("r2", received_at_unix_s=NOW + 3, **hit),
        record_pb("r3", received_at_unix_s=NOW + 4, prompt_sha256="0" * 64, **hit),
        record_pb("r4", received_at_unix_s=NOW + 5, routing=replace(base, arm="")),
        record_pb("r2", received_at_unix_s=NOW + 6, tenant="globex", routing=unjudged),
    ]
    store.record_decisions([decision_rows(each) for each in batch])
    store.record_grades([grade_row(grade("g1")), grade_row(grade("g2", request_id="r9"))])
    with engine.connect() as connection:
        source = Source(connection, Window(0, NOW + 60))
        assert [row.tried_again for row in source.decided()] == [True, True, *[False] * 5]
        trials = sorted(source.trials(), key=lambda trial: trial.decision_id)
        assert {type(trial.status_code) for trial in trials} == {int}
        found = sorted((bool(trial.tried_again), trial.task_type, trial.end_user_hash) for trial in trials)
        kind = JUDGED.task_type.value
        assert found == sorted(
            [
                *[(True, kind, "")] * 2,
                (False, kind, "ann"),
                (False, kind, ""),  # the hit with a prompt that was judged
                *[(False, "", "")] * 2,  # another prompt, another tenant
            ]
        )
        assert sorted(each.end_user_hash for each in source.graded()) == ["", "ann"]
