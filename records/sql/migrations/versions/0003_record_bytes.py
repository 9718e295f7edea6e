"""The stored bytes of each run, and of each key in all."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

#: Bytes counted for rows and indexes in addition to their contents.
_ROW_BYTES = 512
_SIZES = f"""
UPDATE runs SET kept_bytes = {_ROW_BYTES} + length(document) + coalesce(length(request), 0)
    + coalesce((SELECT length(body) FROM requests WHERE requests.run_seq = runs.seq), 0)
    + coalesce((SELECT sum(length(chunk)) FROM events WHERE events.run_seq = runs.seq), 0)
WHERE ended_at_ms IS NOT NULL
"""  # noqa: S608  # a number of this module
_SUMS = """
INSERT INTO record_bytes (owner, bytes)
SELECT owner, sum(kept_bytes) FROM runs WHERE kept_bytes IS NOT NULL GROUP BY owner
"""


def upgrade() -> None:
    """Make the column and the table, and count what is there."""
    op.add_column("runs", sa.Column("kept_bytes", sa.BigInteger))
    op.create_table(
        "record_bytes",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.execute(_SIZES)
    op.execute(_SUMS)
