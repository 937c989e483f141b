"""What was spent on comparisons that came to no grade, and on audits, beside the grades."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("grades", sa.Column("outcome", sa.Text(), nullable=False, server_default=sa.text("''")))
