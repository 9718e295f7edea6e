"""The tables, as the code uses them; `migrations/` makes them, and a test holds the two together.

`seq` grows with every row and is the order of every list: two rows are never level, and a page that is read
again after newer rows came is the same. Rows that belong to a run name it by its `seq`, so that they are
added at the end of their table instead of all over it.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    and_,
    literal_column,
)

from records.sql.texts import Opaque, Word

metadata = MetaData()

#: SQLite has the row number itself as key only if the type is spelled INTEGER.
Seq = BigInteger().with_variant(Integer(), "sqlite")


def _of_run(*, nullable: bool) -> Column[int]:
    return Column("run_seq", Seq, ForeignKey("runs.seq", ondelete="CASCADE"), nullable=nullable)


runs = Table(
    "runs",
    metadata,
    Column("seq", Seq, primary_key=True),
    Column("id", Word, nullable=False),
    Column("owner", Word, nullable=False),
    Column("status", Word, nullable=False),
    Column("language", Word, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    Column("period", Word),
    Column("idempotency_key", LargeBinary),
    Column("last_event_seq", Integer, nullable=False),
    # Here while it is small, else in `requests`: a row is rewritten when its run ends.
    Column("request", LargeBinary),
    Column("document_bytes", Integer, nullable=False),
    Column("document", LargeBinary, nullable=False),
    #: Which instance accepted it; None: one of before there were leases, or none at all.
    Column("instance", Word),
    #: Bytes that it takes here with all that is its own; None while it is live.
    Column("kept_bytes", BigInteger),
)
Index("ix_runs_id", runs.c.id, unique=True)
Index("ix_runs_owner", runs.c.owner, runs.c.seq)
Index("ix_runs_owner_status", runs.c.owner, runs.c.status, runs.c.seq)
Index("ix_runs_owner_language", runs.c.owner, runs.c.language, runs.c.seq)
Index("ix_runs_owner_status_language", runs.c.owner, runs.c.status, runs.c.language, runs.c.seq)
_ended = runs.c.ended_at_ms.is_not(None)
Index("ix_runs_ended", runs.c.ended_at_ms, runs.c.seq, sqlite_where=_ended, postgresql_where=_ended)
# Of all keys, for the operator. Only what did not succeed is found by its status: each further index costs the two
# transactions of a run about 15 µs.
Index("ix_runs_language", runs.c.language, runs.c.seq)
#: A query with this condition uses the indexes below; the literal is a part of their definition.
not_succeeded = and_(_ended, runs.c.status != literal_column("'succeeded'"))
for _name, _columns in {
    "ix_runs_status": (runs.c.status, runs.c.seq),
    "ix_runs_status_language": (runs.c.status, runs.c.language, runs.c.seq),
}.items():
    Index(_name, *_columns, sqlite_where=not_succeeded, postgresql_where=not_succeeded)
_live = runs.c.ended_at_ms.is_(None)
Index("ix_runs_live", runs.c.seq, sqlite_where=_live, postgresql_where=_live)

instances = Table(
    "instances",
    metadata,
    Column("id", Word, primary_key=True),
    Column("host", Opaque, nullable=False),
    Column("boot", Word, nullable=False),
    Column("heartbeat_ms", BigInteger, nullable=False),
    #: The queue at the broker by which it shares workers with other instances; None: it is alone.
    Column("queue", Word),
    #: Digests of the keys that sign its links, the newest first, joined by commas.
    Column("signing", Word, nullable=False, server_default=""),
    #: Which start of the instance it is: an earlier one that still lives has lost its lease.
    Column("start", Word, nullable=False, server_default=""),
)
Index("ix_instances_heartbeat", instances.c.heartbeat_ms)

requests = Table(
    "requests",
    metadata,
    Column("run_seq", Seq, ForeignKey("runs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)

run_blobs = Table(
    "run_blobs",
    metadata,
    Column("run_seq", Seq, ForeignKey("runs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("part", Word, primary_key=True),
    Column("area", Word, nullable=False),
    Column("sha256", Word, nullable=False),
    Column("size", BigInteger, nullable=False),
)
Index("ix_run_blobs_blob", run_blobs.c.sha256, run_blobs.c.area)

run_tags = Table(
    "run_tags",
    metadata,
    #: Of a name and a value of the run's metadata; see `search.tags`.
    Column("digest", LargeBinary, primary_key=True),
    Column("run_seq", Seq, ForeignKey("runs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
Index("ix_run_tags_run", run_tags.c.run_seq)

run_errors = Table(
    "run_errors",
    metadata,
    Column("run_seq", Seq, ForeignKey("runs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("owner", Word, nullable=False),
    #: Case-folded, in UTF-8; see `search.folded`.
    Column("text", LargeBinary, nullable=False),
)
Index("ix_run_errors_owner", run_errors.c.owner, run_errors.c.run_seq)

events = Table(
    "events",
    metadata,
    Column("run_seq", Seq, ForeignKey("runs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("last_seq", Integer, primary_key=True, autoincrement=False),
    Column("chunk", LargeBinary, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("owner", Word, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("run_id", Word, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
)
Index("ix_idempotency_expires", idempotency.c.expires_at_ms)

run_counts = Table(
    "run_counts",
    metadata,
    Column("owner", Word, primary_key=True),
    Column("period", Word, primary_key=True),
    Column("runs", Integer, nullable=False),
)

files = Table(
    "files",
    metadata,
    Column("seq", Seq, primary_key=True),
    Column("id", Word, nullable=False),
    Column("owner", Word, nullable=False),
    Column("area", Word, nullable=False),
    _of_run(nullable=True),
    Column("run_id", Word),
    Column("name", Opaque, nullable=False),
    Column("path", Opaque, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Word, nullable=False),
    Column("content_type", Opaque, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger),
    Column("purpose", Opaque),
)
Index("ix_files_id", files.c.id, unique=True)
Index("ix_files_owner", files.c.owner, files.c.seq)
Index("ix_files_owner_area", files.c.owner, files.c.area, files.c.seq)
Index("ix_files_blob", files.c.sha256, files.c.area)
Index("ix_files_run", files.c.run_seq)
_expires = files.c.expires_at_ms.is_not(None)
Index("ix_files_expires", files.c.expires_at_ms, sqlite_where=_expires, postgresql_where=_expires)

unnamed_blobs = Table(
    "unnamed_blobs",
    metadata,
    Column("sha256", Word, primary_key=True),
    Column("area", Word, primary_key=True),
    Column("since_ms", BigInteger, nullable=False),
)
Index("ix_unnamed_blobs_since", unnamed_blobs.c.since_ms)

storage = Table(
    "storage",
    metadata,
    Column("owner", Word, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
)

record_bytes = Table(
    "record_bytes",
    metadata,
    Column("owner", Word, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("seq", Seq, primary_key=True),
    Column("id", Word, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("previous_digest", LargeBinary),
    Column("previous_until_ms", BigInteger),
    Column("prefix", Word, nullable=False),
    Column("label", Opaque, nullable=False),
    Column("plan", Word, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("revoked_at_ms", BigInteger),
)
Index("ix_keys_id", keys.c.id, unique=True)
Index("ix_keys_digest", keys.c.digest, unique=True)
Index("ix_keys_previous_digest", keys.c.previous_digest)

tenants = Table(
    "tenants",
    metadata,
    Column("label", Word, primary_key=True),
    Column("owner", Word, nullable=False),
)
Index("ix_tenants_owner", tenants.c.owner, unique=True)

audit = Table(
    "audit",
    metadata,
    Column("seq", Seq, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", Word, nullable=False),
    Column("action", Word, nullable=False),
    Column("subject", Word, nullable=False),
    Column("detail", LargeBinary, nullable=False),
)
Index("ix_audit_subject", audit.c.subject, audit.c.seq)

sessions = Table(
    "sessions",
    metadata,
    Column("seq", Seq, primary_key=True),
    Column("id", Word, nullable=False),
    Column("owner", Word, nullable=False),
    Column("name", Opaque),
    Column("language", Word, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    Column("document", LargeBinary, nullable=False),
    #: The worker's last report: at its end, and at times before.
    Column("facts", LargeBinary, nullable=False),
    Column("instance", Word),
    Column("external_id", Opaque),
    #: The period in which it was counted as a run.
    Column("period", Word),
    #: Its part of the usage of its key that was added until now.
    Column("counted_ms", BigInteger, nullable=False, default=0),
    Column("counted_cpu_ms", BigInteger, nullable=False, default=0),
    Column("counted_memory_mb_ms", BigInteger, nullable=False, default=0),
    Column("counted_egress_bytes", BigInteger, nullable=False, default=0),
)
Index("ix_sessions_id", sessions.c.id, unique=True)
Index("ix_sessions_owner", sessions.c.owner, sessions.c.seq)
_lives = sessions.c.ended_at_ms.is_(None)
Index(
    "ix_sessions_name", sessions.c.owner, sessions.c.name, unique=True, sqlite_where=_lives, postgresql_where=_lives
)
Index("ix_sessions_live", sessions.c.seq, sqlite_where=_lives, postgresql_where=_lives)
_over = sessions.c.ended_at_ms.is_not(None)
Index("ix_sessions_ended", sessions.c.ended_at_ms, sqlite_where=_over, postgresql_where=_over)

_given = sessions.c.external_id.is_not(None)
Index(
    "ix_sessions_external_id",
    sessions.c.owner,
    sessions.c.external_id,
    unique=True,
    sqlite_where=_given,
    postgresql_where=_given,
)

session_tags = Table(
    "session_tags",
    metadata,
    #: Of a name and a value of the session's metadata; see `search.tags`.
    Column("digest", LargeBinary, primary_key=True),
    Column(
        "session_seq", Seq, ForeignKey("sessions.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False
    ),
    sqlite_with_rowid=False,
)
Index("ix_session_tags_session", session_tags.c.session_seq)

run_external_ids = Table(
    "run_external_ids",
    metadata,
    Column("owner", Word, primary_key=True),
    Column("external_id", Opaque, primary_key=True),
    _of_run(nullable=False),
)
Index("ix_run_external_ids_run", run_external_ids.c.run_seq)

functions = Table(
    "functions",
    metadata,
    Column("seq", Seq, primary_key=True),
    #: Its name; called as the ids of other tables, which pages are walked by.
    Column("id", Word, nullable=False),
    Column("owner", Word, nullable=False),
    #: Never used again, also after all its versions were deleted.
    Column("last_version", Integer, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    #: Not null: it has no versions, and is kept for the number of the last one.
    Column("deleted_at_ms", BigInteger),
)
Index("ix_functions_name", functions.c.owner, functions.c.id, unique=True)

function_versions = Table(
    "function_versions",
    metadata,
    Column("seq", Seq, primary_key=True),
    Column("function_seq", Seq, ForeignKey("functions.seq", ondelete="CASCADE"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("language", Word, nullable=False),
    Column("state", Word, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Column("build_run_id", Word, nullable=False),
    #: Of all that it keeps, blobs as well.
    Column("bytes", BigInteger, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("source", LargeBinary, nullable=False),
    Column("log", LargeBinary, nullable=False),
    Column("layer", Word),
)
Index("ix_function_versions", function_versions.c.function_seq, function_versions.c.version, unique=True)
_builds = function_versions.c.state == literal_column("'building'")
Index("ix_function_versions_building", function_versions.c.seq, sqlite_where=_builds, postgresql_where=_builds)

function_blobs = Table(
    "function_blobs",
    metadata,
    Column(
        "version_seq",
        Seq,
        ForeignKey("function_versions.seq", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("part", Word, primary_key=True),
    Column("area", Word, nullable=False),
    Column("sha256", Word, nullable=False),
    Column("size", BigInteger, nullable=False),
)
Index("ix_function_blobs_blob", function_blobs.c.sha256, function_blobs.c.area)

usage = Table(
    "usage",
    metadata,
    Column("owner", Word, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("language", Word, primary_key=True),
    Column("runs", BigInteger, nullable=False),
    Column("cpu_ms", BigInteger, nullable=False),
    Column("wall_ms", BigInteger, nullable=False),
    Column("memory_mb_ms", BigInteger, nullable=False),
    Column("bytes_in", BigInteger, nullable=False),
    Column("bytes_out", BigInteger, nullable=False),
    Column("sessions", BigInteger, nullable=False, default=0),
    Column("session_ms", BigInteger, nullable=False, default=0),
    Column("session_cpu_ms", BigInteger, nullable=False, default=0),
    Column("session_memory_mb_ms", BigInteger, nullable=False, default=0),
    Column("egress_bytes", BigInteger, nullable=False, default=0),
)
Index("ix_usage_day", usage.c.day)
