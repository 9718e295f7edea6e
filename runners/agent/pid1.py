"""PID 1: sends READY, takes a job, moves bytes, kills and reaps everything, reports. See the package's text."""

import _signal
import os
import select
import time

from agent import frames
from agent.job import NO_JOB, AgentJob
from agent.landlock import landlock
from agent.link import CHUNK, UNSENT_HIGH, HostStream, StreamClosed
from agent.program import (
    Released,
    clear_hold,
    release,
    set_dumpable,
    start_cold,
    start_forked,
    start_held,
    start_waiting,
)
from agent.streams import Streams
from agent.work import DEFAULT_OUTPUTS, OUTPUTS, FileReceiver, has_outputs

#: The killed die within a millisecond, where they get a processor.
KILL_AGAIN_MS = 20


def serve(mode, hold_argv, get_ready=None):
    """Be PID 1 until the sandbox ends. Returns only in a forked, released child: its (args, env pairs); the args of
    a session's kernel are None.

    `get_ready` is called in a forked child, before it waits.
    """
    if os.getuid() == 0:  # a template's container: no sandbox has that uid
        from agent.template import fork_sandboxes

        fork_sandboxes()
    agent = Pid1()
    try:
        released = agent.prepare(mode, hold_argv, get_ready)
        if released is not None:
            return released
        agent.serve_job()
    except StreamClosed:
        agent.kill_everything()
    except Released as e:
        return None, list(e.env.items())
    finally:
        if os.getpid() == 1:
            os._exit(0)
    os._exit(0)


