"""PID 1: says ready, takes a job, moves bytes, kills and reaps everything, reports. See the package's text."""

import _signal
import os
import select
import time

from agent import frames
from agent.job import Job
from agent.link import CHUNK, UNSENT_HIGH, Link, StreamClosed
from agent.program import Pipes, release, set_dumpable, start_cold, start_forked, start_held

WORK = b"/work/"
OUTPUTS = "/work/outputs"


def serve(mode, hold_argv):
    """Be PID 1 until the sandbox ends. Returns only in a forked, released child: its (args, env pairs)."""
    agent = Pid1()
    try:
        released = agent.prepare(mode, hold_argv)
        if released is not None:
            return released
        agent.converse()
    except StreamClosed:
        agent.kill_everything()
    finally:
        if os.getpid() == 1:
            os._exit(0)
    os._exit(0)


class Pid1:
    """The state of one sandbox's life: one stream, one job, one main process."""

    def __init__(self):
        # The kernel shields the init of a pid namespace from every signal that has no handler here; the
        # interpreter has installed one, for SIGINT.
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
        set_dumpable(0)
        self.link = Link(os.dup(0), os.dup(1))
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        self.pipes = Pipes()
        self.wake, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.wake_write = wake_write
        _signal.signal(_signal.SIGCHLD, _nothing)
        _signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self.held = None
        self.job = None
        self.main = 0
        self.status = None
        self.deadline = None
        self.stdin_pending = bytearray()
        self.stdin_ended = False
        self.stdin_open = True
        self.sent = {}
        self.truncated = {}
        self.file = -1

    def own_descriptors(self):
        return (self.link.read_fd, self.link.write_fd, self.wake, self.wake_write)

    # -- before the job ----------------------------------------------------------------------------

    def prepare(self, mode, hold_argv):
        """Start what can be started ahead. Non-None in the released child only."""
        for name in ("/work/inputs", OUTPUTS):
            os.mkdir(name, 0o755)
        if mode == "fork":
            pid, rest = start_forked(self.pipes, self.own_descriptors())
            if pid is None:
                return rest
            self.held = (pid, rest)
        elif mode == "hold":
            self.held = start_held(hold_argv, self.pipes, self.own_descriptors())
        self.link.send(frames.READY)
        return None

    # -- the conversation --------------------------------------------------------------------------

    def converse(self):
        """Serve one job, from its first frame to the end."""
        while self.main == 0:
            self.wait(None)
        self.pump()
        self.kill_everything()
        self.drain_outputs()
        self.report()

    def wait(self, timeout_ms):
        """Sleep until something happens, then move what can be moved."""
        poller = select.poll()
        self.link.register(poller)
        poller.register(self.wake, select.POLLIN)
        if self.main:
            if len(self.link.unsent) < UNSENT_HIGH:
                for fd in self.sent:
                    poller.register(fd, select.POLLIN)
            if self.stdin_open and self.stdin_pending:
                poller.register(self.pipes.stdin, select.POLLOUT)
        for fd, _event in poller.poll(timeout_ms):
            if fd == self.link.read_fd:
                self.receive()
            elif fd == self.link.write_fd:
                self.link.flush()
            elif fd == self.wake:
                os.read(self.wake, CHUNK)
                self.reap()
            elif fd == self.pipes.stdin:
                self.feed_stdin()
            else:
                self.forward(fd)

    def receive(self):
        for kind, payload in self.link.receive():
            self.handle(kind, payload)

    def handle(self, kind, payload):
        if kind == frames.FILE:
            self.begin_file(payload)
        elif kind == frames.MORE:
            _write_all(self.file, payload)
        elif kind == frames.JOB:
            self.job = Job(payload)
        elif kind == frames.STDIN:
            self.stdin_pending += payload
            if self.main:
                self.feed_stdin()
        elif kind == frames.STDIN_END:
            self.stdin_ended = True
            if self.main:
                self.feed_stdin()
        elif kind == frames.GO:
            self.go()
        elif kind == frames.KILL:
            self.kill_everything()
        elif kind == frames.COLLECT:
            from agent.artifacts import Collector  # most runs leave nothing to collect

            Collector(self.job, self.link.send_blocking).collect()

    def begin_file(self, payload):
        path, content = frames.unpack(payload)
        if self.file >= 0:
            os.close(self.file)
        directory = os.path.dirname(WORK + path)
        os.makedirs(directory, 0o755, exist_ok=True)
        self.file = os.open(WORK + path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        _write_all(self.file, content)

    def go(self):
        if self.file >= 0:
            os.close(self.file)
            self.file = -1
        job = self.job
        self.deadline = time.monotonic() + job.deadline_ms / 1000
        self.sent = {self.pipes.stdout: 0, self.pipes.stderr: 0}
        self.truncated = dict.fromkeys(self.sent, b"0")
        if job.warm and self.held:
            self.main, go_fd = self.held
            try:
                release(go_fd, job.program_args, job.env)
            except BrokenPipeError:  # the waiting interpreter has died; its end is reported like any other
                os.close(go_fd)
        else:
            if self.held:
                self.discard_held()
            env = dict(os.environb)
            env.update(job.env)
            argv = job.argv + job.program_args
            self.main = start_cold(argv, env, self.pipes, self.own_descriptors())
        self.held = None
        self.feed_stdin()

    def discard_held(self):
        """End the waiting interpreter, which had the pipes, and make new ones."""
        pid, go_fd = self.held
        os.kill(pid, _signal.SIGKILL)
        os.waitpid(pid, 0)
        for fd in (go_fd, self.pipes.stdin, self.pipes.stdout, self.pipes.stderr):
            os.close(fd)
        self.pipes = Pipes()
        self.sent = {self.pipes.stdout: 0, self.pipes.stderr: 0}
        self.truncated = dict.fromkeys(self.sent, b"0")

    # -- while it runs -----------------------------------------------------------------------------

    def pump(self):
        """Move bytes until the main process has ended."""
        while self.status is None:
            left_ms = (self.deadline - time.monotonic()) * 1000
            if left_ms <= 0:
                self.kill_everything()
                raise StreamClosed
            self.wait(left_ms + 1)

    def reap(self):
        """Collect every ended child; PID 1 inherits what the program orphaned."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.note_end(pid, status)

    def note_end(self, pid, status):
        if pid == self.main:
            self.status = status
        elif self.held and pid == self.held[0]:
            raise StreamClosed  # a sandbox without its interpreter is of no use

    def feed_stdin(self):
        """Write what the program takes of its stdin, tell the host, close at the end."""
        if not self.stdin_open:
            taken = len(self.stdin_pending)
        else:
            taken = 0
            try:
                while taken < len(self.stdin_pending):
                    taken += os.write(self.pipes.stdin, self.stdin_pending[taken : taken + CHUNK])
            except BlockingIOError:
                pass
            except BrokenPipeError:
                taken = len(self.stdin_pending)
                self.close_stdin()
        if taken:
            del self.stdin_pending[:taken]
            self.link.send(frames.STDIN_TAKEN, b"%d" % taken)
        if self.stdin_ended and not self.stdin_pending:
            self.close_stdin()

    def close_stdin(self):
        if self.stdin_open:
            self.stdin_open = False
            os.close(self.pipes.stdin)

    def forward(self, fd):
        """Pass on one read of a program's stream, up to its cap. Returns whether there was anything."""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            del self.sent[fd]
            return False
        room = self.job.max_output_bytes - self.sent[fd]
        if len(data) > room:
            self.truncated[fd] = b"1"
            data = data[:room]
        if data:
            self.sent[fd] += len(data)
            self.link.send(frames.STDOUT if fd == self.pipes.stdout else frames.STDERR, data)
        return True

    # -- the end -----------------------------------------------------------------------------------

    def kill_everything(self):
        """Kill every process of the sandbox but this one, and reap them all."""
        try:
            os.kill(-1, _signal.SIGKILL)
        except ProcessLookupError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                return
            if pid == self.main:
                self.status = status

    def drain_outputs(self):
        """Take what is left in the pipes: their writers are dead, so they come to an end."""
        for fd in list(self.sent):
            while fd in self.sent and self.forward(fd):
                self.link.flush_below(UNSENT_HIGH)

    def report(self):
        status = self.status
        if os.WIFSIGNALED(status):
            kind, number = b"signal", os.WTERMSIG(status)
        else:
            kind, number = b"exit", os.WEXITSTATUS(status)
        outputs = has_outputs()
        truncated = [self.truncated[fd] for fd in (self.pipes.stdout, self.pipes.stderr)]
        self.link.send(frames.EXIT, frames.pack([kind, b"%d" % number, *truncated, b"1" if outputs else b"0"]))
        if not outputs:
            self.link.send(frames.END, b"0")
            self.link.flush_below(1)
        # Until the host hangs up: an engine whose control group goes with PID 1 reads the usage before that.
        while True:
            self.wait(None)


def _nothing(_number, _frame):
    """A handler must exist for the wake-up descriptor to be written."""


def _write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def has_outputs():
    """Whether there is anything to collect: an untouched directory needs no second exchange."""
    try:
        with os.scandir(OUTPUTS) as entries:
            return next(entries, None) is not None or os.path.islink(OUTPUTS)
    except FileNotFoundError:
        return False
    except OSError:
        return True
