"""The parts that an instance shares with others, so that several may use one database at a time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the columns. An instance of before shares nothing: it stays alone."""
    op.add_column("instances", sa.Column("queue", sa.Text))
    op.add_column("instances", sa.Column("signing", sa.Text, nullable=False, server_default=""))
    op.add_column("instances", sa.Column("start", sa.Text, nullable=False, server_default=""))
