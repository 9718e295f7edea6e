"""The service's virtual environment at the code of this checkout, made next to the one that a service runs from.

So new code is complete, and can judge the settings, before the running service is stopped; and the old code is
there until the new service has answered. Standard library only.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from ops import install
from ops.state import StatePlace


class StagedCode:
    """The code that a start will use. `venv` is where it is now."""

    def __init__(self, place: StatePlace, say: Callable[[str], None], *, is_running: bool) -> None:
        self._place = place
        self._say = say
        # An environment that is another place's (a link to it) is brought up to date in place, as always.
        self._apart = is_running and not place.venv.is_symlink()
        self._next, self._previous = place.state_dir / "venv.next", place.state_dir / "venv.previous"
        self.venv = place.venv
        self.digest = ""
        self._is_active = False

    @property
    def python(self) -> Path:
        return self.venv / "bin/python"

    def update(self, before: Callable[[], object] = lambda: None) -> None:
        """Install the code of this checkout where it is missing; `before` is called first, once pip is there."""
        self.digest = install.code_digest()
        if install.installed_digest(self.venv) == self.digest:
            return
        if self._apart and self.venv != self._next:
            self.venv = self._next
            if install.installed_digest(self.venv) == self.digest:  # of an attempt whose settings were refused
                return
            _copy(self._place.venv, self._next)
        self._say("creating a virtual environment")
        install.make_venv(self.venv)
        before()
        install.install_service(self.venv, self.digest)
        self._say("the service is installed")

    def activate(self) -> None:
        """Put it where services run from. No process of the service may be alive."""
        if self.venv == self._place.venv:
            return
        shutil.rmtree(self._previous, ignore_errors=True)
        self._place.venv.rename(self._previous)
        self._next.rename(self._place.venv)
        self.venv = self._place.venv
        self._is_active = True

    def revert(self) -> None:
        """Put the code back that ran before."""
        if self._is_active:
            shutil.rmtree(self._place.venv, ignore_errors=True)
            self._previous.rename(self._place.venv)

    def discard(self) -> None:
        """Remove the environments next to the one in use."""
        for folder in (self._next, self._previous):
            shutil.rmtree(folder, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    """Copy with hard links, which is quick: pip and Python replace files, they do not write into them."""
    shutil.rmtree(target, ignore_errors=True)
    if source.exists():
        subprocess.run(["cp", "-al", str(source), str(target)], check=True)
