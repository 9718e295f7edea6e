"""Use this terminal as that of a process in a session: keys out, output in, its size, and a key to leave."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import termios
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runyard.cli.escapes import EscapeFilter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runyard._websocket import WebSocket

#: Ctrl-], as of telnet.
DETACH_KEY = b"\x1d"
_READ_BYTES = 32 * 1024
_MOST_CELLS = 1000


class Detached(Exception):
    """The user left; the process goes on."""


def size() -> tuple[int, int]:
    """Return columns and rows of this terminal, or of one that is usual."""
    try:
        cols, rows = os.get_terminal_size(sys.stdin.fileno())
    except OSError:
        return 80, 24
    return min(max(cols, 1), _MOST_CELLS), min(max(rows, 1), _MOST_CELLS)


def converse(websocket: WebSocket) -> dict[str, object] | None:
    """Connect this terminal with a process until that ends; its `exit` message, or None if there was none.

    Raises Detached, ConnectionFailed.
    """
    found: dict[str, object] | None = None
    escapes = EscapeFilter()
    keys = sys.stdin.fileno()
    with _raw(keys), _resized() as resized:
        watched: list[int] = [websocket.fileno(), resized, keys]
        while websocket.closed is None:
            ready = [websocket.fileno()] if websocket.pending else select.select(watched, [], [])[0]
            if resized in ready:
                os.read(resized, _READ_BYTES)
                cols, rows = size()
                websocket.send(json.dumps({"type": "resize", "cols": cols, "rows": rows}))
            if keys in ready and not _pass_on(keys, websocket):
                watched.remove(keys)
            if websocket.fileno() in ready:
                found = _show(websocket, escapes) or found
    return found


def _pass_on(keys: int, websocket: WebSocket) -> bool:
    """Send what was typed. Returns False at the end of the input."""
    data = os.read(keys, _READ_BYTES)
    if not data:
        websocket.send(json.dumps({"type": "close_stdin"}))
        return False
    before, key, _ = data.partition(DETACH_KEY) if os.isatty(keys) else (data, b"", b"")
    if before:
        websocket.send(before)
    if key:
        raise Detached
    return True


def _show(websocket: WebSocket, escapes: EscapeFilter) -> dict[str, object] | None:
    """Write what has come. Returns the message that says how the process ended, if that is among it."""
    found = None
    for message in websocket.receive():
        if isinstance(message, bytes):
            _write(escapes.feed(message))
        elif (said := json.loads(message)).get("type") == "exit":
            found = said
    return found


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    """Have every key go to the process, also Ctrl-C; as before at the end."""
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSADRAIN)  # what was typed ahead is for the process
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def _resized() -> Iterator[int]:
    """Yield a descriptor that becomes readable when the size of this terminal changes."""
    readable, writable = os.pipe()
    for fd in (readable, writable):
        os.set_blocking(fd, False)
    before = signal.signal(signal.SIGWINCH, lambda _number, _frame: None)
    woken = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    try:
        yield readable
    finally:
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGWINCH, before)
        os.close(readable)
        os.close(writable)
