"""The output and the results of cells on the command line: texts are printed, figures are saved.

`clear_output` erases at a terminal what the cell has written, and with `wait` does so at its next output. Elsewhere
nothing that was written can be taken back.
"""

from __future__ import annotations

import base64
import binascii
import sys
from typing import TYPE_CHECKING, BinaryIO

import click

from runyard.cli.screen import CellScreen
from runyard.cli.speech import lines, message, say
from runyard.models import RunResult

if TYPE_CHECKING:
    from pathlib import Path

    from runyard.models import Event

_MOST_TEXT = 10_000
_FIGURES = ("png", "jpeg", "svg", "pdf")


class Results:
    """Shows what cells display, and numbers their figures."""

    def __init__(self, save: Path | None) -> None:
        self._save = save
        self._figures = 0
        self._screen = CellScreen()
        #: True if what is shown is to be erased at the next output.
        self._is_obsolete = False

    def begin(self) -> None:
        """Begin another cell."""
        self._screen.begin()
        self._is_obsolete = False

    def show(self, event: Event) -> None:
        """Print output, a result or an exception, or erase what was printed; leave other events alone."""
        if event.event == "clear":
            self._is_obsolete = True
            if not (isinstance(event.data, dict) and event.data.get("wait") is True):
                self._erase()
        elif event.text:
            self._erase()
            pass_on(event)
            self._screen.wrote(event.text, err=event.event != "stdout")
        elif event.event == "display":
            self._erase()
            self._show_result(RunResult.of(event.data))
        elif event.event == "exception" and isinstance(event.data, dict):
            self._erase()
            self._print("\n".join(map(str, event.data.get("traceback") or [])), err=True)

    def _erase(self) -> None:
        """Erase what the cell has written, if that is obsolete."""
        if self._is_obsolete and not self._screen.erase():
            say("the output above was cleared")
        self._is_obsolete = False

    def _print(self, text: str, *, err: bool = False) -> None:
        text = lines(text)
        click.echo(text, err=err)
        self._screen.wrote(f"{text}\n", err=err)

    def _say(self, text: str) -> None:
        say(text)
        self._screen.wrote(f"{message(text)}\n", err=True)

    def _show_result(self, result: RunResult) -> None:
        for kind in _FIGURES:
            if (content := getattr(result, kind)) is not None:
                self._keep(kind, content)
                return
        text = next((one for one in (result.text, result.markdown, result.latex, result.html) if one), "")
        self._print(text[:_MOST_TEXT] + ("…" if len(text) > _MOST_TEXT else ""))

    def _keep(self, kind: str, content: str) -> None:
        if self._save is None:
            self._say(f"a figure ({kind}); --save DIR keeps figures")
            return
        try:
            data = content.encode() if kind == "svg" else base64.b64decode(content, validate=True)
        except binascii.Error:
            self._say(f"a figure ({kind}) is no base64")
            return
        try:
            path = self._write(self._save, kind, data)
        except OSError as e:
            self._say(f"not saved: {e}")
        else:
            self._say(f"saved {path} ({len(data)} bytes)")

    def _write(self, folder: Path, kind: str, data: bytes) -> Path:
        """Write a figure under a name that nothing has yet, and through no link."""
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            self._figures += 1
            path = folder / f"figure-{self._figures}.{kind}"
            try:
                with path.open("xb") as file:
                    file.write(data)
            except FileExistsError:
                continue
            return path


def pass_on(event: Event) -> None:
    """Write the output of a program as it is, with its escape sequences."""
    if event.text:
        target: BinaryIO = sys.stdout.buffer if event.event == "stdout" else sys.stderr.buffer
        target.write(event.text.encode(errors="replace"))
        target.flush()
