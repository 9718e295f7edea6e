"""Statements of a run's own path, compiled once.

Executing a Core statement costs Python several times what SQLite then takes for it (cache key, parameters, result
set-up). Compiled ahead and handed over as text, accepting and finishing a run took half the CPU: 0.6 ms instead of
1.2. SQLite's driver is handed it directly. For PostgreSQL everything else (errors, lost connections) stays
SQLAlchemy's.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import LargeBinary

if TYPE_CHECKING:
    from sqlalchemy import ClauseElement, Connection, Dialect

Processor = Callable[[Any], Any]


class Rows:
    """The result of a statement."""

    __slots__ = ("rowcount", "rows")

    def __init__(self, rows: Sequence[Any], rowcount: int) -> None:
        self.rows = rows
        #: The number of changed rows.
        self.rowcount = rowcount

    def first(self) -> Any:  # noqa: ANN401  # its columns are the statement's
        """Return the first row, its columns by name and in order; None if there is none."""
        return self.rows[0] if self.rows else None

    def scalar(self) -> Any:  # noqa: ANN401  # of the column's type
        """Return the first value of the first row; None if there is no row."""
        return self.rows[0][0] if self.rows else None

    def scalar_one(self) -> Any:  # noqa: ANN401  # of the column's type
        """Return the only value of the only row. Raises ValueError if there are more or none."""
        ((value,),) = self.rows
        return value


class Prepared:
    """One statement for one dialect. Rows come as the driver makes them: texts, integers and bytes."""

    __slots__ = ("_direct", "_names", "_own", "_positional", "_processors", "_row", "_sql")

    def __init__(self, dialect: Dialect, statement: ClauseElement, columns: Iterable[str] | None = None) -> None:
        """`columns` get values in an INSERT or UPDATE, in addition to those that the statement sets itself."""
        given = {} if columns is None else {"column_keys": [*columns]}
        compiled: Any = statement.compile(dialect=dialect, **given)  # type: ignore[arg-type]
        self._sql = str(compiled)
        self._direct = dialect.name == "sqlite"
        self._row: Any = None
        self._positional = bool(compiled.positional)
        self._names: tuple[str, ...] = tuple(compiled.positiontup or compiled.binds)
        self._processors: dict[str, Processor] = {}
        self._own: dict[str, Any] = {}
        for name, bind in compiled.binds.items():
            # Bytes are what both drivers take as they are.
            if not isinstance(bind.type, LargeBinary):
                processor = bind.type.dialect_impl(dialect).bind_processor(dialect)
                if processor is not None:
                    self._processors[name] = processor
            if not bind.required:
                self._own[name] = bind.effective_value

    def __call__(self, connection: Connection, values: Mapping[str, Any]) -> Rows:
        """Execute it once."""
        parameters = self._parameters(values)
        if not self._direct:
            result = connection.exec_driver_sql(self._sql, parameters)
            return Rows(result.all() if result.returns_rows else (), result.rowcount)
        cursor = _driver(connection).execute(self._sql, parameters)
        if cursor.description is None:
            return Rows((), cursor.rowcount)
        rows = cursor.fetchall()
        if self._row is None:
            self._row = _kind_of_row([column[0] for column in cursor.description])
        return Rows([self._row(*row) for row in rows], cursor.rowcount)

    def many(self, connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Execute it for each of the rows."""
        parameters = [self._parameters(row) for row in rows]
        if self._direct:
            _driver(connection).executemany(self._sql, parameters)
        else:
            connection.exec_driver_sql(self._sql, parameters)

    def _parameters(self, values: Mapping[str, Any]) -> Any:  # noqa: ANN401  # as the driver wants them
        given = {**self._own, **values}
        for name, processor in self._processors.items():
            given[name] = processor(given[name])
        if self._positional:
            return tuple([given[name] for name in self._names])
        return {name: given[name] for name in self._names}


def _kind_of_row(names: list[str]) -> Any:  # noqa: ANN401  # a tuple with those names
    return namedtuple("Row", names)  # noqa: PYI024


def _driver(connection: Connection) -> Any:  # noqa: ANN401  # sqlite3's connection
    return connection.connection.driver_connection
