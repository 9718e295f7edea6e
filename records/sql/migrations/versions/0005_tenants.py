"""Labels of static keys and the owners of their rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table. Owners stay as they are: a label is mapped to the owner that it had."""
    op.create_table(
        "tenants",
        sa.Column("label", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
    )
    op.create_index("ix_tenants_owner", "tenants", ["owner"], unique=True)
