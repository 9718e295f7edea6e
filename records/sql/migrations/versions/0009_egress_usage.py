"""Usage: bytes to and from other machines, and the memory of sessions by its time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_ADDED = {
    "usage": ("session_memory_mb_ms", "egress_bytes"),
    "sessions": ("counted_memory_mb_ms", "counted_egress_bytes"),
}


def upgrade() -> None:
    """Add the columns."""
    for table, names in _ADDED.items():
        for name in names:
            op.add_column(table, sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
