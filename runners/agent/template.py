"""A template: a booted interpreter that never runs a program, and forks a fresh sandbox on request.

Theory of operation
===================
A template's container is recognised by its uid: it is root of a user namespace of its own, which maps one
range of ids for each slot. PID 1 forks at once and does nothing from then on but wait until it has no child left:
the sandboxes live in pid namespaces beneath its own, and must outlive a killed template. The other is the
template. It reads the confinement (see `enclosure.py`), imports its modules, reports it, and then, for each
message with a sandbox's stream and root:

* clones a child into new namespaces and writes its id maps, which only a process of the parent namespace may;
* the child, which has no further need of the template once they are there, sends one byte on its stream, by which
  the host learns its pid; the host puts it into its control group and answers with one byte; the child confines
  itself and returns from `fork_sandboxes`, PID 1 of a new sandbox, to serve one job as any other.

No byte of a job ever reaches the template: it has no end of a sandbox's stream but for the moment of forking. It is
single-threaded whenever it forks; a library that has started threads must have ended them, or there is no template.

When the host hangs up the template ends; its children do not.
"""

import _signal
import _socket
import os

import agent
from agent import enclosure, kernel, sharing
from agent.descriptors import receive
from agent.frames import unpack
from agent.landlock import landlock

NAMESPACES = (
    kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNS
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
)
MAX_MESSAGE = 128 * 1024
DESCRIPTORS = 2
#: OpenSSL recognises a fork by its pid. A program must not get the template's number.
TEMPLATE_PID = 30_000
READY = b"ready"
HELLO, GO = b"h", b"g"


def fork_sandboxes():
    """Be a template. Returns only in a child that has become a sandbox, its stream at descriptors 0 and 1."""
    try:
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
        _wait_for_children()
        control = _control()
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # before the one that keeps the sandboxes, should their group run out of memory
    except BaseException:  # it cannot be reported
        os._exit(1)
    try:
        walls_bytes, modules = unpack(control.recv(MAX_MESSAGE))
        walls = enclosure.Walls(walls_bytes)
        _prepare(unpack(modules))
        # Children are reaped by the kernel: their exit status is not needed. A sandbox sets its own handler.
        _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)
        control.send(READY)
        _serve(control, walls)
    except BaseException as e:  # after any error, no program may run in this process
        try:
            control.send(f"!{type(e).__name__}: {e}"[:400].encode())
        finally:
            os._exit(1)


def _serve(control, walls):
    """Fork sandboxes until the host hangs up. Returns only in one of them."""
    while True:
        message, descriptors = receive(control, MAX_MESSAGE, DESCRIPTORS)
        if not message:
            os._exit(0)
        try:
            pid, start_pipe = _clone(unpack(message)[0])
        except OSError:
            pid = -1  # the host sees the stream close
        if pid == 0:
            control.detach()  # a descriptor that is closed here, with a number that will be another's
            _become_sandbox(walls, start_pipe, *descriptors)
            return
        for fd in descriptors:
            os.close(fd)


def _wait_for_children():
    """Fork the template as PID 1, then only wait until neither it nor any of its sandboxes is left."""
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(TEMPLATE_PID - 1))
    if os.fork() == 0:
        return
    os.closerange(0, 1024)
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            os._exit(0)


def _control():
    """Move the socket to the host off the standard descriptors, and return it."""
    control = _socket.socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    return control


def _prepare(modules):
    """Import the modules, and check that no thread is left and that little is copied in a child."""
    if modules:
        sharing.leave_openssl_as_it_is()
    for name in modules:
        __import__(name.decode())
    if modules:
        # Libraries with threads of their own end them before a fork and begin them again when needed.
        pid = os.fork()
        if pid == 0:
            os._exit(0)
    landlock.survey()
    for name in ("agent.artifacts", "agent.session.server"):  # a pooled sandbox imports them when it needs them
        __import__(name)
    if agent.imported is not None:
        agent.imported(bool(modules))
    sharing.share()
    if len(os.listdir("/proc/self/task")) != 1:
        raise RuntimeError("a template must have a single thread")


def _clone(first_id):
    """Clone a child whose ids 0..65535 are those from `first_id` on here.

    Returns (pid, -1), and (0, its start_pipe) in the child.
    """
    start_pipe, release = os.pipe2(os.O_CLOEXEC)
    pid = kernel.clone(NAMESPACES)
    if pid == 0:
        os.close(release)
        return 0, start_pipe
    os.close(start_pipe)
    try:
        place = f"/proc/{pid}/"
        mapping = b"0 %s 65536" % first_id
        for name, text in (("setgroups", b"deny"), ("uid_map", mapping), ("gid_map", mapping)):
            fd = os.open(place + name, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, text)
            finally:
                os.close(fd)
        os.write(release, GO)
    finally:
        os.close(release)
    return pid, -1


def _become_sandbox(walls, start_pipe, stream, root):
    """Become a sandbox, in the child. Any failure ends it, and the host sees its stream close."""
    try:
        if os.read(start_pipe, 1) != GO:
            os._exit(1)
        os.write(stream, HELLO)
        if os.read(stream, 1) != GO:
            os._exit(1)
        for target in (0, 1):
            os.dup2(stream, target)
        os.dup2(root, 3)
        os.closerange(4, 1024)
        enclosure.confine(walls, 3)
    except BaseException as e:  # it must not go on as a second template, or as half a sandbox
        _say(e)
        os._exit(1)


def _say(error):
    """Send the host the error of a failed child, in place of its READY."""
    try:
        os.write(0, f"!{error}"[:400].encode())
    except OSError:
        pass
