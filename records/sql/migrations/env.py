"""Alembic's entry point: runs the revisions on the connection it is handed, inside its transaction."""

from __future__ import annotations

from alembic import context

from records.sql.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # Both databases roll back DDL: a migration that fails half-way leaves nothing.
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
