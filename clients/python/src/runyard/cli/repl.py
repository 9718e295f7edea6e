"""`runyard repl`: an interpreter in a session, a cell at a time."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runyard.cli.completeness import is_complete
from runyard.cli.line_editor import LineEditor
from runyard.cli.results import Results
from runyard.cli.session import Session
from runyard.cli.speech import explain, lines, say
from runyard.cli.units import MEBIBYTES, MILLISECONDS
from runyard.client import Client
from runyard.errors import ApiError, RunyardError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runyard._session_calls import SessionOptions
    from runyard.models import Run
    from runyard.session_models import Context
    from runyard.sessions import Session as LiveSession

CONTEXT = "repl"
_LEAVES = frozenset({"exit", "exit()", "quit", "quit()", ".exit"})


@click.command()
@click.option(
    "-r", "--runtime", default="python", show_default=True, help="python, node, typescript, ruby or bash."
)
@click.option(
    "--session", "name", metavar="NAME", help="Use the session of this name, and leave it alive at the end."
)
@click.option("-m", "--memory", type=MEBIBYTES, help="Memory of a new session: 512 (MiB), 512m, 1g.")
@click.option("-t", "--timeout", type=MILLISECONDS, help="Time limit of a cell: 10 (seconds), 1.5s, 500ms, 1m.")
@click.option("-s", "--save", type=click.Path(file_okay=False, path_type=Path), help="Save figures to this folder.")
@click.pass_obj
def repl(
    session: Session, runtime: str, name: str | None, memory: int | None, timeout: int | None, save: Path | None
) -> int:
    """Type code into an interpreter that keeps its variables, in a sandbox that stays alive.

    Tab completes names, ?NAME shows what NAME is, and Ctrl-C interrupts the code that runs. Ctrl-D ends it. A
    program on stdin is executed cell by cell; the exit code is then that of the last one.

    \b
      runyard repl
      runyard repl --runtime node --session mine
      runyard repl --save figures/ < analysis.py
    """  # noqa: D301  # click keeps the lines behind a backspace character as they are
    options: SessionOptions = {}
    if name is not None:
        options["name"] = name
    if memory is not None:
        options["limits"] = {"memory_mb": memory}
    live = session.client.sessions.create(runtime, **options)
    try:
        return Repl(session, live, timeout, save).loop()
    finally:
        if name is None:
            with suppress(RunyardError):  # it ends by itself
                live.delete()


class Repl:
    """The conversation with one context of a session."""

    def __init__(self, session: Session, live: LiveSession, timeout: int | None, save: Path | None) -> None:
        self._session = session
        self._live = live
        self._timeout = timeout
        self._results = Results(save)
        self._context = self._opened()

    def loop(self) -> int:
        """Read and execute cells until the input ends. Returns the last one's exit code, or 0 at a terminal."""
        language, code, last = self._context.language, "", 0
        with LineEditor(self._completed) as editor:
            if editor.is_interactive:
                say(f"{language} in {self._live.id}; Ctrl-D ends it")
            while (line := editor.read("... " if code else ">>> ")) is not None:
                if editor.is_cancelled:
                    code = ""
                    continue
                code = f"{code}\n{line}" if code else line
                if not code.strip():
                    code = ""
                elif editor.is_interactive and code.strip() in _LEAVES:
                    return 0
                elif is_complete(language, code):
                    last, code = self._execute(code), ""
            if code.strip():
                last = self._execute(code)
        return 0 if editor.is_interactive else last

    def _opened(self) -> Context:
        try:
            return self._live.contexts.create(name=CONTEXT)
        except ApiError as e:
            if e.code != "name_in_use":
                raise
        return next(one for one in self._live.contexts.list() if one.name == CONTEXT)

    def _execute(self, code: str) -> int:
        if code.startswith("?") or (self._context.language != "python" and code.endswith("?")):
            return self._explain(code.strip("?").strip())
        options: dict[str, Any] = {"context": self._context.id}
        if self._timeout is not None:
            options["limits"] = {"timeout_ms": self._timeout}
        self._results.begin()
        try:
            with self._interrupting(), self._live.runs.stream(code, **options) as stream:
                for event in stream:
                    self._results.show(event)
                return self._end(stream.result())
        except ApiError as e:
            explain(e)
            if e.code == "session_ended":
                raise click.exceptions.Exit(1) from e
            return 1

    def _end(self, run: Run) -> int:
        if run.status == "timeout":
            say(f"stopped after {run.limits.get('timeout_ms')} ms; give more with --timeout")
        elif run.status not in ("succeeded", "failed"):
            say(f"ended: {run.status}")
        if run.state == "lost":
            say("the interpreter was restarted; its variables are gone")
        for hint in run.hints:
            if hint.code != "timed_out":
                say(hint.message)
        if run.results_dropped:
            say(f"{run.results_dropped} more results were left out")
        for artifact in run.artifacts:
            say(f"file: {artifact.path} ({artifact.size} bytes)")
        return run.exit_code if run.exit_code is not None else 1

    def _explain(self, name: str) -> int:
        found = self._live.contexts.inspect(self._context, name)
        click.echo(lines(found.text) if found.found else f"nothing is known of {lines(name)}")
        return 0

    def _completed(self, line: str, cursor: int) -> tuple[tuple[str, ...], int]:
        """Return the ways in which a line can go on, and where in it they begin."""
        found = self._live.contexts.complete(self._context, line, cursor)
        return found.matches, found.start

    @contextmanager
    def _interrupting(self) -> Iterator[None]:
        """Have Ctrl-C interrupt the cell and not this program: its output and its end are still to come."""
        before = signal.signal(
            signal.SIGINT, lambda _number, _frame: threading.Thread(target=self._interrupt, daemon=True).start()
        )
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupt(self) -> None:
        # The client of the loop is in use by it.
        try:
            with Client(self._session.url, self._session.api_key) as client:
                client.sessions.get(self._live.id).contexts.interrupt(self._context)
        except RunyardError as e:
            print(f"\nrunyard: not interrupted: {e}", file=sys.stderr)
