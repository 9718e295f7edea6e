"""The first tables: runs, requests, events, idempotency, counts, files, storage, keys, audit, usage.

A revision is self-contained: later changes of the code's tables must not change its effect.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make them."""
    _runs()
    _of_runs()
    _files()
    _keys()


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("seq", _SEQ, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_at_ms", sa.BigInteger),
        sa.Column("period", sa.Text),
        sa.Column("idempotency_key", sa.LargeBinary),
        sa.Column("last_event_seq", sa.Integer, nullable=False),
        sa.Column("request", sa.LargeBinary),
        sa.Column("document_bytes", sa.Integer, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_runs_id", "runs", ["id"], unique=True)
    op.create_index("ix_runs_owner", "runs", ["owner", "seq"])
    op.create_index("ix_runs_owner_status", "runs", ["owner", "status", "seq"])
    op.create_index("ix_runs_owner_language", "runs", ["owner", "language", "seq"])
    op.create_index("ix_runs_owner_status_language", "runs", ["owner", "status", "language", "seq"])
    _partial("ix_runs_ended", "runs", ["ended_at_ms", "seq"], "ended_at_ms IS NOT NULL")
    _partial("ix_runs_live", "runs", ["seq"], "ended_at_ms IS NULL")


def _of_runs() -> None:
    op.create_table(
        "requests",
        sa.Column(
            "run_seq", _SEQ, sa.ForeignKey("runs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False
        ),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column(
            "run_seq", _SEQ, sa.ForeignKey("runs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False
        ),
        sa.Column("last_seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("chunk", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "idempotency",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_idempotency_expires", "idempotency", ["expires_at_ms"])
    op.create_table(
        "run_counts",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("period", sa.Text, primary_key=True),
        sa.Column("runs", sa.Integer, nullable=False),
    )
    op.create_table(
        "usage",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("language", sa.Text, primary_key=True),
        sa.Column("runs", sa.BigInteger, nullable=False),
        sa.Column("cpu_ms", sa.BigInteger, nullable=False),
        sa.Column("wall_ms", sa.BigInteger, nullable=False),
        sa.Column("memory_mb_ms", sa.BigInteger, nullable=False),
        sa.Column("bytes_in", sa.BigInteger, nullable=False),
        sa.Column("bytes_out", sa.BigInteger, nullable=False),
    )


def _files() -> None:
    op.create_table(
        "files",
        sa.Column("seq", _SEQ, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("area", sa.Text, nullable=False),
        sa.Column("run_seq", _SEQ, sa.ForeignKey("runs.seq", ondelete="CASCADE")),
        sa.Column("run_id", sa.Text),
        sa.Column("name", sa.LargeBinary, nullable=False),
        sa.Column("path", sa.LargeBinary, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("content_type", sa.LargeBinary, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger),
        sa.Column("purpose", sa.LargeBinary),
    )
    op.create_index("ix_files_id", "files", ["id"], unique=True)
    op.create_index("ix_files_owner", "files", ["owner", "seq"])
    op.create_index("ix_files_owner_area", "files", ["owner", "area", "seq"])
    op.create_index("ix_files_blob", "files", ["sha256", "area"])
    op.create_index("ix_files_run", "files", ["run_seq"])
    _partial("ix_files_expires", "files", ["expires_at_ms"], "expires_at_ms IS NOT NULL")
    op.create_table(
        "unnamed_blobs",
        sa.Column("sha256", sa.Text, primary_key=True),
        sa.Column("area", sa.Text, primary_key=True),
        sa.Column("since_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_unnamed_blobs_since", "unnamed_blobs", ["since_ms"])
    op.create_table(
        "storage",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )


def _keys() -> None:
    op.create_table(
        "keys",
        sa.Column("seq", _SEQ, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("previous_digest", sa.LargeBinary),
        sa.Column("previous_until_ms", sa.BigInteger),
        sa.Column("prefix", sa.Text, nullable=False),
        sa.Column("label", sa.LargeBinary, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("revoked_at_ms", sa.BigInteger),
    )
    op.create_index("ix_keys_id", "keys", ["id"], unique=True)
    op.create_index("ix_keys_digest", "keys", ["digest"], unique=True)
    op.create_index("ix_keys_previous_digest", "keys", ["previous_digest"])
    op.create_table(
        "audit",
        sa.Column("seq", _SEQ, primary_key=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_audit_subject", "audit", ["subject", "seq"])


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
