"""Start a process of a session: a keeper, which is the subreaper of a tree, and beneath it the program."""

import _signal
import os

from agent.frames import pack, unpack
from agent.kernel import keep_for_ever
from agent.landlock import landlock
from agent.libc import call
from agent.program import Pipes, Released, default_signals, execute, first_for_the_oom_killer, set_dumpable
from agent.session import trees
from agent.session.children import NOTES_FD, REPLIES_FD, fork_here, take_descriptors
from agent.session.terminals import TERM, TerminalPipes, become_controlling

PR_SET_CHILD_SUBREAPER = 36
NOTE_NUMBER_BYTES = 4
#: The descriptor to which a kernel writes its replies.
KERNEL_REPLIES_FD = 3
#: Tells a keeper to kill what is beneath it.
_KILL = (_signal.SIGUSR1,)


class KernelPipes(Pipes):
    """The pipes of a kernel: requests at 0, the outputs of its cells, and its replies."""

    __slots__ = ("replies", "their_replies")

    def __init__(self):
        super().__init__()
        self.replies, self.their_replies = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.replies, False)

    def close(self):
        super().close()
        os.close(self.replies)

    def close_theirs(self):
        super().close_theirs()
        os.close(self.their_replies)


def start_process(fork, env, parts):
    """Start a process; `parts` are cwd, argv, variables that `env` gets besides, and the size of its terminal,
    empty where it has none. `fork` makes the child (see `SessionServer.fork`). Raises OSError.

    Returns (child, pipes, notes).
    """
    cwd, argv, own, size = parts
    env = _with_own(env, own)
    if size:
        env.setdefault(b"TERM", TERM)
    pipes = TerminalPipes(size) if size else Pipes()
    given = [cwd, argv, pack([name + b"=" + value for name, value in env.items()]), b"1" if size else b""]
    return _start(pipes, lambda notes: fork(b"process", given, (*pipes.theirs, notes), keep_given))


def keep_given(parts, descriptors):
    """Be the keeper of a process: `parts` are cwd, argv, variables, and if it has a terminal."""
    cwd, argv, variables, has_terminal = parts
    env = _with_own({}, variables)
    become = lambda: _become(unpack(argv), env, cwd, has_terminal=bool(has_terminal))  # noqa: E731
    _keep(descriptors[:3], descriptors[3], become)


def start_kernel(env, parts, get_ready, keep):
    """Start a kernel; `parts` are cwd, argv, variables that `env` gets besides, and if it may be a fork of this
    interpreter. `get_ready` prepares such a fork; None: there is none. `keep` is what must outlive the agent in it.
    Raises OSError.

    Returns (child, pipes, notes).
    """
    cwd, argv, own, may_fork = parts
    env = _with_own(env, own)
    if get_ready is not None and may_fork == b"1":
        become = lambda: _go_on(env, cwd, get_ready, keep)  # noqa: E731
    else:
        become = lambda: _become(unpack(argv), env, cwd, is_kernel=True)  # noqa: E731
    pipes = KernelPipes()
    return _start(
        pipes, lambda notes: fork_here(lambda: _keep(pipes.theirs, notes, become, replies=pipes.their_replies))
    )


def _with_own(env, own):
    return {**env, **dict([pair.split(b"=", 1) for pair in unpack(own)])}


def _start(pipes, fork):
    """Start a keeper by `fork`, which gets the keeper's pipe to PID 1. Returns (child, pipes, notes)."""
    notes, theirs = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(notes, False)
    # A keeper that is signalled to kill before it is ready does so when its program has been started.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _KILL)
    try:
        pid = fork(theirs)
    except OSError:
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _KILL)
        pipes.close()
        for fd in (notes, theirs):
            os.close(fd)
        raise
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _KILL)
    pipes.close_theirs()
    os.close(theirs)
    return pid, pipes, notes


def _keep(streams, notes, become, replies=-1):
    """Be the keeper of a tree: start its program, report how that ended, and end when the tree is gone."""
    take_descriptors(streams, notes, replies)
    call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _signal.signal(_signal.SIGUSR1, lambda _number, _frame: trees.kill_beneath(os.getpid()))
    program = os.fork()
    if program == 0:
        try:
            become()
        except Released:
            raise
        except BaseException:
            os._exit(127)
    _let_go()
    _note(b"S", program)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _KILL)
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            os._exit(0)
        if pid == program:
            _note(b"X", status)


def _become(argv, env, cwd, *, has_terminal=False, is_kernel=False):
    """Become the program: a session of its own, its terminal, its Landlock domain, the signals that it expects."""
    try:
        _leave_the_agent(has_terminal=has_terminal)
        default_signals()
        if is_kernel:
            os.dup2(REPLIES_FD, KERNEL_REPLIES_FD, inheritable=True)
        execute(argv, env, cwd)
    except BaseException as e:
        os.write(2, f"cannot start {os.fsdecode(argv[0])}: {e}\n".encode())
        raise


def _go_on(env, cwd, get_ready, keep):
    """Become a kernel that is a fork of this interpreter."""
    _leave_the_agent()
    for thing in keep:
        keep_for_ever(thing)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)  # until the kernel is ready for it
    os.dup2(REPLIES_FD, KERNEL_REPLIES_FD, inheritable=False)
    os.close(REPLIES_FD)
    os.chdir(cwd)
    get_ready()
    raise Released(env)


def _leave_the_agent(*, has_terminal=False):
    """Take leave of the keeper's part: its pipe and its signals, and enter the confinement of programs."""
    os.close(NOTES_FD)
    _signal.signal(_signal.SIGUSR1, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _KILL)
    # The host has given PID 1 and its keepers precedence over programs, so that a tree that forks can be killed.
    # An engine that was started by `nice` has less itself, and to take more is not permitted.
    if os.getpriority(os.PRIO_PROCESS, 0) < 0:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    os.setsid()
    if has_terminal:
        become_controlling()
    set_dumpable(1)
    first_for_the_oom_killer()
    landlock.enter()


def _let_go():
    """Close the program's streams here, so that they end with the program."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    os.closerange(REPLIES_FD, REPLIES_FD + 1)


def _note(kind, number):
    os.write(NOTES_FD, kind + number.to_bytes(NOTE_NUMBER_BYTES, "big"))
