"""Cells and their outcomes, as data: for the kernels alone (test_kernels.py) and later through the service.

A row is a list of cells that one fresh kernel executes in order. A text that is expected may be a pattern.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

Text = str | re.Pattern[str]


@dataclass(frozen=True)
class Cell:
    """One cell, and what comes of it. `results` has the data of each result; only the named types are compared."""

    code: str
    stdout: Text = ""
    stderr: Text = ""
    results: tuple[dict[str, object], ...] = ()
    #: Name, value, and the traceback joined by newlines, where it is compared.
    exception: tuple[str, Text, Text | None] | None = None
    exit_code: int = 0
    dropped: int = 0
    stdin: bytes = b""
    env: dict[str, str] = field(default_factory=dict)
    #: Send SIGINT after this time.
    interrupt_s: float | None = None


@dataclass(frozen=True)
class Row:
    """Cells for one kernel of a language."""

    language: str
    name: str
    cells: tuple[Cell, ...]


def text(value: Text) -> dict[str, object]:
    """Return the data of a result that is text."""
    return {"text/plain": value}


ANY = re.compile(r"[\s\S]*")


def rows() -> list[Row]:
    """Return the rows of every language."""
    from tests.kernels import rows_bash, rows_node, rows_ruby

    return [
        *(Row("bash", name, cells) for name, cells in rows_bash.ROWS.items()),
        *(Row("node", name, cells) for name, cells in {**rows_node.BOTH, **rows_node.NODE}.items()),
        *(Row("typescript", name, cells) for name, cells in {**rows_node.BOTH, **rows_node.TYPESCRIPT}.items()),
        *(Row("ruby", name, cells) for name, cells in rows_ruby.ROWS.items()),
    ]
