"""Reading and writing the files of control groups."""

from __future__ import annotations

import contextlib
import errno
import os
import time

from sandbox.engines import EngineError

READ_BYTES = 64 * 1024


def write(path: str, value: int | str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)


def read(path: str) -> str:
    # Not `open`: its buffering and decoding cost more than the kernel's part, a dozen times a run.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, READ_BYTES).decode()
    finally:
        os.close(fd)


def keyed(text: str, key: str) -> int:
    """Return the number after `key` in a flat-keyed file; 0 if it is absent."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


def pids_in(path: str) -> list[int]:
    with contextlib.suppress(OSError):  # the group has gone
        return [int(pid) for pid in read(f"{path}/cgroup.procs").split()]
    return []


def remove_directory(path: str) -> None:
    """rmdir, again for a moment while the kernel still counts exited processes in the group."""
    for _ in range(200):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return
        except OSError as e:
            if e.errno != errno.EBUSY:
                raise
            time.sleep(0.005)
        else:
            return
    raise EngineError("a control group stays busy")
