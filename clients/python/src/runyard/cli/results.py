"""Results of cells on the command line: texts are printed, figures are saved."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import click

from runyard.cli.speech import lines, say
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

    def show(self, event: Event) -> None:
        """Print a result or an exception; other events are none of its matter."""
        if event.event == "display":
            self._show_result(RunResult.of(event.data))
        elif event.event == "exception" and isinstance(event.data, dict):
            click.echo(lines("\n".join(map(str, event.data.get("traceback") or []))), err=True)

    def _show_result(self, result: RunResult) -> None:
        for kind in _FIGURES:
            if (content := getattr(result, kind)) is not None:
                self._keep(kind, content)
                return
        text = next((one for one in (result.text, result.markdown, result.latex, result.html) if one), "")
        click.echo(lines(text[:_MOST_TEXT] + ("…" if len(text) > _MOST_TEXT else "")))

    def _keep(self, kind: str, content: str) -> None:
        if self._save is None:
            say(f"a figure ({kind}); --save DIR keeps figures")
            return
        try:
            data = content.encode() if kind == "svg" else base64.b64decode(content, validate=True)
        except binascii.Error:
            say(f"a figure ({kind}) is no base64")
            return
        try:
            path = self._write(self._save, kind, data)
        except OSError as e:
            say(f"not saved: {e}")
        else:
            say(f"saved {path} ({len(data)} bytes)")

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
