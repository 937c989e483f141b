"""The tables: decisions and what they are made of, feedback, grades."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _small(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _number(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double(), nullable=nullable)


def _id(table: str) -> tuple[sa.Column[int], sa.PrimaryKeyConstraint]:
    return sa.Column("id", _ID, nullable=False), sa.PrimaryKeyConstraint("id", name=f"pk_{table}")


def _of_decision(table: str) -> tuple[sa.Column[int], sa.ForeignKeyConstraint]:
    key = sa.ForeignKeyConstraint(["decision_id"], ["decisions.id"], name=f"fk_{table}_decision_id", ondelete="CASCADE")
    return sa.Column("decision_id", _ID, nullable=False), key


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name="_".join(("uq", table, *columns)))


def _index(table: str, *columns: str) -> None:
    op.create_index("_".join(("ix", table, *columns)), table, list(columns))


def upgrade() -> None:
    _make_decisions()
    _make_parts()
    _make_feedback()
    _make_grades()


def _make_decisions() -> None:
    op.create_table(
        "decisions",
        *_id("decisions"),
        _text("tenant"),
        _text("request_id"),
        _count("received_at_us"),
        _count("failed_at_us"),
        *map(_text, ("trace_id", "end_user_hash", "user_tier", "endpoint", "tags_json", "namespace", "key_id")),
        *map(_text, ("job_id", "prompt_sha256", "task_type", "complexity", "language")),
        _number("confidence", nullable=True),
        *map(_text, ("classifier_layer", "classifier_version", "cluster", "policy_step", "rule", "arm", "strategy")),
        *map(_text, ("first_tier", "degraded_json", "cache_kind", "cache_entry_key")),
        _number("cache_similarity", nullable=True),
        _text("tier"),
        _text("target"),
        _flag("accepted"),
        _small("status_code"),
        _text("error_reason"),
        _flag("shared"),
        _flag("cost_unknown"),
        _count("cost_nanousd"),
        _count("flagship_cost_nanousd"),
        _text("flagship_target"),
        _small("escalations"),
        _small("fallbacks"),
        _count("latency_us"),
        _text("config_version"),
        _text("record_json"),
        _unique("decisions", "tenant", "request_id", "failed_at_us"),
    )
    _index("decisions", "received_at_us")


def _make_parts() -> None:
    op.create_table(
        "attempts",
        *_id("attempts"),
        *_of_decision("attempts"),
        _small("number"),
        *map(_text, ("tier", "target", "model", "provider", "purpose", "outcome", "error_reason", "finish_reason")),
        *map(_count, ("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens", "cost_nanousd")),
        *map(_count, ("started_after_us", "latency_us")),
        sa.Column("time_to_first_token_us", sa.BigInteger(), nullable=True),
        _unique("attempts", "decision_id", "number"),
    )
    op.create_table(
        "verdicts",
        *_id("verdicts"),
        *_of_decision("verdicts"),
        _small("attempt_number"),
        _small("number"),
        _text("gate"),
        _text("verdict"),
        _number("score", nullable=True),
        _count("cost_nanousd"),
        _count("latency_us"),
        _unique("verdicts", "decision_id", "attempt_number", "number"),
    )
    op.create_table(
        "hops",
        *_id("hops"),
        *_of_decision("hops"),
        _small("number"),
        _text("hop"),
        _count("latency_us"),
        _unique("hops", "decision_id", "number"),
    )


def _make_feedback() -> None:
    op.create_table(
        "feedback",
        *_id("feedback"),
        *map(_text, ("feedback_id", "tenant", "request_id", "kind", "comment")),
        _count("received_at_us"),
        _unique("feedback", "feedback_id"),
    )
    _index("feedback", "tenant", "request_id")


def _make_grades() -> None:
    op.create_table(
        "grades",
        *_id("grades"),
        *map(_text, ("grade_id", "tenant", "request_id", "source", "task_type", "tier", "target", "arm")),
        *map(_text, ("flagship_target", "judge_target")),
        _number("score"),
        _number("flagship_score"),
        _flag("orders_agree"),
        _count("cost_nanousd"),
        _count("graded_at_us"),
        _unique("grades", "grade_id"),
    )
    _index("grades", "tenant", "request_id")
