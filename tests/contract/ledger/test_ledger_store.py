"""The ledger's store on SQLite and on PostgreSQL: one suite for both."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, func, inspect, select, text

from services.ledger.database import DatabaseError, migrate, open_database, upgrade
from services.ledger.report.source import Source, Window
from services.ledger.rows import DecisionRows, Row, decision_rows, feedback_row, grade_row, record_from_json, to_us
from services.ledger.schema import TABLES, attempts, decisions, feedback, grades, hops, metadata, verdicts
from services.ledger.store import ABOUT_MAX, ANSWERS_APART_S, LedgerStore
from spillway.routing import CacheKind, CacheOutcome, Feedback, FeedbackKind, GradeSource, TaskType
from tests.support.ledger_records import NOW, grade, record_pb
from tests.support.processes import wait_until

DAY_S = 86_400.0


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.sqlite"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_database(url, connections_max=4)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> LedgerStore:
    migrate(engine)
    return LedgerStore(engine)


def rows(request_id: str, **fields: object) -> DecisionRows:
    return decision_rows(record_pb(request_id, **fields))


def said(feedback_id: str, kind: FeedbackKind, request_id: str = "r1", at: float = NOW) -> dict[str, object]:
    return feedback_row(Feedback(request_id, "acme", kind, "hm"), feedback_id, at)


def counts(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one() for table in TABLES
        }


def test_the_migrations_make_exactly_the_schema(engine: Engine) -> None:
    migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        looked = inspect(connection)
        for table in TABLES:  # what the comparison does not look at
            assert {each["name"]: each["nullable"] for each in looked.get_columns(table.name)} == {
                column.name: column.nullable for column in table.columns
            }
            assert all(key["options"] == {"ondelete": "CASCADE"} for key in looked.get_foreign_keys(table.name))


def without(row: Row, column: str) -> Row:
    """As a version wrote it that did not have the column."""
    return {name: value for name, value in row.items() if name != column}


def test_an_older_ledger_keeps_what_it_holds(engine: Engine) -> None:
    with engine.begin() as connection:
        upgrade(connection, "0001")
    old = LedgerStore(engine)
    whole = rows("r1")
    calls = tuple(without(each, "cost_excess_nanousd") for each in whole.attempts)
    old.record_decisions([replace(whole, decision=without(whole.decision, "cost_excess_nanousd"), attempts=calls)])
    old.record_grades([without(grade_row(grade("g1")), "outcome")])
    old.record_feedback(said("f1", FeedbackKind.THUMBS_UP))
    before = counts(engine)
    migrate(engine)
    assert counts(engine) == before
    found = LedgerStore(engine).decision("acme", "r1")
    assert found is not None
    assert (len(found.feedback), len(found.grades)) == (1, 1)


def test_replicas_that_start_at_once_migrate_once(url: str) -> None:
    together = threading.Barrier(4)

    def begin() -> None:
        engine = open_database(url, connections_max=1)
        together.wait()
        migrate(engine)
        engine.dispose()

    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(begin) for _ in range(4)]:
            each.result()
    engine = open_database(url, connections_max=1)
    assert set(counts(engine).values()) == {0}
    engine.dispose()


def test_a_ledger_of_a_later_version_is_refused_and_left_as_it_is(engine: Engine) -> None:
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match="later version"):
        migrate(engine)


def test_a_migration_that_fails_leaves_nothing_behind(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE grades (id INTEGER)"))
    with pytest.raises(Exception, match="grades"):
        migrate(engine)
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["grades"]


def test_a_record_comes_back_as_it_was_and_in_columns(store: LedgerStore, engine: Engine) -> None:
    given = record_pb("r1", tenant="a\0b\ufffd", end_user_hash="e" * 64)
    assert store.record_decisions([decision_rows(given)]) == 1
    found = store.decision("a\0b\ufffd", "r1")
    assert found is not None
    assert record_from_json(found.record_json) == given
    with engine.connect() as connection:
        decision = connection.execute(select(decisions)).one()
        assert (decision.tenant, decision.received_at_us, decision.task_type) == ("a\0b\ufffd", to_us(NOW), "math")
        assert (decision.first_tier, decision.tier, decision.arm, decision.cluster) == (
            "simple",
            "complex",
            "routed",
            "t-1/7",
        )
        assert (decision.accepted, decision.shared, decision.cost_nanousd) == (True, False, 4_300)
        assert decision.tags_json == '["a", "ü"]'
        first, second = connection.execute(select(attempts).order_by(attempts.c.number))
        assert (first.outcome, first.input_tokens, first.time_to_first_token_us) == ("rejected", 20, 125_000)
        assert (second.outcome, second.input_tokens, second.time_to_first_token_us) == ("accepted", 0, None)
        assert first.decision_id == second.decision_id == decision.id
        gates = connection.execute(select(verdicts.c.gate, verdicts.c.verdict, verdicts.c.score)).all()
        assert gates == [("schema", "fail", None), ("composite", "fail", 0.25)]
        assert connection.execute(select(hops.c.hop, hops.c.latency_us)).all() == [
            ("classifier", 10_000),
            ("executor", 400_000),
        ]


def test_of_a_tenants_request_id_the_first_record_stays(store: LedgerStore, engine: Engine) -> None:
    assert store.record_decisions([rows("r1", endpoint="first"), rows("r1", endpoint="twin"), rows("r2")]) == 2
    once = counts(engine)
    again = [rows("r1", endpoint="later"), rows("r3"), rows("r1", tenant="other")]
    assert store.record_decisions(again) == 2
    found = store.decision("acme", "r1")
    assert found is not None
    assert record_from_json(found.record_json).endpoint == "first"
    assert counts(engine) == {
        name: once[name] // 2 * 4 if name in {"decisions", "attempts", "verdicts", "hops"} else 0 for name in once
    }


def test_runs_that_failed_are_kept_beside_the_answer_of_their_request_id(store: LedgerStore, engine: Engine) -> None:
    failed = [rows("r1", status_code=14, endpoint=f"try {n}", received_at_unix_s=NOW + n) for n in (1, 2)]
    assert store.record_decisions([*failed, failed[0]]) == 2
    found = store.decision("acme", "r1")
    assert found is not None
    assert record_from_json(found.record_json).endpoint == "try 2"
    assert store.record_decisions([*failed, rows("r1", endpoint="answered")]) == 1
    again = store.record_feedback(said("f1", FeedbackKind.THUMBS_UP))
    assert again is not None
    assert record_from_json(again).endpoint == "answered"
    assert counts(engine)["decisions"] == 3


def test_a_thousand_records_are_one_batch(store: LedgerStore, engine: Engine) -> None:
    assert store.record_decisions([rows(f"r{number}") for number in range(1_000)]) == 1_000
    assert counts(engine)["attempts"] == 2_000


def test_batches_of_the_same_records_count_each_once(store: LedgerStore, engine: Engine) -> None:
    batch = [rows(f"r{number}") for number in range(60)]
    with ThreadPoolExecutor(4) as pool:
        new = list(pool.map(store.record_decisions, [batch, batch[::-1], batch[30:] + batch[:30], batch]))
    assert sum(new) == 60
    assert counts(engine)["attempts"] == 120


def test_batches_that_share_records_in_another_order_do_not_wait_for_each_other(postgres_url: str) -> None:
    engine = open_database(postgres_url, connections_max=4)
    migrate(engine)
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    with ThreadPoolExecutor(1) as pool, engine.connect() as watcher:
        with engine.begin() as other:
            other.execute(decisions.insert(), [rows("a").decision])
            writing = pool.submit(LedgerStore(engine).record_decisions, [rows("z"), rows("a")])
            wait_until(lambda: watcher.execute(waiting).scalar_one(), what="the store waits for the other's a")
            other.execute(decisions.insert(), [rows("z").decision])  # which the store must not have written before
        assert writing.result() == 0
    engine.dispose()


def test_nothing_of_another_tenant_is_found(store: LedgerStore) -> None:
    store.record_decisions([rows("r1")])
    store.record_grades([grade_row(grade("g1", tenant="other"))])
    assert store.decision("other", "r1") is None
    assert store.decision("", "r1") is None
    found = store.decision("acme", "r1")
    assert found is not None
    assert found.grades == ()


@pytest.mark.parametrize("first", ["feedback", "decision"])
def test_feedback_and_its_decision_may_come_in_any_order(store: LedgerStore, first: str) -> None:
    if first == "decision":
        store.record_decisions([rows("r1")])
    told = store.record_feedback(said("f1", FeedbackKind.THUMBS_DOWN))
    assert (told is None) == (first == "feedback")
    store.record_decisions([rows("r1")])
    again = store.record_feedback(said("f1", FeedbackKind.THUMBS_DOWN))
    assert again is not None
    assert record_from_json(again).request_id == "r1"
    found = store.decision("acme", "r1")
    assert found is not None
    assert [row["kind"] for row in found.feedback] == ["thumbs_down"]


def test_what_is_known_about_a_decision_comes_oldest_first_and_no_more_than_a_hundred(store: LedgerStore) -> None:
    store.record_decisions([rows("r1")])
    for number in range(ABOUT_MAX + 5):
        store.record_feedback(said(f"f{number}", FeedbackKind.EDITED, at=NOW - number))
    store.record_grades([grade_row(grade(f"g{number}", graded_at_unix_s=NOW - number)) for number in range(110)])
    found = store.decision("acme", "r1")
    assert found is not None
    assert [row["feedback_id"] for row in found.feedback] == [f"f{n}" for n in range(ABOUT_MAX + 4, 4, -1)]
    assert [row["grade_id"] for row in found.grades] == [f"g{n}" for n in range(109, 9, -1)]


def test_grades_are_kept_once(store: LedgerStore, engine: Engine) -> None:
    given = [grade_row(grade("g1")), grade_row(grade("g1", score=0.0)), grade_row(grade("g2"))]
    store.record_grades(given)
    store.record_grades(given)
    with engine.connect() as connection:
        assert connection.execute(select(grades.c.grade_id, grades.c.score).order_by(grades.c.grade_id)).all() == [
            ("g1", 0.75),
            ("g2", 0.75),
        ]


def test_quality_is_of_each_target_and_kind_of_work_in_the_window(store: LedgerStore) -> None:
    store.record_grades(
        [
            grade_row(grade("g1", score=1.0)),
            grade_row(grade("g2", score=0.5, flagship_score=0.5)),
            grade_row(grade("g3", task_type=TaskType.CODE, score=0.25)),
            grade_row(grade("old", score=0.0, graded_at_unix_s=NOW - 40 * DAY_S)),
        ]
    )
    code, maths = store.measure_quality(to_us(NOW - 30 * DAY_S))
    assert (maths.target, maths.task_type, maths.grades) == ("small-1", TaskType.MATH, 2)
    assert (maths.mean, maths.flagship_mean) == (0.75, 0.75)
    assert (code.task_type, code.grades, code.mean, code.ratio_lower) == (TaskType.CODE, 1, 0.25, 0.0)


def test_quality_beside_one_flagship_by_one_judge_leaves_out_what_others_were_held_against(store: LedgerStore) -> None:
    store.record_grades(
        [
            *(grade_row(grade(f"former{n}", flagship_target="weak", score=0.6, flagship_score=0.6)) for n in range(9)),
            grade_row(grade("now", score=0.5)),
            grade_row(grade("other", judge_target="mild", score=1.0)),
            grade_row(grade("known", judge_target="", score=0.25)),
        ]
    )
    (all_of_them,) = store.measure_quality(0)
    (now,) = store.measure_quality(0, flagship_target="large-1", judge_target="large-1")
    (former,) = store.measure_quality(0, flagship_target="weak")
    assert [found.grades for found in (all_of_them, now, former)] == [12, 2, 9]
    assert (now.mean, now.flagship_mean) == (0.375, 1.0)
    assert store.measure_quality(0, flagship_target="new") == ()


def test_what_came_to_no_grade_is_kept_with_its_cost_and_says_nothing_of_quality(
    store: LedgerStore, engine: Engine
) -> None:
    unread = grade("unread", outcome="judge_unreadable", score=0.0, flagship_score=0.0, cost_nanousd=30)
    audit = grade("audit", source=GradeSource.AUDIT, outcome="wrong", score=0.0, flagship_score=0.0, cost_nanousd=5)
    store.record_grades([grade_row(each) for each in (grade("g1"), unread, audit, replace(audit, grade_id="b"))])
    (quality,) = store.measure_quality(0)
    assert (quality.grades, quality.mean) == (1, 0.75)
    with engine.connect() as connection:
        source = Source(connection, Window(0, NOW + 1))
        assert [each.cost_nanousd for each in source.graded()] == [7]
        assert sorted(source.ungraded_costs()) == [("audit", "wrong", 10), ("canary", "judge_unreadable", 30)]


def test_thumbs_count_once_for_a_request_and_not_for_what_was_found_by_meaning(store: LedgerStore) -> None:
    found = CacheOutcome(CacheKind.SEMANTIC_HIT, entry_key="k")
    store.record_decisions([rows("r1"), rows("r2"), rows("hit", cache=found), rows("raw", judged=None)])
    for number, (request_id, kind) in enumerate(
        [
            ("r1", FeedbackKind.THUMBS_UP),
            ("r1", FeedbackKind.ACCEPTED),
            ("r1", FeedbackKind.EDITED),
            ("r2", FeedbackKind.THUMBS_DOWN),
            ("r2", FeedbackKind.COMPLAINT),
            ("r1", FeedbackKind.REGENERATED),
            ("hit", FeedbackKind.THUMBS_DOWN),
            ("raw", FeedbackKind.THUMBS_DOWN),
            ("unknown", FeedbackKind.THUMBS_DOWN),
        ]
    ):
        store.record_feedback(said(f"f{number}", kind, request_id))
    (quality,) = store.measure_quality(0)
    assert (quality.target, quality.task_type, quality.grades) == ("large-1", TaskType.MATH, 0)
    assert (quality.liked, quality.disliked, quality.ratio_lower) == (1, 2, 0.0)
    assert store.measure_quality(to_us(NOW + 1)) == ()


def test_what_is_too_old_goes_in_small_steps_with_all_about_it(store: LedgerStore, engine: Engine) -> None:
    old, new = NOW - 100 * DAY_S, NOW
    store.record_decisions([rows(f"old{number}", received_at_unix_s=old) for number in range(5)] + [rows("r1")])
    store.record_feedback(said("late", FeedbackKind.THUMBS_UP, "old0", at=new))
    store.record_feedback(said("stray", FeedbackKind.THUMBS_UP, "nobody", at=old))
    store.record_feedback(said("stays", FeedbackKind.THUMBS_UP, "r1", at=new))
    store.record_grades([grade_row(grade("old", request_id="old1")), grade_row(grade("stays"))])
    store.record_grades([grade_row(grade("stray", request_id="nobody", graded_at_unix_s=old))])
    steps = []
    while deleted := store.delete_before(to_us(NOW - 90 * DAY_S), 2):
        steps.append(deleted)
    assert steps == [2, 2, 1, 2]
    assert counts(engine) == {"decisions": 1, "attempts": 2, "verdicts": 2, "hops": 2, "feedback": 1, "grades": 1}
    with engine.connect() as connection:
        assert connection.execute(select(feedback.c.feedback_id)).scalar_one() == "stays"


def test_a_batch_with_a_part_that_cannot_be_written_leaves_nothing(store: LedgerStore, engine: Engine) -> None:
    good, bad = rows("r1"), rows("r2")
    broken = replace(bad, hops=({"number": 0, "hop": None, "latency_us": 1},))
    with pytest.raises(Exception, match="hop"):
        store.record_decisions([good, broken])
    assert set(counts(engine).values()) == {0}


def later(request_id: str, after_s: float, **fields: object) -> DecisionRows:
    given = record_pb(request_id, **fields)
    given.received_at.seconds += int(after_s)
    return decision_rows(given)


def costs(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.execute(select(decisions.c.cost_nanousd).order_by(decisions.c.received_at_us)).scalars())


@pytest.mark.parametrize("together", [False, True])
def test_an_id_that_is_used_again_after_its_window_is_a_request_of_its_own(
    store: LedgerStore, engine: Engine, together: bool
) -> None:
    batch = [rows("r1"), later("r1", ANSWERS_APART_S / 2), later("r1", 2 * ANSWERS_APART_S)]
    for part in [batch] if together else [[each] for each in batch]:
        store.record_decisions(part)
    spent = costs(engine)
    assert len(spent) == 2, "the one within the window is a repetition"
    before = counts(engine)
    for again in (batch, batch[::-1]):
        assert store.record_decisions(again) == 0, "what is sent again is there already"
    assert counts(engine) == before
    assert before["attempts"] == 2 * len(batch[0].attempts)
    found = store.decision("acme", "r1")
    assert found is not None
    assert record_from_json(found.record_json).received_at.seconds == int(NOW + 2 * ANSWERS_APART_S)


def test_a_job_is_one_request_however_late_its_answer_is_told_again(store: LedgerStore) -> None:
    assert store.record_decisions([rows("job_1", job_id="job_1")]) == 1
    assert store.record_decisions([later("job_1", 20 * ANSWERS_APART_S, job_id="job_1")]) == 0
