"""Search for runs by what no index of runs finds: a bounded walk along one table, the others asked for each row.

A pair of metadata is kept as a digest, twice: for the owner's searches and for the operator's. So no name or value
is ever part of a statement, both are of one size, and a walk along a digest meets no run that another owner has.
An error text is kept in lower case as bytes, and looked into as bytes: no character of it is a wildcard.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import LargeBinary, bindparam, exists, func, insert, literal, select

from records.errors import UnknownCursor
from records.runs import ERROR_BYTES
from records.sql import listing
from records.sql.tables import run_errors, run_tags
from records.sql.tables import runs as table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Select

    from records.page import Order
    from records.runs import RunFilter
    from records.sql.database import Database

#: Rows of run_tags, run_errors or runs that one page walks along, and runs that it reads to see whether they match:
#: together less than 50 ms (`python -m bench.records`). A row of one owner's errors costs more: its text is looked
#: up.
WALKED, WALKED_OF_OWNER, READ = 15_000, 8_000, 1_500
_BATCH = 500
_DIGEST_BYTES = 16


def tags(owner: str, metadata: Mapping[str, str]) -> Iterator[bytes]:
    """Yield the digests that a run with this metadata is found by."""
    for name, value in metadata.items():
        yield tag(None, name, value)
        yield tag(owner, name, value)


def tag(owner: str | None, name: str, value: str) -> bytes:
    """Return the digest of a pair, among all runs or among those of one owner."""
    parts = [b"" if owner is None else b"of" + _bytes(owner), _bytes(name), _bytes(value)]
    return _digest(*parts)


def _digest(*parts: bytes) -> bytes:
    whole = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return hashlib.blake2b(whole, digest_size=_DIGEST_BYTES).digest()


def marks(
    owner: str, session_id: str | None, external_id: str | None, function: str | None = None
) -> Iterator[bytes]:
    """Yield the digests of what a run belongs to: no pair of metadata has the same."""
    for kind, value in ((b"session", session_id), (b"external", external_id), (b"function", function)):
        if value is not None:
            yield _digest(b"mark", _bytes(owner), kind, _bytes(value))


def folded(text: str) -> bytes:
    """Return an error text as it is kept."""
    return _bytes(text[-ERROR_BYTES:].casefold())[-ERROR_BYTES:]


class SearchIndex:
    """Writes what runs are found by, inside the transactions that accept and end them."""

    def __init__(self, database: Database) -> None:
        self._add_tag = database.prepare(insert(run_tags), ("digest", "run_seq"))
        self._add_error = database.prepare(insert(run_errors), ("run_seq", "owner", "text"))

    def accepted(self, connection: Connection, seq: int, digests: Sequence[bytes]) -> None:
        """Have the run found by its metadata."""
        self._add_tag.many(connection, [{"digest": digest, "run_seq": seq} for digest in digests])

    def ended(self, connection: Connection, seq: int, owner: str, text: bytes) -> None:
        """Have the run found by its error text."""
        self._add_error(connection, {"run_seq": seq, "owner": owner, "text": text})


class RunSearch:
    """One page of one search. `is_sqlite` is the database's dialect."""

    def __init__(self, wanted: RunFilter, order: Order, *, is_sqlite: bool) -> None:
        self._wanted = wanted
        self._order = order
        self._is_sqlite = is_sqlite
        self._digests = [tag(wanted.owner, name, value) for name, value in wanted.metadata.items()]
        if wanted.owner is not None:
            self._digests += marks(wanted.owner, wanted.session_id, wanted.external_id, wanted.function)

    def page(
        self, connection: Connection, *, limit: int, after: str | None
    ) -> tuple[Sequence[Any], bool, str | None]:
        """Return the rows of one page, whether more may follow, and after which run. Raises UnknownCursor."""
        cursor = None if after is None else self._cursor(connection, after)
        walked, bound = self._walked(connection, cursor)
        found: list[tuple[int, int]] = []
        read, at = 0, cursor
        is_complete = False
        filters = self._filters()
        batch = _BATCH if filters else limit + 1
        while not is_complete and len(found) <= limit and read < READ:
            seqs = connection.execute(walked(at).limit(batch)).scalars().all()
            is_complete = len(seqs) < batch
            read += len(seqs)
            if seqs:
                at = seqs[-1]
                found += self._matching(connection, seqs, filters)
        chosen = listing.fitting(found, limit)
        if len(found) > len(chosen) or (is_complete and bound is None):
            return listing.rows(connection, chosen, self._order), len(found) > len(chosen), None
        resume = bound if is_complete else at
        run_id = connection.execute(select(table.c.id).where(table.c.seq == resume)).scalar()
        return listing.rows(connection, chosen, self._order), run_id is not None, run_id

    def _cursor(self, connection: Connection, after: str) -> int:
        statement = select(table.c.seq).where(table.c.id == after)
        if self._wanted.owner is not None:
            statement = statement.where(table.c.owner == self._wanted.owner)
        cursor: int | None = connection.execute(statement).scalar()
        if cursor is None:
            raise UnknownCursor
        return cursor

    def _walked(self, connection: Connection, cursor: int | None) -> tuple[Any, int | None]:
        """Return a statement of the runs to look at after a cursor, and the last of them if more follow."""
        sources = [*self._sources()]
        ends = [self._end(connection, source, cursor) for source in sources]
        # The sparsest source reaches furthest with the same number of rows.
        is_desc = self._order == "desc"
        best = min(
            range(len(sources)), key=lambda n: (ends[n] is not None, (ends[n] or 0) * (1 if is_desc else -1))
        )
        seq, bound = sources[best][0], ends[best]
        chosen = self._following(select(seq).where(*sources[best][1]), seq, None)
        if bound is not None:
            chosen = chosen.where(seq >= bound if is_desc else seq <= bound)
        for number, (other, conditions) in enumerate(sources):
            if number != best:
                chosen = chosen.where(exists().where(other == seq, *conditions))
        if self._wanted.error is not None:
            chosen = chosen.where(self._has_error(seq, is_walked=seq.table is run_errors))
        return (lambda at: self._after(chosen, seq, at)), bound

    def _sources(self) -> Iterator[tuple[ColumnElement[int], tuple[ColumnElement[bool], ...]]]:
        for digest in self._digests:
            one = run_tags.alias()
            yield one.c.run_seq, (one.c.digest == literal(digest, LargeBinary),)
        if not self._digests and self._wanted.error is None:
            language = self._wanted.language
            yield table.c.seq, () if language is None else (table.c.language == language,)
        elif not self._digests:
            mine = () if self._wanted.owner is None else (run_errors.c.owner == self._wanted.owner,)
            yield run_errors.c.run_seq, mine

    def _end(
        self, connection: Connection, source: tuple[ColumnElement[int], Any], cursor: int | None
    ) -> int | None:
        """Return the last run that a page may walk to; None if the source ends before that."""
        seq, conditions = source
        statement = self._following(select(seq).where(*conditions), seq, cursor)
        is_looked_up = seq.table is run_errors and self._wanted.owner is not None
        most = WALKED_OF_OWNER if is_looked_up else WALKED
        return connection.execute(statement.offset(most - 1).limit(1)).scalar()

    def _following(self, statement: Select[Any], seq: ColumnElement[int], cursor: int | None) -> Select[Any]:
        statement = statement.order_by(seq.desc() if self._order == "desc" else seq.asc())
        return self._after(statement, seq, cursor)

    def _after(self, statement: Select[Any], seq: ColumnElement[int], cursor: int | None) -> Select[Any]:
        if cursor is None:
            return statement
        return statement.where(seq < cursor if self._order == "desc" else seq > cursor)

    def _has_error(self, seq: ColumnElement[int], *, is_walked: bool) -> ColumnElement[bool]:
        needle = literal(_bytes((self._wanted.error or "").casefold()), LargeBinary)
        text = run_errors.c.text
        # Both find bytes in bytes; PostgreSQL's `position(a IN b)` is `position(b, a)` as a function.
        is_in = func.instr(text, needle) > 0 if self._is_sqlite else func.position(needle.op("IN")(text)) > 0
        return is_in if is_walked else exists().where(run_errors.c.run_seq == seq, is_in)

    def _filters(self) -> tuple[ColumnElement[bool], ...]:
        """Return the conditions on the run itself: the owner is known by the row that was walked."""
        given = ((table.c.status, self._wanted.status), (table.c.language, self._wanted.language))
        return tuple(column == value for column, value in given if value is not None)

    def _matching(
        self, connection: Connection, seqs: Sequence[int], filters: tuple[ColumnElement[bool], ...]
    ) -> list[tuple[int, int]]:
        """Return (seq, bytes of the document) of those runs that match, in the order of `seqs`."""
        statement = select(table.c.seq, table.c.document_bytes).where(
            table.c.seq.in_(bindparam("seqs", expanding=True)), *filters
        )
        sizes = {row.seq: row.document_bytes for row in connection.execute(statement, {"seqs": [*seqs]})}
        return [(seq, sizes[seq]) for seq in seqs if seq in sizes]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
