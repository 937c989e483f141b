"""Run by alembic, and by nothing else: applies the migrations to the connection that `database.migrate` hands over.

Promises: all of them happen in that connection's transaction, or none does.
"""

from __future__ import annotations

from alembic import context

from services.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
