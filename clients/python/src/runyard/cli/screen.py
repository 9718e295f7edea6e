"""The part of this terminal that a cell has written to, so that `clear_output` can erase it.

A terminal does not tell where its cursor is without an answer on stdin, so rows are counted as they are written.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata

#: Colours and styles, the erasure of a line, plain text, or one control character.
_TOKEN = re.compile(r"\x1b\[[0-9;:]*m|\x1b\[[0-2]?K|[^\x00-\x1f\x7f-\x9f]+|.", re.DOTALL)
#: The beginning of a sequence whose rest is still to come.
_BEGUN = re.compile(r"\x1b(?:\[[0-9;:]{0,40})?\Z")
_TAB = 8


class CellScreen:
    """Counts the rows of one cell. Without a terminal on stdout it erases nothing."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._shares_stderr = sys.stderr.isatty()
        self.begin()

    def begin(self) -> None:
        """Begin to count: the cursor is at the begin of a row."""
        self._rows = self._column = 0
        self._is_blank = True
        self._begun = ""
        self._columns = self._width()
        #: False once something has moved the cursor in a way that is not counted here.
        self._is_counted = True

    def wrote(self, text: str, *, err: bool = False) -> None:
        """Count text that was written to stdout, or to stderr."""
        if not self._is_terminal or (err and not self._shares_stderr):
            return
        self._is_blank = False
        text = self._begun + text
        begun = _BEGUN.search(text)
        self._begun = begun[0] if begun else ""
        for token in _TOKEN.findall(text[: len(text) - len(self._begun)]):
            self._count(token)

    def erase(self) -> bool:
        """Erase the rows of the cell. Returns False where that cannot be done, and a separator has to do."""
        if self._is_blank:
            return True
        can = self._is_counted and not self._begun and self._width() == self._columns
        if can:
            # Rows that have scrolled out of the terminal stay: the cursor stops at the first one that is there.
            sys.stdout.write(f"\r\x1b[{self._rows}A\x1b[J" if self._rows else "\r\x1b[J")
        else:
            sys.stdout.write("\x1b[0m\n" if self._column else "\x1b[0m")
        sys.stdout.flush()
        self.begin()
        return can

    def _width(self) -> int:
        try:
            return max(1, os.get_terminal_size(sys.stdout.fileno()).columns)
        except (OSError, ValueError):
            return 80

    def _count(self, piece: str) -> None:
        if piece >= "\xa0" or " " <= piece < "\x7f":
            self._write(piece)
        elif piece[0] == "\x1b":
            self._is_counted = self._is_counted and len(piece) > 1
        elif piece in "\n\v\f":
            self._rows += 1
            self._column = 0
        elif piece == "\r":
            self._column = 0
        elif piece == "\b":
            self._column = max(0, self._column - 1)
        elif piece == "\t":
            self._column = min(self._columns - 1, (self._column // _TAB + 1) * _TAB)
        elif piece not in "\0\a":
            self._is_counted = False

    def _write(self, text: str) -> None:
        """Move the cursor: a row that is full is left with the next character, not with its last one."""
        if text.isascii():
            column = self._column + len(text)
            rows = max(0, column - 1) // self._columns
            self._rows += rows
            self._column = column - rows * self._columns
            return
        for letter in text:
            cells = _cells(letter)
            if self._column + cells > self._columns:
                self._rows += 1
                self._column = 0
            self._column += cells


def _cells(letter: str) -> int:
    """Return how many columns a character takes."""
    if unicodedata.combining(letter) or unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
