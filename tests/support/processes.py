"""Read /proc of processes that go on while they are looked at: what ends meanwhile is left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def opened(pid: int) -> Iterator[str]:
    """Read where each open descriptor of a process leads, such as `socket:[42]` or a path."""
    folder = Path(f"/proc/{pid}/fd")
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):
            yield os.readlink(folder / name)


def statuses(pid: int) -> Iterator[dict[str, str]]:
    """Read the status of each thread of a process: each has its own rights."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            lines = (line.partition(":") for line in (task / "status").read_text().splitlines())
            yield {name: value.strip() for name, _, value in lines}
