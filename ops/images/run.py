"""Running the programs of a build, and reporting its progress."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from config.variables import mask, other_secrets
from ops.images.errors import BuildFailed, HostLacks

TAIL_LINES = 25


class BuildProgress:
    """Reports each step on stderr, with the seconds since the start.

    As one JSON object per line when `RUNYARD_LOG=json`, as in the log of the service.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._json = os.environ.get("RUNYARD_LOG") == "json"

    def say(self, text: str) -> None:
        """Print one line, such as `[ 12.3 s] python: installing libraries`."""
        seconds = time.monotonic() - self._start
        line = f"[{seconds:5.1f} s] {text}"
        if self._json:
            at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            line = json.dumps({"at": at, "level": "INFO", "component": "images", "message": line})
        print(line, file=sys.stderr, flush=True)


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
        # apt, pip and npm show the URL that they could not reach, which may hold a password.
        shown = mask(tail, other_secrets(os.environ))
        raise BuildFailed(f"{what}: {argv[0]} ended with {done.returncode}\n{shown}")
    return done.stdout
