"""Sessions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_LIVE = sa.text("ended_at_ms IS NULL")
_ENDED = sa.text("ended_at_ms IS NOT NULL")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "sessions",
        sa.Column("seq", _SEQ, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.LargeBinary),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_at_ms", sa.BigInteger),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("facts", sa.LargeBinary, nullable=False),
        sa.Column("instance", sa.Text),
    )
    op.create_index("ix_sessions_id", "sessions", ["id"], unique=True)
    op.create_index("ix_sessions_owner", "sessions", ["owner", "seq"])
    for name, columns, where in (
        ("ix_sessions_live", ["seq"], _LIVE),
        ("ix_sessions_ended", ["ended_at_ms"], _ENDED),
    ):
        op.create_index(name, "sessions", columns, sqlite_where=where, postgresql_where=where)
    op.create_index(
        "ix_sessions_name", "sessions", ["owner", "name"], unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE
    )
