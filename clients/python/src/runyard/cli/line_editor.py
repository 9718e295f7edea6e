"""Read lines: at a terminal with history and completion, else as they come."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Self

from runyard.errors import RunyardError

if TYPE_CHECKING:
    from collections.abc import Callable

    #: Returns the ways in which a line can go on at a cursor, and where in it they begin.
    Completer = Callable[[str, int], tuple[tuple[str, ...], int]]

_MOST_LINES = 2000


def history_path() -> Path:
    """Return the file with the lines that were typed earlier."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(base) / "runyard/repl_history"


class LineEditor:
    """Reads lines. `is_cancelled`: the last one was given up with Ctrl-C."""

    def __init__(self, complete: Completer) -> None:
        self.is_interactive = sys.stdin.isatty() and sys.stdout.isatty()
        self.is_cancelled = False
        self._complete = complete
        self._found: list[str] = []
        self._readline: ModuleType | None = None

    def __enter__(self) -> Self:
        if self.is_interactive:
            with suppress(ImportError):  # a Python without it
                import readline

                self._readline = readline
                self._prepare(readline)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._readline is not None:
            with suppress(OSError):  # a home that cannot be written to
                path = history_path()
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                path.touch(mode=0o600)
                self._readline.set_history_length(_MOST_LINES)
                self._readline.write_history_file(str(path))

    def read(self, prompt: str) -> str | None:
        """Return the next line; None at the end of the input."""
        self.is_cancelled = False
        if not self.is_interactive:
            line = sys.stdin.readline()
            return line.rstrip("\n") if line else None
        try:
            return input(prompt)
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            print()
            self.is_cancelled = True
            return ""

    def _prepare(self, readline: ModuleType) -> None:
        with suppress(OSError):
            readline.read_history_file(str(history_path()))
        readline.set_completer(self._match)
        readline.set_completer_delims(" \t\n")
        readline.parse_and_bind("tab: complete")

    def _match(self, word: str, number: int) -> str | None:
        """Return one of the ways in which the word before the cursor can go on, as readline asks for them."""
        assert self._readline is not None
        if number == 0:
            self._found = self._matches(word, self._readline.get_line_buffer(), self._readline.get_begidx())
        return self._found[number] if number < len(self._found) else None

    def _matches(self, word: str, line: str, begin: int) -> list[str]:
        if not line.strip():
            return ["    "]
        try:
            matches, start = self._complete(line, begin + len(word))
        except RunyardError:  # Tab does nothing, then
            return []
        return [line[begin:start] + match if start >= begin else match[begin - start :] for match in matches]