class Pid1:
    """The state of one sandbox's life: one stream, one job, one main process (before it, maybe, a compiler)."""

    def __init__(self):
        # The kernel shields the init of a pid namespace from every signal that has no handler here; the
        # interpreter has installed one, for SIGINT.
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
        set_dumpable(0)
        self.link = HostStream(os.dup(0), os.dup(1))
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        self.streams = Streams(self.link)
        self.wake, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.wake_write = wake_write
        _signal.signal(_signal.SIGCHLD, _nothing)
        _signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        #: The process started ahead, as (pid, the pipe to release it); and whether it executes a given command.
        self.held = None
        self.executes = False
        self.job = None
        self.main = 0
        self.compiling = False
        self.status = None
        self.deadline = None
        self.files = FileReceiver()
        #: The files that the host has put where artifacts are looked for: those that stay as they are, are none.
        self.given = {}
        #: The proxy (agent/network.py) of a run that may reach hosts; None in all others.
        self.network = None
        #: Prepares a fork of this interpreter for its program; None for an interpreter without such a hook.
        self.get_ready = None

    def own_descriptors(self):
        return (self.link.read_fd, self.link.write_fd, self.wake, self.wake_write)

    # -- before the job ----------------------------------------------------------------------------

    def prepare(self, mode, hold_argv, get_ready):
        """Start what can be started ahead. Non-None in the released child only."""
        self.get_ready = get_ready
        landlock.confine()
        for name in ("/work/inputs", OUTPUTS):
            os.mkdir(name, 0o755)
        if mode == "fork":
            pid, rest = start_forked(self.streams.pipes, self.own_descriptors(), get_ready)
            if pid is None:
                return rest
            self.held = (pid, rest)
        elif mode == "hold":
            self.held = start_held(hold_argv, self.streams.pipes, self.own_descriptors())
        else:
            self.held = start_waiting(self.streams.pipes, self.own_descriptors())
            self.executes = True
        self.prefault()
        self.link.send(frames.READY, frames.hello(landlock.version))
        return None

    def prefault(self):
        """Touch what taking a job will touch: since the fork what is written first is copied first, which takes as
        long as all else that is done then.
        """
        frames.take_frames(bytearray(frames.frame(frames.STDIN_END)))
        AgentJob(NO_JOB)
        self.wait(0)

    # -- the conversation --------------------------------------------------------------------------

    def serve_job(self):
        """Serve one job, from its first frame to the end: the compiler if the host asks for it, the program."""
        self.run_phase()
        if self.compiling:
            self.link.send(frames.COMPILED, frames.pack(self.ending()))
            self.compiling = False
            self.main, self.status = 0, None
            self.streams.renew()
            self.run_phase()
        self.report()

    def run_phase(self):
        """Wait for the host's frame to start the main process, and serve it until all its processes have exited."""
        while self.main == 0:
            self.wait(None)
        self.pump()
        self.kill_everything()
        self.streams.drain()

    def wait(self, timeout_ms):
        """Sleep until something happens, then move what can be moved."""
        poller = select.poll()
        self.link.register(poller)
        poller.register(self.wake, select.POLLIN)
        streams, network = self.streams, self.network
        if network is not None:
            network.register(poller)
        if self.main:
            self.register_streams(poller)
        for fd, event in poller.poll(timeout_ms):
            if fd == self.link.read_fd:
                self.receive()
            elif fd == self.link.write_fd:
                self.link.flush()
            elif fd == self.wake:
                os.read(self.wake, CHUNK)
                self.reap()
            elif network is not None and network.ready(fd, event):
                pass  # before stdin: a connection may have the number that a closed stdin had
            elif fd == streams.pipes.stdin:
                streams.feed_stdin()
            elif fd in streams.sent:
                streams.forward(fd)

    def register_streams(self, poller):
        streams = self.streams
        if len(self.link.unsent) < UNSENT_HIGH:
            for fd in streams.sent:
                poller.register(fd, select.POLLIN)
        if streams.stdin_waits():
            poller.register(streams.pipes.stdin, select.POLLOUT)

    def receive(self):
        if self.network is not None:
            self.receive_on_channels()
            return
        for kind, payload in self.link.receive():
            self.handle(kind, payload)

    def receive_on_channels(self):
        """Take what one read brings where there is a proxy, whose connections have channels of their own."""
        for channel, kind, payload in self.link.receive(frames.take_channel_frames):
            if channel == frames.RUN_CHANNEL:
                self.handle(kind, payload)
            else:
                self.network.handle(channel, kind, payload)

    def handle(self, kind, payload):
        if kind == frames.FILE:
            self.files.begin(*frames.unpack(payload))
        elif kind == frames.MORE:
            self.files.more(payload)
        elif kind == frames.JOB:
            self.job = AgentJob(payload)
        elif kind == frames.STDIN:
            self.streams.stdin_pending += payload
            if self.main:
                self.streams.feed_stdin()
        elif kind == frames.STDIN_END:
            self.streams.stdin_ended = True
            if self.main:
                self.streams.feed_stdin()
        elif kind == frames.COMPILE:
            self.compile()
        elif kind == frames.GO:
            self.go()
        elif kind == frames.KILL:
            self.kill_everything()
        else:
            self.handle_rare(kind, payload)

    def handle_rare(self, kind, payload):
        """Handle a frame whose code is imported when it comes: most sandboxes have no use for it."""
        if kind == frames.SESSION:
            from agent.session.server import SessionServer

            self.files.end()
            if self.held:
                self.discard_held()
            SessionServer(self.link, self.wake, payload, self.network, self.get_ready).serve()
        elif kind == frames.SIGNAL:
            self.signal(int(payload))
        elif kind == frames.NETWORK:
            from agent.network import Network

            self.network = Network(self.link)
        elif kind == frames.COLLECT:
            from agent.artifacts import Collector

            Collector(self.job, self.link.send_blocking, self.given).collect()

    def signal(self, number):
        """Send a signal to the main process, if it is alive."""
        if self.main and self.status is None:
            try:
                os.kill(self.main, number)
            except ProcessLookupError:
                pass

    def compile(self):
        """Start the compiler: in the image's environment, not the program's, and with nothing to read."""
        job = self.job
        self.compiling = True
        self.about_to_start(job.compile_deadline_ms)
        self.start(job.compile_argv, job.compile_env)
        self.streams.close_stdin()

    def go(self):
        """Start the program, or release the interpreter that waits for it."""
        job = self.job
        self.about_to_start(job.deadline_ms)
        if job.outputs != DEFAULT_OUTPUTS:
            self.files.make(job.outputs)
        self.given = self.files.given(job.outputs)
        if job.warm and self.held:
            self.release_held(job.program_args, job.env)
        else:
            self.start(job.argv + job.program_args, job.env)
        self.streams.feed_stdin()

    def start(self, argv, env):
        """Have a main process execute this: the one that waits for it, or a new one."""
        env = {**os.environb, **env}
        if self.held and self.executes:
            self.release_held(argv, env)
            return
        if self.held:
            self.discard_held()
        self.main = start_cold(argv, env, self.streams.pipes, self.own_descriptors())

    def release_held(self, args, env):
        """Release the process that was started ahead."""
        (self.main, go_fd), self.held = self.held, None
        try:
            release(go_fd, args, env)
        except BrokenPipeError:  # it has died; its end is reported like any other
            os.close(go_fd)

    def about_to_start(self, deadline_ms):
        """Set the deadline and the caps of a main process that is about to start: its files are complete."""
        self.files.end()
        self.deadline = time.monotonic() + deadline_ms / 1000
        self.streams.cap = self.job.max_output_bytes

    def discard_held(self):
        """End the waiting interpreter, which had the pipes, and make new ones."""
        (_, go_fd), self.held = self.held, None
        self.kill_everything()  # it may be a script yet, with a child at work
        os.close(go_fd)
        clear_hold()
        self.streams.renew()

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

    # -- the end -----------------------------------------------------------------------------------

    def kill_everything(self):
        """Kill every process of the sandbox but this one, and reap them all.

        Again while any is left: under gVisor a process that is being forked is not met by the signal that ends its
        parent. Not after each that ends, since the kernel goes through every process of the host for it.
        """
        while True:
            try:
                os.kill(-1, _signal.SIGKILL)
            except ProcessLookupError:
                pass
            if self.reap_all():
                return

    def reap_all(self):
        """Reap children until there is none left. False if some are, and none of them has ended for a while."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                if not self.wait_for_sigchld():
                    return False
            elif pid == self.main:
                self.status = status

    def wait_for_sigchld(self):
        """Return whether a child has ended since the last call, or ends soon."""
        poller = select.poll()
        poller.register(self.wake, select.POLLIN)
        return bool(poller.poll(KILL_AGAIN_MS) and os.read(self.wake, CHUNK))

    def ending(self):
        """Return how the main process ended and whether its outputs were cut, as the host reads it."""
        status = self.status
        if os.WIFSIGNALED(status):
            kind, number = b"signal", os.WTERMSIG(status)
        else:
            kind, number = b"exit", os.WEXITSTATUS(status)
        return [kind, b"%d" % number, *self.streams.truncation_flags()]

    def report(self):
        if self.network is not None:
            self.network.stop()
        outputs = has_outputs(self.job.outputs)
        last = frames.frame(frames.EXIT, frames.pack([*self.ending(), b"1" if outputs else b"0"]))
        if not outputs:
            last += frames.frame(frames.END, b"0")  # in one piece: the host is woken for each
        self.link.send_bytes(last)
        # Until the host hangs up: an engine whose control group goes with PID 1 reads the usage before that.
        while True:
            self.wait(None)


def _nothing(_number, _frame):
    """Do nothing: a handler must exist for the wake-up descriptor to be written."""
