"""How much of a cost only a bound has in it, of calls that nobody counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for table in ("decisions", "attempts"):
        excess = sa.Column("cost_excess_nanousd", sa.BigInteger(), nullable=False, server_default=sa.text("0"))
        op.add_column(table, excess)
