"""A process beside the worker that makes user namespaces on request.

Making one forks, and a worker with threads must not: the child would have the locks of threads that it does not
have, and copies of every sandbox's stream. This process is forked from the worker before that has threads, has none
itself, and holds nothing but its socket. It ends when the worker has gone.
"""

from __future__ import annotations

import array
import os
import signal
import socket
import threading

import orjson

from sandbox.engines import EngineError, EngineUnusable
from sandbox.engines.syscalls import CLONE_NEWUSER, become_user, unshare

#: A namespace is made in a few milliseconds, also on a machine that is busy with starting sandboxes.
ANSWER_S = 10.0
MESSAGE_BYTES = 4096
_FIRST_FREE_FD = 3
_HIGHEST_FD = 1 << 20
NO_USER_NAMESPACE = (
    "this kernel does not let a user namespace be made -> sysctl user.max_user_namespaces=65536; in a container, "
    "start it with CAP_SYS_ADMIN"
)
IdMapping = list[tuple[int, int, int]]


class NamespaceMaker:
    """The worker's end. Create it before there are threads; `make` may be called by any."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._lock = threading.Lock()
        self._socket.settimeout(ANSWER_S)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _serve(_leave_worker(theirs.detach()))
            finally:
                os._exit(0)
        theirs.close()

    def make(self, owner: int, mapping: IdMapping) -> int:
        """Do as `make_user_namespace` does. Raises EngineError."""
        try:
            with self._lock:
                self._socket.send(orjson.dumps([owner, mapping]))
                while True:
                    said, descriptors = _received(self._socket)
                    about, _, problem = said.partition(b" ")
                    if not said or int(about) == owner:
                        break
                    for late in descriptors:  # the answer to a request that was given up
                        os.close(late)
        except OSError as e:
            raise EngineError(f"the process that makes user namespaces does not answer: {e}") from e
        if not descriptors:
            raise EngineError(problem.decode("utf-8", "replace") or "no process makes user namespaces any more")
        return descriptors[0]

    def close(self) -> None:
        """End the process."""
        self._socket.close()


def _leave_worker(fd: int) -> socket.socket:
    """Close what the worker has open, and take the defaults of signals; returns the socket."""
    os.setsid()
    kept = fd if fd == _FIRST_FREE_FD else os.dup2(fd, _FIRST_FREE_FD, inheritable=False)
    os.closerange(_FIRST_FREE_FD + 1, _HIGHEST_FD)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return socket.socket(fileno=kept)


def _serve(ours: socket.socket) -> None:
    while request := ours.recv(MESSAGE_BYTES):
        owner, mapping = orjson.loads(request)
        try:
            made = make_user_namespace(owner, [(inside, outside, count) for inside, outside, count in mapping])
        except (EngineUnusable, OSError) as e:
            ours.send(f"{owner} {e}".encode()[:MESSAGE_BYTES])
            continue
        socket.send_fds(ours, [b"%d" % owner], [made])
        os.close(made)


def make_user_namespace(owner: int, mapping: IdMapping) -> int:
    """Make a user namespace owned by host uid `owner`; a descriptor that keeps it. For a process without threads.

    `mapping` is of (first id inside, first id on the host, count).
    """
    ready_read, ready_write = os.pipe()
    hold_read, hold_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            become_user(owner)
            unshare(CLONE_NEWUSER)
            os.write(ready_write, b"1")
            os.close(hold_write)
            os.read(hold_read, 1)
        finally:
            os._exit(0)
    os.close(ready_write)
    try:
        if os.read(ready_read, 1) != b"1":
            raise EngineUnusable(NO_USER_NAMESPACE)
        text = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in mapping)
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write(text)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(hold_write)
        for fd in (ready_read, hold_read):
            os.close(fd)
        os.waitpid(pid, 0)


def _received(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Return a message and its descriptors, closed on exec: every runtime is started from this process.

    `socket.recv_fds` takes flags and does not pass them on (CPython 3.11), so its descriptors would be inherited.
    """
    found = array.array("i")
    space = socket.CMSG_SPACE(found.itemsize)
    said, ancillary, _, _ = sock.recvmsg(MESSAGE_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) // found.itemsize * found.itemsize])
    return said, list(found)
