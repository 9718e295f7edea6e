"""The stream of one run, from the service to the browser, piece by piece as it comes.

A second thread watches the browser's connection: one that closes it (the stop button, a closed tab) ends the run,
also while the program prints nothing. The same thread ends a run that takes longer than it may.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Self

from web.demo.upstream import UpstreamRun

PIECE_BYTES = 64 * 1024
#: Of one run; the last event repeats the output.
MAX_STREAM_BYTES = 8 * 1024 * 1024

TOO_MUCH = "The program prints more than the demo passes on."
TOO_LONG = "The program and its preparation took longer than the demo waits."
CUT = "The connection to the service ended before the program did."


class Watch:
    """Stops a run when the browser's connection ends, or at the deadline."""

    def __init__(self, run: UpstreamRun, browser: socket.socket, within_s: float) -> None:
        self._run = run
        self._browser = browser
        self._deadline = time.monotonic() + within_s
        self._done = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self.is_late = False
        self.is_left = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.eventfd_write(self._done, 1)
        self._thread.join()
        os.close(self._done)

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._done, select.POLLIN)
        # After its request a browser sends nothing: anything that can be read is the end.
        poll.register(self._browser, select.POLLIN | select.POLLRDHUP)
        ready = [found for found, _ in poll.poll(max(0.0, self._deadline - time.monotonic()) * 1000)]
        if self._done in ready:
            return
        self.is_left, self.is_late = bool(ready), not ready
        self._run.stop()


def relay(run: UpstreamRun, write: Callable[[bytes], object], watch: Watch) -> None:
    """Pass a run's events on until it ends. A stream that has no proper end gets an event that says why.

    Raises OSError if the browser has gone.
    """
    passed, problem = 0, None
    while True:
        try:
            block = run.read(PIECE_BYTES)
        except (OSError, http.client.HTTPException):
            problem = CUT
            break
        passed += len(block)
        if passed > MAX_STREAM_BYTES:
            problem = TOO_MUCH
        if not block or problem is not None:
            break
        write(block)
    if watch.is_late:
        problem = TOO_LONG
    if problem is not None and not watch.is_left:
        # An event of the service may be cut in the middle: an empty line ends it.
        write(b"\n\n" + error_event(problem))


def error_event(message: str) -> bytes:
    """Return an event as the service writes them."""
    event = {"event": "error", "data": {"error": "demo", "message": message}}
    return b"data: " + json.dumps(event).encode() + b"\n\n"
