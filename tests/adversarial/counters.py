"""Counters of the whole machine, watched while a row runs: a kernel of the sandbox's own must leave them alone."""

from __future__ import annotations

import contextlib
import re
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
LOCKS = Path("/sys/kernel/slab/file_lock_cache/objects")
PAGE = resource.getpagesize()
LOOKS_EVERY_S = 0.02
#: By how much each may grow while the row runs: the machine is not the tests' alone. A row takes far more.
#: Memory of TCP is left out, as the traffic of others moves it by a hundred MiB and more.
SLACK = {
    "file locks": 1024,
    "open files": 4096,
    "terminals": 8,
    "MiB for UDP": 16,
    "names in the cache": 400_000,
    "MiB that nobody is charged for": 120,
}


def read_counters() -> dict[str, int]:
    """Return what the machine's kernel counts; a counter that it does not have is left out."""
    found = {}
    with contextlib.suppress(OSError):
        found["file locks"] = int(LOCKS.read_text().split()[0])
    found["open files"] = int((PROC / "sys/fs/file-nr").read_text().split()[0])
    found["terminals"] = int((PROC / "sys/kernel/pty/nr").read_text())
    found["names in the cache"] = int((PROC / "sys/fs/dentry-state").read_text().split()[0])
    sockets = (PROC / "net/sockstat").read_text()
    found["MiB for UDP"] = int(_number(r"UDP: .*mem (\d+)", sockets)) * PAGE >> 20
    memory = (PROC / "meminfo").read_text()
    found["MiB that nobody is charged for"] = int(_number(r"SUnreclaim:\s+(\d+)", memory)) >> 10
    return found


def _number(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, pattern
    return found[1]


@contextlib.contextmanager
def left_alone() -> Iterator[None]:
    """Raise AssertionError for what grows beyond its slack meanwhile."""
    before = read_counters()
    most = dict(before)
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOKS_EVERY_S):
            for name, count in read_counters().items():
                most[name] = max(most[name], count)

    watch = threading.Thread(target=look, daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()
    grown = {name: most[name] - before[name] for name in before}
    assert {name: count for name, count in grown.items() if count > SLACK[name]} == {}, grown
