"""CSV for spreadsheets: a cell that they would evaluate as a formula is quoted, and unquoted when it is read."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from api.errors import ApiError, invalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CSV = "text/csv"
#: Spreadsheets evaluate a cell that begins with one of these.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
#: Longer than any cell that has a meaning here.
_MAX_CELL = 1024


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table with its header. Texts that begin like a formula get an apostrophe in front."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([_quoted(cell) for cell in row] for row in rows)
    return text.getvalue()


def from_csv(
    data: bytes, columns: Sequence[str], *, most_rows: int, required: Sequence[str]
) -> list[dict[str, str]]:
    """Return the rows of a table whose header names some of the columns, in any order.

    Rows are numbered from 1, without the header. Raises ApiError 400 naming the row, and never a cell.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise _invalid("The body is not UTF-8.") from e
    if "\0" in text:
        raise _invalid("The body holds a NUL character.")
    rows: list[dict[str, str]] = []
    header: list[str] | None = None
    try:
        for cells in csv.reader(io.StringIO(text, newline=""), strict=True):
            if not cells:
                continue
            if header is None:
                header = _header(cells, columns, required)
                continue
            if len(rows) == most_rows:
                raise invalid(f"The table has more than {most_rows} rows, the maximum.", code="too_many")
            rows.append(_row(header, cells, len(rows) + 1))
    except csv.Error as e:
        raise _invalid(f"Row {len(rows) + 1} is not CSV: {e}.") from e
    if not rows:
        raise _invalid(f"The table is empty: it needs a header ({','.join(columns)}) and at least one row.")
    return rows


def _header(cells: list[str], columns: Sequence[str], required: Sequence[str]) -> list[str]:
    header = [cell.strip().lower() for cell in cells]
    if len({*header}) != len(header) or not {*required} <= {*header} <= {*columns}:
        raise _invalid(
            f"The header must have the columns {', '.join(required)}; supported: {', '.join(columns)}, each once."
        )
    return header


def _row(header: list[str], cells: list[str], number: int) -> dict[str, str]:
    if len(cells) != len(header):
        raise _invalid(f"Row {number} has {len(cells)} cells, and the header {len(header)}.")
    for name, cell in zip(header, cells, strict=True):
        if len(cell) > _MAX_CELL:
            raise invalid(
                f"Row {number}, {name}: {len(cell)} characters, the maximum is {_MAX_CELL}",
                param=name,
                code="too_long",
            )
    return {name: _unquoted(cell.strip()) for name, cell in zip(header, cells, strict=True)}


def _quoted(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else "" if cell is None else cell


def _unquoted(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def _invalid(message: str) -> ApiError:
    return invalid(message, code="invalid_csv")
