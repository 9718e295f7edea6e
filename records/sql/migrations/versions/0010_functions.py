"""Functions: names with the number of their last version, versions, and the blobs that these name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "functions",
        sa.Column("seq", _SEQ, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("last_version", sa.Integer, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("deleted_at_ms", sa.BigInteger),
    )
    op.create_index("ix_functions_name", "functions", ["owner", "id"], unique=True)
    op.create_table(
        "function_versions",
        sa.Column("seq", _SEQ, primary_key=True),
        sa.Column("function_seq", _SEQ, sa.ForeignKey("functions.seq", ondelete="CASCADE"), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger, nullable=False),
        sa.Column("build_run_id", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("source", sa.LargeBinary, nullable=False),
        sa.Column("log", sa.LargeBinary, nullable=False),
        sa.Column("layer", sa.Text),
    )
    op.create_index("ix_function_versions", "function_versions", ["function_seq", "version"], unique=True)
    building = sa.text("state = 'building'")
    op.create_index(
        "ix_function_versions_building",
        "function_versions",
        ["seq"],
        sqlite_where=building,
        postgresql_where=building,
    )
    op.create_table(
        "function_blobs",
        sa.Column(
            "version_seq",
            _SEQ,
            sa.ForeignKey("function_versions.seq", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("part", sa.Text, primary_key=True),
        sa.Column("area", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_function_blobs_blob", "function_blobs", ["sha256", "area"])
