"""Output of the command line: its own messages on stderr, tables and JSON on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

import click

from runyard.config import config_path
from runyard.errors import ApiError, ConnectionFailed, RunyardError, StreamLost
from runyard.text import shown, shown_lines

_OPTIONS = {
    "limits.timeout_ms": "--timeout",
    "limits.memory_mb": "--memory",
    "limits.cpus": "--cpus",
    "language": "--runtime",
    "stdin": "--stdin",
    "packages": "--package",
}
_HINTS = {
    "unknown_language": "list the languages with `runyard languages`",
    "language_not_ready": "the language is still being built; check with `runyard languages`",
    "storage_quota_exceeded": "free space with `runyard files delete`",
    "idempotency_key_used": "its run was deleted; use another idempotency key",
    "file_not_found": "list your files with `runyard files list`",
    "run_not_found": "list your runs with `runyard runs list`",
    "session_not_found": "list your sessions with `runyard sessions list`",
    "function_not_found": "list your functions with `runyard functions list`",
    "function_failed": "see why with `runyard functions logs`",
    "session_ended": "create another one with `runyard sessions create`",
}


def say(text: str) -> None:
    """Print a line of this command. Control characters are escaped, so that text cannot control the terminal."""
    click.echo(message(text), err=True)


def message(text: str) -> str:
    """Return text as `say` prints it, without the last line's end."""
    return "\n".join(f"runyard: {shown(line)}" for line in text.split("\n"))


def explain(error: RunyardError) -> None:
    """Print an error, the field or option that it names, and a remedy."""
    say(str(error))
    if isinstance(error, ApiError):
        facts = [f"{name} {value}" for name, value in _facts(error) if value is not None]
        say(f"  ({', '.join(facts)})")
        if hint := _hint(error):
            say(f"  {hint}")
    elif isinstance(error, StreamLost):
        say(f"  see what became of the run with `runyard runs show {error.run_id}`")
    elif isinstance(error, ConnectionFailed):
        say("  check the connection with `runyard doctor`")


def table(rows: Iterable[Sequence[object]], heads: Sequence[str]) -> None:
    """Print aligned columns on stdout."""
    texts = [tuple(heads), *(tuple("" if cell is None else shown(str(cell)) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(heads))]
    for row in texts:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def as_json(value: object) -> None:
    """Print JSON on stdout; control characters are escaped."""
    click.echo(json.dumps(value, indent=2))


def lines(text: str) -> str:
    """Escape control characters in foreign text; line breaks stay."""
    return shown_lines(text)


class Meter:
    """Shows the progress of a transfer on one line of a terminal; prints nothing elsewhere."""

    def __init__(self, what: str) -> None:
        self._what = shown(what)
        self._live = sys.stderr.isatty()
        self._said = ""

    def __call__(self, done: int, size: int) -> None:
        text = f"runyard: {self._what}  {100 * done // size if size else 100:3d}%  {done} of {size} bytes"
        if self._live and text != self._said:
            click.echo(f"\r{text}\x1b[K", err=True, nl=False)
            self._said = text

    def end(self) -> None:
        """Finish the line."""
        if self._said:
            click.echo("", err=True)


def _facts(error: ApiError) -> list[tuple[str, object]]:
    param = error.param or ""
    option = _OPTIONS.get("packages" if param.startswith("packages.") else param)
    return [
        ("option" if option else "field", option or error.param),
        ("code", error.code),
        ("status", error.status),
        ("run", error.run_id),
        ("request", error.request_id),
    ]


def _hint(error: ApiError) -> str | None:
    if error.status == 401:
        return f"log in with `runyard login`, or set RUNYARD_API_KEY (or api_key in {config_path()})"
    if error.code in _HINTS:
        return _HINTS[error.code]
    if error.retry_after_s is not None:
        return f"try again in {error.retry_after_s:.0f} s"
    return None
