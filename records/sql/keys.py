"""Stored keys and the audit trail."""

from __future__ import annotations

import hmac
import json
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, insert, or_, select, update

from records.errors import UnknownCursor
from records.keys import Actor, AuditEntry, NewKey, StoredKey
from records.page import RecordPage
from records.sql.paging import walk
from records.sql.tables import audit
from records.sql.tables import keys as table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from sqlalchemy import Connection, Executable

    from records.page import Order
    from records.sql.database import Database

_COLUMNS = (
    table.c.id, table.c.prefix, table.c.plan, table.c.label, table.c.disabled, table.c.created_at_ms,
    table.c.revoked_at_ms, table.c.previous_until_ms,
)  # fmt: skip
_NOT_REVOKED = table.c.revoked_at_ms.is_(None)
_BY_ID = select(*_COLUMNS).where(table.c.id == bindparam("key_id"))
_BY_DIGEST = select(*_COLUMNS, table.c.digest, table.c.previous_digest).where(
    _NOT_REVOKED,
    or_(
        table.c.digest == bindparam("digest"),
        and_(table.c.previous_digest == bindparam("digest"), table.c.previous_until_ms > bindparam("now_ms")),
    ),
)
_CHANGE = update(table).where(table.c.id == bindparam("key_id"), _NOT_REVOKED).returning(*_COLUMNS)
_ROTATE = _CHANGE.values(
    previous_digest=table.c.digest,
    digest=bindparam("new_digest"),
    prefix=bindparam("new_prefix"),
    previous_until_ms=bindparam("until_ms"),
)
_ROTATE_CURRENT = _ROTATE.where(table.c.digest == bindparam("current"))
_INSERT = insert(table)
_NOTE = insert(audit)
_LARGEST_SEQ = 2**63 - 1
#: Values of one IN (…): far below what either database takes.
_LABELS_AT_MOST = 500


