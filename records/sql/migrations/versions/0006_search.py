"""Search for runs of all keys: indexes, metadata, error texts; and usage by day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NOT_SUCCEEDED = "ended_at_ms IS NOT NULL AND status <> 'succeeded'"


def upgrade() -> None:
    """Make the tables and indexes. Runs from before are not found by metadata or error text: to read every
    document would take minutes on a large database, and they are deleted with time.
    """
    op.create_table(
        "run_tags",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        _run(),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_run_tags_run", "run_tags", ["run_seq"])
    op.create_table(
        "run_errors",
        _run(),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("text", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_run_errors_owner", "run_errors", ["owner", "run_seq"])
    op.create_index("ix_runs_language", "runs", ["language", "seq"])
    _by_status("ix_runs_status", ["status", "seq"])
    _by_status("ix_runs_status_language", ["status", "language", "seq"])
    op.create_index("ix_usage_day", "usage", ["day"])


def _run() -> sa.Column[int]:
    return sa.Column(
        "run_seq", _SEQ, sa.ForeignKey("runs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )


def _by_status(name: str, columns: list[str]) -> None:
    where = sa.text(_NOT_SUCCEEDED)
    op.create_index(name, "runs", columns, sqlite_where=where, postgresql_where=where)
