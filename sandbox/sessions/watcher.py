"""The program of the process beside the worker (`sandbox.sessions.watch`): the standard library alone.

Its standard input has a line for each group that is frozen, `+PATH`, and each that is thawed or ended, `-PATH`.
When it ends, the worker has gone.
"""

from __future__ import annotations

import contextlib
import os
import signal

READ_BYTES = 64 * 1024


def main(source: int = 0) -> None:
    """Keep the list of frozen groups until the worker has gone, then let their processes die."""
    with contextlib.suppress(PermissionError):  # it leads a session already
        os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    frozen: set[str] = set()
    buffer = b""
    while data := os.read(source, READ_BYTES):
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            (frozen.add if line[:1] == b"+" else frozen.discard)(line[1:].decode())
    for path in frozen:
        release(path)


def release(path: str) -> None:
    """Kill the processes of a group, and let them go on where they can die only then."""
    for name, value in (("cgroup.kill", b"1"), ("cgroup.freeze", b"0")):
        with contextlib.suppress(OSError):
            file = os.open(f"{path}/{name}", os.O_WRONLY)
            try:
                os.write(file, value)
            finally:
                os.close(file)


if __name__ == "__main__":
    main()
