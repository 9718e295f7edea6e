"""Running the programs a build is made of, and saying how far it is."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from ops.images.errors import BuildFailed, HostLacks

TAIL_LINES = 25


class Progress:
    """Says on stderr what is being done, with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        """One line, such as `[ 12.3 s] python: installing libraries`."""
        print(f"[{time.monotonic() - self._start:5.1f} s] {text}", file=sys.stderr, flush=True)


def run(argv: list[str], *, env: dict[str, str], what: str, cwd: Path | None = None) -> str:
    """Run a program to its end; its output. Raises BuildFailed with the end of it, HostLacks if there is none."""
    try:
        done = subprocess.run(
            argv,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as e:
        raise HostLacks(f"{what}: {argv[0]} is not installed") from e
    if done.returncode != 0:
        tail = "\n".join("    " + line for line in done.stdout.splitlines()[-TAIL_LINES:])
        raise BuildFailed(f"{what}: {argv[0]} ended with {done.returncode}\n{tail}")
    return done.stdout
