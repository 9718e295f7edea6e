"""The program's side of the fork: the pipes, the waiting child, and the cold start."""

import _signal
import os

from agent.frames import pack, unpack
from agent.landlock import landlock
from agent.libc import call

HOLD_FD = 3
#: Directory for files of an interpreter that starts ahead, until it waits.
HOLD_DIRECTORY = "/tmp/.hold"  # noqa: S108  # the sandbox's own
PR_SET_DUMPABLE = 4


class Released(BaseException):
    """Raised in a forked kernel to leave the agent for good: the interpreter goes on as the kernel."""

    def __init__(self, env):
        super().__init__()
        self.env = env


class Pipes:
    """stdin, stdout and stderr of the program: our ends (non-blocking) and its ends."""

    __slots__ = ("stderr", "stdin", "stdout", "theirs")

    def __init__(self):
        child_in, self.stdin = os.pipe2(os.O_CLOEXEC)
        self.stdout, child_out = os.pipe2(os.O_CLOEXEC)
        self.stderr, child_err = os.pipe2(os.O_CLOEXEC)
        self.theirs = (child_in, child_out, child_err)
        for fd in (self.stdin, self.stdout, self.stderr):
            os.set_blocking(fd, False)

    def become_theirs(self):
        """Put the program's ends at 0, 1 and 2 and close every other end: in the child."""
        for target, fd in enumerate(self.theirs):
            os.dup2(fd, target, inheritable=True)
        for fd in (*self.theirs, self.stdin, self.stdout, self.stderr):
            os.close(fd)

    def close(self):
        """Close every end, where nothing was started."""
        self.close_theirs()
        for fd in (self.stdin, self.stdout, self.stderr):
            os.close(fd)

    def close_theirs(self):
        """Close the program's ends in PID 1, after the fork: otherwise its pipes never end."""
        for fd in self.theirs:
            os.close(fd)


def default_signals():
    """Undo what PID 1 set, and what the interpreter of PID 1 set for itself."""
    for number in (_signal.SIGCHLD, _signal.SIGINT, _signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)


def setup_child(pipes, close):
    """Give a new child its session, descriptors (not PID 1's, `close`), OOM score and Landlock domain."""
    _signal.set_wakeup_fd(-1)
    for fd in close:
        os.close(fd)
    os.setsid()
    pipes.become_theirs()
    set_dumpable(1)
    first_for_the_oom_killer()
    landlock.enter()


def execute(argv, env, cwd="/work"):
    """Become `argv`, looked up in the image's own PATH. Only returns by raising OSError."""
    os.chdir(cwd)
    last = FileNotFoundError(argv[0])
    name = argv[0]
    candidates = [name] if b"/" in name else [d + b"/" + name for d in os.environb[b"PATH"].split(b":")]
    for path in candidates:
        try:
            os.execve(path, argv, env)
        except OSError as e:
            last = e
    raise last


def start_cold(argv, env, pipes, close):
    """Fork and execute `argv`. Returns the child's pid; `close` are PID 1's own descriptors."""
    pid = os.fork()
    if pid:
        pipes.close_theirs()
        return pid
    try:
        default_signals()
        setup_child(pipes, close)
        execute(argv, env)
    except BaseException as e:
        _cannot_start(argv, e)


def _cannot_start(argv, error):
    """Report the error and exit: this process must not continue as a second PID 1."""
    os.write(2, f"cannot start {os.fsdecode(argv[0])}: {error}\n".encode())
    os._exit(127)


def start_waiting(pipes, close):
    """Fork a child that waits for a command to execute. Returns (pid, the pipe for the command)."""
    pid, rest = start_forked(pipes, close)
    if pid is None:
        argv, env = rest
        try:
            default_signals()
            execute(argv, dict(env))
        except BaseException as e:
            _cannot_start(argv, e)
    return pid, rest


def start_held(argv, pipes, close):
    """Start the interpreter ahead of its job, waiting on descriptor 3. Returns (pid, the pipe to release it)."""
    wait_fd, go_fd = os.pipe2(os.O_CLOEXEC)
    env = dict(os.environb)
    env[b"RUNYARD_HOLD_FD"] = b"%d" % HOLD_FD
    pid = os.fork()
    if pid:
        os.close(wait_fd)
        pipes.close_theirs()
        return pid, go_fd
    try:
        default_signals()
        setup_child(pipes, close)
        if wait_fd == HOLD_FD:
            os.set_inheritable(wait_fd, True)
        else:
            os.dup2(wait_fd, HOLD_FD, inheritable=True)
        execute(argv, env)
    finally:
        os._exit(127)


def clear_hold(folder=HOLD_DIRECTORY):
    """Remove what an interpreter left that was ended before it waited; nothing of the user's has run yet."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        os.unlink(folder + "/" + name)
    os.rmdir(folder)


def start_forked(pipes, close, get_ready=None):
    """Fork the waiting copy of this interpreter. In PID 1: (pid, the pipe to release it). In the child, once
    released: None and its (arguments, environment); a child whose PID 1 is gone ends here.
    """
    wait_fd, go_fd = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid:
        os.close(wait_fd)
        pipes.close_theirs()
        return pid, go_fd
    try:
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        setup_child(pipes, (*close, go_fd))
        if get_ready is not None:
            get_ready()
        message = read_message(wait_fd)
        os.close(wait_fd)
    except BaseException:
        os._exit(127)
    if message is None:
        os._exit(0)
    args, env = message
    return None, (args, env)


def release(go_fd, args, env):
    """Hand the waiting interpreter its arguments and environment, and let it go."""
    body = pack([pack(args), pack([key + b"=" + value for key, value in env.items()])])
    message = len(body).to_bytes(4, "big") + body
    while message:
        message = message[os.write(go_fd, message) :]
    os.close(go_fd)


def read_message(fd):
    """Return what `release` sent, as (args, env pairs); None at end of file."""
    data = b""
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        chunk = os.read(fd, 65536)
        if not chunk:
            return None
        data += chunk
    args, env = unpack(data[4:])
    return unpack(args), [pair.split(b"=", 1) for pair in unpack(env)]


def set_dumpable(value):
    """Open (1) or close (0) this process's memory and descriptors to others of its uid. See prctl(2)."""
    if call("prctl", PR_SET_DUMPABLE, value, 0, 0, 0) != 0:
        raise OSError("prctl(PR_SET_DUMPABLE) failed")


def first_for_the_oom_killer():
    """Make this process and its children the kernel's first choice when memory runs out."""
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(fd, b"1000")
    os.close(fd)
