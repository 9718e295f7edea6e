"""Idempotency keys: which run a key of an owner's stands for, decided by the row's uniqueness alone."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, select

from records.runs import IDEMPOTENCY_MS, Duplicate, IdempotencyKey, Mismatch, NewRun
from records.sql.tables import idempotency as table

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from records.sql.database import Database

_FIND = select(table.c.run_id, table.c.fingerprint).where(
    table.c.owner == bindparam("owner"), table.c.key == bindparam("key")
)
_RELEASE = delete(table).where(
    table.c.owner == bindparam("of"), table.c.key == bindparam("named"), table.c.run_id == bindparam("run")
)


class Idempotency:
    """The rows of `idempotency`, inside the caller's transaction."""

    def __init__(self, database: Database) -> None:
        insert = database.insert(table)
        # One that has expired is taken over as it stands: no sweep has to come first.
        claim = insert.on_conflict_do_update(
            index_elements=[table.c.owner, table.c.key],
            set_={name: insert.excluded[name] for name in ("fingerprint", "run_id", "expires_at_ms")},
            where=table.c.expires_at_ms <= bindparam("now_ms"),
        ).returning(table.c.run_id)
        self._claim = database.prepare(claim, ("owner", "key", "fingerprint", "run_id", "expires_at_ms"))

    def claim(
        self, connection: Connection, run: NewRun, given: IdempotencyKey, key: bytes
    ) -> Duplicate | Mismatch | None:
        """Bind the key (its `key_digest`) to this run; else return the run that it is bound to."""
        row = {
            "owner": run.owner,
            "key": key,
            "fingerprint": given.fingerprint,
            "run_id": run.id,
            "expires_at_ms": run.created_at_ms + IDEMPOTENCY_MS,
            "now_ms": run.created_at_ms,
        }
        while self._claim(connection, row).first() is None:
            found = connection.execute(_FIND, {"owner": run.owner, "key": key}).first()
            if found is not None:
                same = bytes(found.fingerprint) == given.fingerprint
                return Duplicate(found.run_id) if same else Mismatch()
            # Released between the two statements: it is free now.
        return None

    def release(self, connection: Connection, owner: str, key: bytes, run_id: str) -> None:
        """Forget the key of a run that was not accepted after all."""
        connection.execute(_RELEASE, {"of": owner, "named": key, "run": run_id})


def key_digest(key: str) -> bytes:
    """Return the stored form of a key: a digest of fixed size for any text."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