class SqlKeys:
    """`KeyStore`."""

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock
        self._by_digest = database.prepare(_BY_DIGEST)

    def create(self, key: NewKey, actor: Actor) -> StoredKey:
        """See `KeyStore.create`."""
        self.create_many([key], actor)
        return StoredKey(key.id, key.prefix, key.plan, key.label, False, key.created_at_ms, None, None)

    def create_many(self, keys: Sequence[NewKey], actor: Actor) -> None:
        """See `KeyStore.create_many`."""
        rows = [
            {
                "id": key.id,
                "digest": key.digest,
                "prefix": key.prefix,
                "label": key.label,
                "plan": key.plan,
                "disabled": False,
                "created_at_ms": key.created_at_ms,
            }
            for key in keys
        ]
        notes = [_note(actor, "key.create", key.id, {"plan": key.plan, "prefix": key.prefix}) for key in keys]

        def work(connection: Connection) -> None:
            connection.execute(_INSERT, rows)
            connection.execute(_NOTE, notes)

        if rows:
            self._database.write(work)

    def labels(self, key_ids: Collection[str]) -> dict[str, str]:
        """See `KeyStore.labels`."""
        found: dict[str, str] = {}
        given = sorted(key_ids)
        for start in range(0, len(given), _LABELS_AT_MOST):
            statement = select(table.c.id, table.c.label).where(
                table.c.id.in_(given[start : start + _LABELS_AT_MOST])
            )
            rows: Sequence[Any] = self._database.read(partial(_all, statement))
            found.update((row.id, row.label) for row in rows)
        return found

    def find(self, digest: bytes) -> StoredKey | None:
        """See `KeyStore.find`."""
        asked = {"digest": digest, "now_ms": self._clock()}
        row: Any = self._database.read(lambda connection: self._by_digest(connection, asked).first())
        if row is None:
            return None
        # The row that the index found is compared once more, in constant time.
        *known, current, previous = row
        good = [hmac.compare_digest(bytes(kept), digest) for kept in (current, previous or b"")]
        return _key_as_it_comes(known) if any(good) else None

    def get(self, key_id: str) -> StoredKey | None:
        """See `KeyStore.get`."""
        row = self._database.read(lambda connection: connection.execute(_BY_ID, {"key_id": key_id}).first())
        return None if row is None else StoredKey(*row)

    def list(self, *, limit: int, after: str | None = None, order: Order = "desc") -> RecordPage[StoredKey]:
        """See `KeyStore.list`."""

        def work(connection: Connection) -> Sequence[Any]:
            statement = select(*_COLUMNS).limit(limit + 1)
            statement = walk(connection, statement, table, within=(), after=after, order=order)
            return connection.execute(statement).all()

        rows = self._database.read(work)
        return RecordPage(tuple(StoredKey(*row) for row in rows[:limit]), has_more=len(rows) > limit)

    def update(
        self, key_id: str, actor: Actor, *, plan: str | None = None, disabled: bool | None = None
    ) -> StoredKey | None:
        """See `KeyStore.update`."""
        given = {"plan": plan, "disabled": disabled}
        values = {name: value for name, value in given.items() if value is not None}
        return (
            self._change(_CHANGE.values(values), key_id, actor, "key.update", values)
            if values
            else self.get(key_id)
        )

    def rotate(
        self,
        key_id: str,
        actor: Actor,
        *,
        digest: bytes,
        prefix: str,
        previous_until_ms: int,
        current: bytes | None = None,
    ) -> StoredKey | None:
        """See `KeyStore.rotate`."""
        values: dict[str, Any] = {"new_digest": digest, "new_prefix": prefix, "until_ms": previous_until_ms}
        detail = {"prefix": prefix, "previous_until_ms": previous_until_ms}
        statement = _ROTATE
        if current is not None:
            statement, values = _ROTATE_CURRENT, values | {"current": current}
        return self._change(statement, key_id, actor, "key.rotate", detail, values)

    def revoke(self, key_id: str, actor: Actor) -> bool:
        """See `KeyStore.revoke`."""
        statement = _CHANGE.values(revoked_at_ms=actor.at_ms, previous_digest=None, previous_until_ms=None)
        return self._change(statement, key_id, actor, "key.revoke", {}) is not None

    def audit(self, *, limit: int, after: str | None = None, subject: str | None = None) -> RecordPage[AuditEntry]:
        """See `KeyStore.audit`."""
        statement = select(audit).order_by(audit.c.seq.desc()).limit(limit + 1)
        if after is not None:
            statement = statement.where(audit.c.seq < _audit_seq(after))
        if subject is not None:
            statement = statement.where(audit.c.subject == subject)
        rows = self._database.read(lambda connection: connection.execute(statement).all())
        entries = (
            AuditEntry(str(row.seq), row.at_ms, row.actor, row.action, row.subject, bytes(row.detail))
            for row in rows[:limit]
        )
        return RecordPage(tuple(entries), has_more=len(rows) > limit)

    def _change(
        self,
        statement: Any,  # noqa: ANN401  # an UPDATE with RETURNING; its type is not public
        key_id: str,
        actor: Actor,
        action: str,
        detail: dict[str, Any],
        values: dict[str, Any] | None = None,
    ) -> StoredKey | None:
        def work(connection: Connection) -> Any:  # noqa: ANN401  # a row of _COLUMNS
            row = connection.execute(statement, {"key_id": key_id, **(values or {})}).first()
            if row is not None:
                connection.execute(_NOTE, _note(actor, action, key_id, detail))
            return row

        row = self._database.write(work)
        return None if row is None else StoredKey(*row)


def _key_as_it_comes(row: list[Any]) -> StoredKey:
    """Convert a row of _COLUMNS as the driver returns it: statements compiled in advance know no column types."""
    key_id, prefix, plan, label, disabled, *rest = row
    return StoredKey(key_id, prefix, plan, bytes(label).decode("utf-8", "surrogatepass"), bool(disabled), *rest)


def _all(statement: Executable, connection: Connection) -> Sequence[Any]:
    return connection.execute(statement).all()


def _note(actor: Actor, action: str, subject: str, detail: dict[str, Any]) -> dict[str, Any]:
    return {
        "at_ms": actor.at_ms,
        "actor": actor.name,
        "action": action,
        "subject": subject,
        "detail": json.dumps(detail).encode(),
    }


def _audit_seq(after: str) -> int:
    if not (after.isascii() and after.isdigit()) or len(after) > len(str(_LARGEST_SEQ)):
        raise UnknownCursor
    return min(int(after), _LARGEST_SEQ)
