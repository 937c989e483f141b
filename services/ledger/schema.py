"""The ledger's tables, for SQLite and PostgreSQL alike.

Promises: times are whole microseconds since 1970 (`_us`), money is whole nano US dollars, names of enums are the words
of spillway.routing ("semantic_hit"), and an empty text means that there is none. Everything of a decision that reports
need is a column; `record_json` is the whole of it, protobuf's JSON of spillway.v1.DecisionRecord. The tables are made
by `migrations` alone; a test says that they make exactly these.

    decisions ─┬─ attempts ── verdicts      by decision_id, gone with it
               └─ hops
    feedback, grades                        by tenant and request_id: they may come before their decision
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

__all__ = ["TABLES", "AnyText", "attempts", "decisions", "feedback", "grades", "hops", "metadata", "verdicts"]

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_MARK: Final = "\ufffd"


class AnyText(TypeDecorator[str]):
    """Text with any character. PostgreSQL has no U+0000: it is kept as U+FFFD "0", and U+FFFD itself twice."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or ("\0" not in value and _MARK not in value):
            return value
        return value.replace(_MARK, _MARK + _MARK).replace("\0", _MARK + "0")

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or _MARK not in value:
            return value
        return _MARK.join(piece.replace(_MARK + "0", "\0") for piece in value.split(_MARK + _MARK))


# SQLite numbers rows itself only for INTEGER.
_ID: Final = BigInteger().with_variant(Integer(), "sqlite")


def _text(name: str) -> Column[str]:
    return Column(name, AnyText(), nullable=False)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger(), nullable=False)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean(), nullable=False)


def _maybe_number(name: str) -> Column[float]:
    return Column(name, Double(), nullable=True)


def _excess() -> Column[int]:
    """How much of `cost_nanousd` only a bound has in it, of calls that nobody counted."""
    return Column("cost_excess_nanousd", BigInteger(), nullable=False, server_default=text("0"))


def _of(table: str, key: str) -> Column[int]:
    return Column(key, _ID, ForeignKey(f"{table}.id", ondelete="CASCADE"), nullable=False)


decisions: Final = Table(
    "decisions",
    metadata,
    Column("id", _ID, primary_key=True),
    _text("tenant"),
    _text("request_id"),
    _count("received_at_us"),
    _count("failed_at_us"),  # 0: answered; a later answer under the same id: -received_at_us; failed: received_at_us
    _text("trace_id"),
    _text("end_user_hash"),
    _text("user_tier"),
    _text("endpoint"),
    _text("tags_json"),  # a list of texts
    _text("namespace"),
    _text("key_id"),
    _text("job_id"),
    _text("prompt_sha256"),
    _text("task_type"),  # empty: not judged
    _text("complexity"),
    _text("language"),
    _maybe_number("confidence"),
    _text("classifier_layer"),
    _text("classifier_version"),
    _text("cluster"),
    _text("policy_step"),
    _text("rule"),
    _text("arm"),
    _text("strategy"),  # empty: no plan, as for a hit
    _text("first_tier"),  # the plan's first; empty: no plan
    _text("degraded_json"),  # a list of texts
    _text("cache_kind"),
    _text("cache_entry_key"),
    _maybe_number("cache_similarity"),
    _text("tier"),  # that answered, or for a hit had answered; empty: failed
    _text("target"),
    _flag("accepted"),
    Column("status_code", Integer(), nullable=False),
    _text("error_reason"),
    _flag("shared"),
    _flag("cost_unknown"),
    _count("cost_nanousd"),
    _count("flagship_cost_nanousd"),
    _text("flagship_target"),
    Column("escalations", Integer(), nullable=False),
    Column("fallbacks", Integer(), nullable=False),
    _count("latency_us"),
    _text("config_version"),
    _text("record_json"),
    _excess(),
    UniqueConstraint("tenant", "request_id", "failed_at_us"),
    Index(None, "received_at_us"),
)

attempts: Final = Table(
    "attempts",
    metadata,
    Column("id", _ID, primary_key=True),
    _of("decisions", "decision_id"),
    Column("number", Integer(), nullable=False),  # 0 for the first that started
    _text("tier"),
    _text("target"),
    _text("model"),
    _text("provider"),
    _text("purpose"),
    _text("outcome"),
    _text("error_reason"),
    _text("finish_reason"),
    _count("input_tokens"),  # 0 also when the provider said nothing
    _count("output_tokens"),
    _count("cached_input_tokens"),
    _count("reasoning_tokens"),
    _count("cost_nanousd"),
    _count("started_after_us"),
    _count("latency_us"),
    Column("time_to_first_token_us", BigInteger(), nullable=True),
    _excess(),
    UniqueConstraint("decision_id", "number"),
)

verdicts: Final = Table(
    "verdicts",
    metadata,
    Column("id", _ID, primary_key=True),
    _of("decisions", "decision_id"),
    Column("attempt_number", Integer(), nullable=False),  # attempts.number
    Column("number", Integer(), nullable=False),
    _text("gate"),
    _text("verdict"),
    _maybe_number("score"),
    _count("cost_nanousd"),
    _count("latency_us"),
    UniqueConstraint("decision_id", "attempt_number", "number"),
)

hops: Final = Table(
    "hops",
    metadata,
    Column("id", _ID, primary_key=True),
    _of("decisions", "decision_id"),
    Column("number", Integer(), nullable=False),
    _text("hop"),
    _count("latency_us"),
    UniqueConstraint("decision_id", "number"),
)

feedback: Final = Table(
    "feedback",
    metadata,
    Column("id", _ID, primary_key=True),
    _text("feedback_id"),
    _text("tenant"),
    _text("request_id"),
    _text("kind"),
    _text("comment"),
    _count("received_at_us"),
    UniqueConstraint("feedback_id"),
    Index(None, "tenant", "request_id"),
    Index(None, "received_at_us"),
)

grades: Final = Table(
    "grades",
    metadata,
    Column("id", _ID, primary_key=True),
    _text("grade_id"),
    _text("tenant"),
    _text("request_id"),
    _text("source"),
    _text("task_type"),
    _text("tier"),
    _text("target"),
    _text("arm"),
    _text("flagship_target"),
    _text("judge_target"),
    Column("score", Double(), nullable=False),
    Column("flagship_score", Double(), nullable=False),
    _flag("orders_agree"),
    _count("cost_nanousd"),
    _count("graded_at_us"),
    Column("outcome", AnyText(), nullable=False, server_default=text("''")),  # empty: a grade; else cost alone
    UniqueConstraint("grade_id"),
    Index(None, "tenant", "request_id"),
    Index(None, "graded_at_us"),
)

TABLES: Final = (decisions, attempts, verdicts, hops, feedback, grades)
"""Parents first."""
