"""Start the children of a large PID 1 from a small process, its starter.

PID 1 of a session whose language has libraries is a fork of their interpreter. To fork that copies the page tables
of a hundred megabytes and of 700 mappings: five times the CPU of a small interpreter's fork, twice for each process
and once for each file operation. So the third is forked by a starter: an interpreter with the agent alone, executed
beside PID 1. A child that it forks is a child of PID 1 (CLONE_PARENT): all that PID 1 does with it is the same.

The starter lies in PID 1's Landlock domain and is not dumpable: a program can end it, and PID 1 then forks itself.
It can do no more. Without Landlock there is no starter, since a program could trace it until it has made itself not
dumpable.

A request is one message: a packed list, and the ends of the child's pipes. The answer is the pid of the child, or a
negative error number.
"""

import _signal
import _socket
import errno
import os
import select
import sys

from agent.descriptors import DESCRIPTOR_BYTES, receive
from agent.frames import pack, unpack
from agent.landlock import landlock
from agent.session.children import RULES_FD

PROGRAM = "/opt/runyard/agent/session/starter_main.py"
CONTROL_FD = 3
#: Requests that are larger are PID 1's own.
MAX_REQUEST = 64 * 1024
MAX_DESCRIPTORS = 5
ANSWER_BYTES = 16
#: Seconds for an answer: a program of the session may have stopped the starter.
ANSWER_S = 2.0
#: A PID 1 that has more than these bytes of its own is large.
LARGE_BYTES = 32 * 1024 * 1024
#: So many children are forked by PID 1 itself first: most sessions have no more.
FORKED_BEFORE = 2
#: So many are made: a program of the session may end each.
MOST_STARTERS = 8
CLONE_PARENT = 0x8000


class StarterUnusable(Exception):
    """The starter was not asked: it is gone, or the request is none for it."""


def may_have_one():
    """Return whether a starter is of use: forks of this process are expensive, and programs cannot trace it."""
    return landlock.children >= 0 and _own_bytes() > LARGE_BYTES


def _own_bytes():
    with open("/proc/self/statm", "rb") as file:
        _, resident, shared, *_ = map(int, file.read().split())
    return (resident - shared) * os.sysconf("SC_PAGESIZE")


class SessionStarter:
    """PID 1's end of its starter."""

    def __init__(self):
        """Execute it. Raises OSError."""
        self._control, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _execute(theirs.fileno())
            finally:
                os._exit(127)
        theirs.close()

    def close(self):
        """Let it go: it ends when its socket does."""
        self._control.close()

    def start(self, kind, parts, descriptors):
        """Have a child forked. Returns its pid.

        Raises OSError if there is none, TimeoutError if there may be one, and StarterUnusable.
        """
        request = pack([kind, *parts])
        if len(request) > MAX_REQUEST:
            raise StarterUnusable
        rights = b"".join([fd.to_bytes(DESCRIPTOR_BYTES, "little") for fd in descriptors])
        try:
            os.kill(self.pid, _signal.SIGCONT)  # a program of the session may have stopped it
            self._control.sendmsg(
                [request], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)], _socket.MSG_DONTWAIT
            )
        except OSError as e:
            raise StarterUnusable from e
        poller = select.poll()
        poller.register(self._control.fileno(), select.POLLIN)
        try:
            answer = self._control.recv(ANSWER_BYTES) if poller.poll(ANSWER_S * 1000) else b""
        except ConnectionResetError as e:  # it ended before it had read the request, see unix(7)
            raise StarterUnusable from e
        if not answer:
            raise TimeoutError(errno.ETIMEDOUT, "the process that starts others does not answer")
        if int(answer) < 0:
            raise OSError(-int(answer), os.strerror(-int(answer)))
        return int(answer)


def _execute(control):
    """Become the starter."""
    rules = landlock.children
    _signal.set_wakeup_fd(-1)
    null = os.open("/dev/null", os.O_RDWR)
    aside = [os.dup(fd) for fd in (null, null, null, control, rules)]
    for target, fd in enumerate(aside):
        os.dup2(fd, target, inheritable=True)
    os.closerange(RULES_FD + 1, 1024)
    os.chdir("/")
    os.execve(sys.executable, [sys.executable, "-I", "-S", PROGRAM], os.environb)


def serve():
    """Be the starter: fork a child for each request, until PID 1 closes the socket."""
    from agent.program import set_dumpable

    set_dumpable(0)
    landlock.children = RULES_FD
    control = _socket.socket(fileno=CONTROL_FD)
    # Keepers are forked with it blocked, until they can handle it.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGUSR1,))
    from agent import kernel
    from agent.session import operations, processes

    become = {b"process": processes.keep_given, b"operation": operations.operate_given}
    while True:
        request, descriptors = receive(control, MAX_REQUEST, MAX_DESCRIPTORS)
        if not request:
            os._exit(0)
        kind, *parts = unpack(request)
        try:
            pid = kernel.clone(CLONE_PARENT)
        except OSError as e:
            pid = -e.errno
        if pid == 0:
            try:
                become[kind](parts, descriptors)
            finally:
                os._exit(1)
        for fd in descriptors:
            os.close(fd)
        control.send(b"%d" % pid)
