"""One template: its container, the socket for its fork requests, and the time of its replacement."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import struct
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from sandbox.engines import EngineError
from sandbox.engines.cgroups.group import Group
from sandbox.engines.oci.sandbox import kill_all
from sandbox.frames import pack

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

#: With the libraries to import; on a machine under load.
BOOT_TIMEOUT_S = 60.0
#: A template answers within a millisecond or two; one that takes longer is replaced.
HELLO_TIMEOUT_S = 10.0
READY, HELLO, GO, FAILED = b"ready", b"h", b"g", b"!"
UCRED = struct.Struct("iII")
MAX_MESSAGE = 1024
#: Of a template's name, and so of its control group's; a sandbox's has hexadecimal digits alone.
TEMPLATE_PREFIX = "template-"


class TemplateClosed(EngineError):
    """It was replaced meanwhile: there is another, or none."""


class Template:
    """A template's container. `close` once: it goes when the last of its children has gone."""

    def __init__(self, name: str, control: socket.socket, clock: Callable[[], float] = time.monotonic) -> None:
        """`control` is the worker's end of the SOCK_SEQPACKET pair whose other end the container has.

        `clock` gives seconds.
        """
        self.id = name
        self.undo = ExitStack()
        self.group: Group | None = None
        self.branched = 0
        self._control = control
        self._lock = threading.Lock()
        self._children = 0
        self._closed = False
        self._keeper = -1
        self._process = -1
        self._clock = clock
        self._born = clock()

    def attach_pid(self, pid: int) -> None:
        """Note that PID 1 of the container, which keeps the children, is the host's `pid`."""
        try:
            self._keeper = os.pidfd_open(pid)
        except ProcessLookupError as e:
            raise EngineError("a template's container ended at once") from e

    def boot(self, walls: bytes, modules: tuple[str, ...]) -> None:
        """Send the confinement and the modules to import, and wait until they are imported. Raises EngineError."""
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._control.settimeout(BOOT_TIMEOUT_S)
        try:
            self._control.send(pack([walls, pack(name.encode() for name in modules)]))
            said, pid = receive_with_pid(self._control, MAX_MESSAGE)
            if said == READY:
                self._process = os.pidfd_open(pid)
        except OSError as e:
            raise EngineError(f"a template did not get ready: {e}") from e
        if said != READY:
            raise EngineError(f"a template did not get ready: {said.decode('utf-8', 'replace') or 'it ended'}")
        self._control.settimeout(HELLO_TIMEOUT_S)
        self._born = self._clock()

    def kill(self) -> None:
        """Kill the container's processes. Call it while the template boots, which fails then."""
        if self._keeper >= 0:
            _kill(self._keeper)

    def is_fit(self, *, most: float, seconds: float) -> bool:
        """Return whether it is alive, and below its maximum age and number of forks."""
        return self.is_alive() and self.branched < most and self._clock() - self._born < seconds

    def has_children(self) -> bool:
        """Return whether a sandbox that was forked from it lives."""
        with self._lock:
            return self._children > 0

    def is_alive(self) -> bool:
        """Return whether the forking process exists. It sends nothing unasked, so readable data means its end."""
        with self._lock:  # else it might be closed under the poll
            if self._closed:
                return False
            poller = select.poll()
            poller.register(self._control, select.POLLIN)
            return not poller.poll(0)

    def is_closed(self) -> bool:
        """Return whether it forks no more; it is in memory until its last child is gone."""
        with self._lock:
            return self._closed

    def fork(self, first_id: int, stream_fd: int, root_fd: int) -> None:
        """Request a fork with that stream and root; the new sandbox sends HELLO on the stream.

        Raises TemplateClosed, and EngineError for one that does not do it.
        """
        with self._lock:
            if self._closed:
                raise TemplateClosed("the template is closed")
            try:
                socket.send_fds(self._control, [pack([str(first_id).encode()])], [stream_fd, root_fd])
            except OSError as e:
                raise EngineError(f"a template cannot be reached: {e}") from e
            self.branched += 1
            self._children += 1

    def child_gone(self) -> None:
        """Note that a forked sandbox has been removed, or was never started."""
        with self._lock:
            self._children -= 1
            last = self._closed and self._children == 0
        if last:
            self._cleanup()

    def close(self, *, kill: bool = False) -> None:
        """Stop forking; forked sandboxes continue. `kill` kills the template instead of waiting for its exit."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            last = self._children == 0
            self._control.close()
        if kill and self._process >= 0:
            _kill(self._process)
        if last:
            self._cleanup()

    def _cleanup(self) -> None:
        """Remove the container, which holds only the keeper and an exiting template."""
        for fd in (self._process, self._keeper):
            if fd >= 0:
                _kill(fd)
                if fd == self._keeper:
                    _wait(fd)
                os.close(fd)
        self._process = self._keeper = -1
        if self.group is not None:
            kill_all(self.group)
        try:
            self.undo.close()
        except (OSError, EngineError):
            log.exception("a template was not removed in full", extra={"template": self.id})


def receive_with_pid(stream: socket.socket, size: int) -> tuple[bytes, int]:
    """Return a message and its sender's pid on the host, as the kernel reports it; SO_PASSCRED must be set."""
    data, ancillary, _, _ = stream.recvmsg(size, socket.CMSG_SPACE(UCRED.size))
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            return data, UCRED.unpack(content)[0]
    return data, 0


def _kill(pidfd: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _wait(pidfd: int) -> None:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.poll(HELLO_TIMEOUT_S * 1000)
