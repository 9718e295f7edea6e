"""Serve the channels of a session: move bytes between the stream and the tasks, and reap what has ended."""

import os
import select
import time

from agent import frames
from agent.frames import unpack
from agent.link import CHUNK, UNSENT_HIGH, StreamClosed
from agent.session import trees
from agent.session.operations import start_operation
from agent.session.processes import start_process
from agent.session.tasks import Task

IN, OUT = select.EPOLLIN, select.EPOLLOUT
#: A task that was told to end has so long for it.
END_S = 1.0


class SessionServer:
    """The state of a session: its tasks by channel and by child, and the descriptors that are watched."""

    def __init__(self, link, wake, payload):
        (env,) = unpack(payload)
        self.link = link
        self.wake = wake
        self.env = {**os.environb, **dict([pair.split(b"=", 1) for pair in unpack(env)])}
        self.tasks = {}
        self.children = {}
        self.poller = select.epoll()
        #: What is watched: the mask and the function to call, by descriptor.
        self.watched = {}
        #: Tasks that were told to end, and when they are killed, in monotonic seconds.
        self.ending = {}
        #: Whether so much is unsent that no task is read from.
        self.held_back = False

    def serve(self):
        """Serve until the host hangs up, which raises StreamClosed."""
        self.link.send(frames.IN_SESSION)
        self.watch(self.link.read_fd, IN, self.receive)
        self.watch(self.wake, IN, self.reap)
        while True:
            self.watch(self.link.write_fd, OUT if self.link.unsent else 0, self.link.flush)
            self.hold_back(len(self.link.unsent) >= UNSENT_HIGH)
            for fd, _event in self.poller.poll(self.kill_late()):
                known = self.watched.get(fd)
                if known is not None:
                    known[1]()

    def expect_end(self, task):
        """Have a task killed if it does not end soon."""
        self.ending.setdefault(task, time.monotonic() + END_S)

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
        elif kind == frames.KILL:
            task.kill()

    def open(self, channel, payload):
        """Start a task. One that cannot be started ends at once, with the reason in its EXIT."""
        kind, *rest = unpack(payload)
        start = start_process if kind == b"process" else start_operation
        try:
            task = Task(self, channel, *start(self.env, rest))
        except OSError as e:  # no more processes or descriptors
            self.send(channel, frames.EXIT, frames.pack([b"failed", str(e)[:400].encode()]))
            self.send(channel, frames.CLOSED)
            return
        self.tasks[channel] = self.children[task.child] = task
        task.update()

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
            task = self.children.pop(pid, None)
            if task is not None and not task.child_ended(status):
                # A program has killed its own keeper: what was beneath it is PID 1's now, and nobody's.
                trees.kill(trees.descendants(os.getpid(), spare=self.children))

    def forget(self, task):
        """Let the channel of a task be used again: nothing of it is alive."""
        del self.tasks[task.channel]
        self.send(task.channel, frames.CLOSED)
