"""Erasing what a cell has written to a terminal: rows are counted as a terminal wraps them."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
from contextlib import redirect_stderr, redirect_stdout, suppress

import pytest
from runyard.cli.results import Results
from runyard.models import Event

COLUMNS, ROWS = 10, 6
TOKEN = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])|.", re.DOTALL)


class Display:
    """As much of a terminal as the command line uses: rows, wrapping, scrolling, and erasing from the cursor on."""

    def __init__(self) -> None:
        self.rows = [""] * ROWS
        self.row = self.column = 0

    def feed(self, text: str) -> None:
        for found in TOKEN.finditer(text):
            if found[2] == "A":
                self.row = max(0, self.row - int(found[1] or 1))
            elif found[2] == "J":
                self.rows[self.row :] = [self.rows[self.row][: self.column], *[""] * (ROWS - self.row - 1)]
            elif found[2] is None:
                self._write(found[0])

    def _write(self, letter: str) -> None:
        if letter == "\r":
            self.column = 0
            return
        width = 2 if letter == "漢" else 1
        if letter == "\n" or self.column + width > COLUMNS:
            self.column = 0 if letter != "\n" else self.column
            self.row += 1
            if self.row == ROWS:
                self.row -= 1
                self.rows = [*self.rows[1:], ""]
        if letter != "\n":
            kept = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = kept[: self.column] + letter + kept[self.column + 1 :]
            self.column += width

    def shown(self) -> list[str]:
        return [row.rstrip() for row in self.rows if row.strip()]


class Terminal:
    """A terminal that cells are shown at."""

    def __init__(self) -> None:
        self._main, theirs = pty.openpty()
        self._stream = os.fdopen(theirs, "w")
        self.resize(COLUMNS)
        os.set_blocking(self._main, False)
        self._display = Display()

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self._main, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))

    def show(self, *events) -> None:
        """Show events in a cell that follows one line of another; what is no event is called."""
        with redirect_stdout(self._stream), redirect_stderr(self._stream):
            results = Results(None)
            results.show(event("stdout", "prompt\n"))
            results.begin()
            for one in events:
                one() if callable(one) else results.show(one)

    def read(self) -> str:
        """Return everything that was written."""
        self._stream.flush()
        found = b""
        with suppress(BlockingIOError):
            while True:
                found += os.read(self._main, 65536)
        return found.decode()

    def rows(self) -> list[str]:
        """Return the rows that are shown."""
        self._display.feed(self.read())
        return self._display.shown()

    def close(self) -> None:
        self._stream.close()
        os.close(self._main)


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    made = Terminal()
    yield made
    made.close()


def event(name, data):
    return Event(0, name, data, 0)


OUT, ERR = (lambda text: event("stdout", text)), (lambda text: event("stderr", text))
SHOW = lambda text: event("display", {"text": text})  # noqa: E731  # a name for a row
CLEAR, WAIT = event("clear", {"wait": False}), event("clear", {"wait": True})


@pytest.mark.parametrize(
    ("events", "left"),
    [
        ((SHOW("one"), CLEAR), []),
        ((SHOW("one"), CLEAR, SHOW("two")), ["two"]),
        ((OUT("a\nb"), SHOW("c"), CLEAR, OUT("d\n")), ["d"]),
        ((OUT("part"), CLEAR, OUT("d\n")), ["d"]),
        ((ERR("e\n"), SHOW("c"), CLEAR), []),
        ((OUT("x" * COLUMNS), CLEAR, OUT("d\n")), ["d"]),
        ((OUT("x" * COLUMNS + "\n"), CLEAR, OUT("d\n")), ["d"]),
        ((OUT("x" * (2 * COLUMNS + 1)), CLEAR, OUT("d\n")), ["d"]),
        ((OUT("y" * 3 + "漢" * 8 + "\n"), CLEAR, OUT("d\n")), ["d"]),
        ((OUT("\x1b[31"), OUT("mred\x1b[0m\n"), CLEAR, OUT("d\n")), ["d"]),
        ((OUT("100 %\r 20 %\r"), CLEAR, OUT("d\n")), ["d"]),
        ((SHOW("one"), WAIT), ["one"]),
        ((SHOW("one"), WAIT, SHOW("two"), WAIT), ["two"]),
        ((SHOW("one"), WAIT, OUT("d\n")), ["d"]),
        ((SHOW("one"), WAIT, event("exception", {"traceback": ["Boom"]})), ["Boom"]),
        ((SHOW("one"), WAIT, event("artifact", {})), ["one"]),
        ((SHOW("one"), event("clear", "forged")), []),
    ],
)
def test_the_rows_of_the_cell_are_erased_and_no_others(terminal, events, left):
    terminal.show(*events)
    assert terminal.rows() == ["prompt", *left]


def test_rows_that_have_scrolled_out_are_left(terminal):
    terminal.show(OUT("line\n" * 20), CLEAR, OUT("d\n"))
    assert terminal.rows() == ["d"]


@pytest.mark.parametrize("moves", ["\x1b[2A", "\x1b[H", "\x1b7", "\x1b", "\x9b2A", "\x1b[?1049h"])
def test_after_a_cursor_that_was_moved_there_is_a_separator(terminal, moves):
    terminal.show(OUT(f"a{moves}"), CLEAR)
    written = terminal.read()
    assert "was cleared" in written
    assert "\x1b[J" not in written


def test_after_another_width_there_is_a_separator(terminal):
    terminal.show(OUT("a\n"), lambda: terminal.resize(2 * COLUMNS), CLEAR)
    assert "was cleared" in terminal.read()


def test_without_a_terminal_all_stays_and_nothing_is_added(capsysbinary):
    results = Results(None)
    for one in (SHOW("one"), CLEAR, SHOW("two"), WAIT, OUT("three\n")):
        results.show(one)
    assert capsysbinary.readouterr() == (b"one\ntwo\nthree\n", b"")


def test_a_terminal_that_can_nothing_is_not_written_to(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    terminal.show(SHOW("one"), CLEAR, SHOW("two"))
    assert terminal.rows() == ["prompt", "one", "two"]
