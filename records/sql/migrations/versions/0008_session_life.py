"""The life of sessions: names of the client's own, what they are found by, and what they used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_GIVEN = sa.text("external_id IS NOT NULL")


def upgrade() -> None:
    """Add the columns and make the tables."""
    op.add_column("sessions", sa.Column("external_id", sa.LargeBinary))
    op.add_column("sessions", sa.Column("period", sa.Text))
    for name in ("counted_ms", "counted_cpu_ms"):
        op.add_column("sessions", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.create_index(
        "ix_sessions_external_id",
        "sessions",
        ["owner", "external_id"],
        unique=True,
        sqlite_where=_GIVEN,
        postgresql_where=_GIVEN,
    )
    op.create_table(
        "session_tags",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column(
            "session_seq",
            _SEQ,
            sa.ForeignKey("sessions.seq", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_session_tags_session", "session_tags", ["session_seq"])
    op.create_table(
        "run_external_ids",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("external_id", sa.LargeBinary, primary_key=True),
        sa.Column("run_seq", _SEQ, sa.ForeignKey("runs.seq", ondelete="CASCADE"), nullable=False),
    )
    op.create_index("ix_run_external_ids_run", "run_external_ids", ["run_seq"])
    for name in ("sessions", "session_ms", "session_cpu_ms"):
        op.add_column("usage", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
