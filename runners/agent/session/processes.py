"""Start a process of a session: a keeper, which is the subreaper of a tree, and beneath it the program."""

import _signal
import os

from agent.frames import unpack
from agent.landlock import landlock
from agent.libc import call
from agent.program import Pipes, default_signals, execute, first_for_the_oom_killer, set_dumpable
from agent.session import trees
from agent.session.children import NOTES_FD, take_descriptors

PR_SET_CHILD_SUBREAPER = 36
NOTE_NUMBER_BYTES = 4


def start_process(env, parts):
    """Start a process; `parts` are cwd, argv, and variables that `env` gets besides. Raises OSError.

    Returns (child, pipes, notes).
    """
    cwd, argv, own = parts
    env = {**env, **dict([pair.split(b"=", 1) for pair in unpack(own)])}
    pipes = Pipes()
    notes, theirs = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(notes, False)
    pid = os.fork()
    if pid == 0:
        try:
            _keep(pipes, theirs, unpack(argv), env, cwd)
        finally:
            os._exit(1)
    pipes.close_theirs()
    os.close(theirs)
    return pid, pipes, notes


def _keep(pipes, notes, argv, env, cwd):
    """Be the keeper of a tree: start its program, report how that ended, and end when the tree is gone."""
    take_descriptors(pipes, notes)
    call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _signal.signal(_signal.SIGUSR1, lambda _number, _frame: trees.kill_beneath(os.getpid()))
    program = os.fork()
    if program == 0:
        try:
            _become(argv, env, cwd)
        except BaseException as e:
            os.write(2, f"cannot start {os.fsdecode(argv[0])}: {e}\n".encode())
        finally:
            os._exit(127)
    _let_go()
    _note(b"S", program)
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            os._exit(0)
        if pid == program:
            _note(b"X", status)


def _become(argv, env, cwd):
    """Become the program: a session of its own, its Landlock domain, the signals that it expects."""
    os.close(NOTES_FD)
    _signal.signal(_signal.SIGUSR1, _signal.SIG_DFL)
    default_signals()
    os.setsid()
    set_dumpable(1)
    first_for_the_oom_killer()
    landlock.enter()
    execute(argv, env, cwd)


def _let_go():
    """Close the program's streams here, so that they end with the program."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def _note(kind, number):
    os.write(NOTES_FD, kind + number.to_bytes(NOTE_NUMBER_BYTES, "big"))
