"""Feedback and grades by time, for measured quality and for what is too old to be kept."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_index("ix_feedback_received_at_us", "feedback", ["received_at_us"])
    op.create_index("ix_grades_graded_at_us", "grades", ["graded_at_us"])
