"""Serve the channels of a session: move bytes between the stream and the tasks, and reap what has ended."""

import _signal
import os
import select
import time

from agent import frames
from agent.frames import unpack
from agent.link import CHUNK, UNSENT_HIGH, StreamClosed
from agent.session import trees
from agent.session.children import fork_here
from agent.session.operations import start_operation
from agent.session.processes import start_kernel, start_process
from agent.session.starter import FORKED_BEFORE, MOST_STARTERS, SessionStarter, StarterUnusable, may_have_one
from agent.session.tasks import Task

IN, OUT = select.EPOLLIN, select.EPOLLOUT
#: Seconds that a task has to end after it was signalled to.
END_S = 1.0


class SessionServer:
    """The state of a session: its tasks by channel and by child, and the descriptors that are watched."""

    def __init__(self, link, wake, payload, network=None, get_ready=None):
        """`network` is the proxy (agent/network.py) of a session that may reach hosts.

        `get_ready` makes of a fork of this interpreter one that may execute a program; None if it cannot be one.
        """
        (env,) = unpack(payload)
        self.link = link
        self.wake = wake
        self.get_ready = get_ready
        self.env = {**os.environb, **dict([pair.split(b"=", 1) for pair in unpack(env)])}
        self.tasks = {}
        self.children = {}
        self.poller = select.epoll()
        #: The watched descriptors: for each the mask and the function to call.
        self.watched = {}
        #: Tasks that were signalled to end, and when they are killed, in monotonic seconds.
        self.ending = {}
        #: Tasks whose outputs are not read, and until when, in monotonic seconds.
        self.resting = {}
        #: True if so much is unsent that no task is read from.
        self.held_back = False
        #: The number of children of processes and file operations so far.
        self.forks = 0
        #: The process that forks them from now on, and how many more such there may be.
        self.starter = None
        self.starters_left = MOST_STARTERS if may_have_one() else 0
        self.network = None
        if network is not None:
            self.take_network(network)

    def serve(self):
        """Serve until the host hangs up, which raises StreamClosed."""
        self.link.send(frames.IN_SESSION)
        self.watch(self.link.read_fd, IN, self.receive)
        self.watch(self.wake, IN, self.reap)
        while True:
            self.watch(self.link.write_fd, OUT if self.link.unsent else 0, self.link.flush)
            self.hold_back(len(self.link.unsent) >= UNSENT_HIGH)
            if self.network is not None:
                self.network.watch(self.watch)
            for fd, _event in self.poller.poll(self.look_at_times()):
                known = self.watched.get(fd)
                if known is not None:
                    known[1]()

    def expect_end(self, task):
        """Have a task killed if it does not end soon."""
        self.ending.setdefault(task, time.monotonic() + END_S)

    def let_rest(self, task, seconds):
        """Leave the outputs of a task alone for some seconds."""
        self.resting[task] = time.monotonic() + seconds
        task.is_resting = True
        task.update()

    def look_at_times(self):
        """Do what is due. Returns the seconds until the next look, -1 for never."""
        late_s = self.kill_late()
        if not self.resting:
            return late_s
        now = time.monotonic()
        for task, until in list(self.resting.items()):
            if until <= now or task.is_over:
                del self.resting[task]
                task.is_resting = False
                task.update()
        if not self.resting:
            return late_s
        rest_s = min(self.resting.values()) - now
        return rest_s if late_s < 0 else min(rest_s, late_s)

    def kill_late(self):
        """Kill the tasks that did not end in time. Returns the seconds until the next look, -1 for never."""
        if not self.ending:
            return -1
        now = time.monotonic()
        for task, deadline in list(self.ending.items()):
            if not task.child_alive:
                del self.ending[task]
            elif deadline <= now:
                task.kill_now()
                self.ending[task] = now + END_S
        return END_S if self.ending else -1

    def watch(self, fd, mask, call):
        """Have `call` called when the descriptor is ready for what the mask says; 0 watches it no more."""
        known = self.watched.get(fd)
        if known is None:
            if mask:
                self.poller.register(fd, mask)
                self.watched[fd] = mask, call
        elif not mask:
            self.poller.unregister(fd)
            del self.watched[fd]
        elif known[0] != mask:
            self.poller.modify(fd, mask)
            self.watched[fd] = mask, call

    def hold_back(self, held):
        if held != self.held_back:
            self.held_back = held
            for task in self.tasks.values():
                task.update()

    # -- from the host -----------------------------------------------------------------------------

    def receive(self):
        """Take what one read brings, frame by frame."""
        try:
            data = os.read(self.link.read_fd, CHUNK)
        except BlockingIOError:
            return
        if not data:
            raise StreamClosed
        self.link.inbox += data
        for channel, kind, payload in frames.take_channel_frames(self.link.inbox):
            self.handle(channel, kind, payload)

    def handle(self, channel, kind, payload):
        if kind == frames.OPEN:
            self.open(channel, payload)
            return
        if channel >= frames.FIRST_NETWORK_CHANNEL and self.network is not None:
            self.network.handle(channel, kind, payload)
            return
        task = self.tasks.get(channel)
        if task is None:  # it has closed while the host was sending
            return
        if kind == frames.STDIN:
            task.feed(payload)
        elif kind == frames.STDIN_END:
            task.end_input()
        elif kind == frames.CREDIT:
            task.grant(int(payload))
        elif kind == frames.SIGNAL:
            task.signal(int(payload))
        elif kind == frames.RESIZE:
            task.resize(payload)
        elif kind == frames.KILL:
            task.kill()

    def open(self, channel, payload):
        """Start a task. One that cannot be started ends at once, with the reason in its EXIT."""
        kind, *rest = unpack(payload)
        if kind == b"network":
            self.start_network(channel, *rest)
            return
        try:
            if kind == b"kernel":
                # In a forked kernel that number is another's: nothing may close it there.
                started = start_kernel(self.env, rest, self.get_ready, keep=(self.poller, self))
            else:
                process = kind == b"process"
                started = start_process(self.fork, self.env, rest) if process else start_operation(self.fork, rest)
            task = Task(self, channel, *started)
        except OSError as e:  # no more processes or descriptors
            self.send(channel, frames.EXIT, frames.pack([b"failed", str(e)[:400].encode()]))
            self.send(channel, frames.CLOSED)
            return
        self.tasks[channel] = self.children[task.child] = task
        task.update()

    def fork(self, kind, parts, descriptors, become):
        """Fork the child of a process or file operation, by the starter if there is one. Returns its pid.

        `become(parts, descriptors)` is what the child does. Raises OSError.
        """
        self.forks += 1
        if self.starter is not None:
            try:
                return self.starter.start(kind, parts, descriptors)
            except StarterUnusable:
                pass
            except TimeoutError:
                trees.send(self.starter.pid, _signal.SIGKILL)
                raise
        return fork_here(lambda: become(parts, descriptors))

    def prepare_starter(self):
        """Execute a starter, if that makes what comes cheaper: nothing waits for it."""
        if self.starter is None and self.forks > FORKED_BEFORE and self.starters_left:
            self.starters_left -= 1
            try:
                self.starter = SessionStarter()
            except OSError:  # no more processes or descriptors
                pass

    def start_network(self, channel, env):
        """Start the proxy of a session that was created without one, and tell how that went.

        `env` are the variables by which programs find it: tasks that start later have them, unless the session has
        its own. A program may have the port in use already.
        """
        try:
            from agent.network import Network

            self.take_network(Network(self.link))
        except (OSError, ImportError, MemoryError) as e:
            end = [b"failed", str(e)[:400].encode()]
        else:
            self.env = {**dict([pair.split(b"=", 1) for pair in unpack(env)]), **self.env}
            end = [b"exit", b"0"]
        self.send(channel, frames.EXIT, frames.pack(end))
        self.send(channel, frames.CLOSED)

    def take_network(self, network):
        network.before_close = lambda fd: self.watch(fd, 0, None)
        self.network = network

    # -- to the host -------------------------------------------------------------------------------

    def send(self, channel, kind, payload=b""):
        """Send a frame on a channel, or as much of it as the kernel takes now."""
        self.link.send_bytes(frames.head(kind, len(payload), channel) + payload)

    # -- the ends of children ----------------------------------------------------------------------

    def reap(self):
        """Collect every ended child: keepers, file operations, and orphans of keepers that were killed."""
        os.read(self.wake, CHUNK)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.starter is not None and pid == self.starter.pid:
                self.starter.close()
                self.starter = None
                continue
            task = self.children.pop(pid, None)
            if task is not None and not task.child_ended(status):
                # A program has killed its own keeper: what was beneath it is PID 1's now, and nobody's.
                spare = {*self.children, 0 if self.starter is None else self.starter.pid}
                trees.kill(trees.descendants(os.getpid(), spare=spare))

    def forget(self, task):
        """Let the channel of a task be used again: nothing of it is alive."""
        del self.tasks[task.channel]
        self.send(task.channel, frames.CLOSED)
        self.prepare_starter()
