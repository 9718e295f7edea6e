"""Leases of instances, and which instance accepted a run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table and the column. Runs from before belong to no instance: any may recover them."""
    op.create_table(
        "instances",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("host", sa.LargeBinary, nullable=False),
        sa.Column("boot", sa.Text, nullable=False),
        sa.Column("heartbeat_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_instances_heartbeat", "instances", ["heartbeat_ms"])
    op.add_column("runs", sa.Column("instance", sa.Text))
