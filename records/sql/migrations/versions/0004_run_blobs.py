"""Blobs that runs name: large requests and outputs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table. Existing outputs stay in their rows."""
    op.create_table(
        "run_blobs",
        sa.Column(
            "run_seq", _SEQ, sa.ForeignKey("runs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False
        ),
        sa.Column("part", sa.Text, primary_key=True),
        sa.Column("area", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_run_blobs_blob", "run_blobs", ["sha256", "area"])
