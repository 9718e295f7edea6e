"""The three streams of a main process, PID 1's end: output passed on up to a cap, stdin fed as it is taken."""

import os

from agent import frames
from agent.link import CHUNK, UNSENT_HIGH
from agent.program import Pipes


class Streams:
    """The pipes of one main process, how much of its output has gone, and what waits for its stdin."""

    def __init__(self, link):
        self.link = link
        self.cap = 0
        self.stdin_pending = bytearray()
        self.stdin_ended = False
        self.open()

    def open(self):
        """Make pipes for the next process."""
        self.pipes = Pipes()
        self.stdin_open = True
        #: Bytes forwarded, by descriptor; one that has come to its end is gone from here.
        self.sent = {self.pipes.stdout: 0, self.pipes.stderr: 0}
        self.truncated = dict.fromkeys(self.sent, b"0")

    def renew(self):
        """Replace the pipes of an exited process by new ones. Bytes that wait for stdin are kept."""
        self.close_stdin()
        for fd in (self.pipes.stdout, self.pipes.stderr):
            os.close(fd)
        self.open()

    # -- stdin -------------------------------------------------------------------------------------

    def stdin_waits(self):
        """Return whether bytes wait for the process to take them."""
        return self.stdin_open and bool(self.stdin_pending)

    def feed_stdin(self):
        """Write as much stdin as the process takes, report it to the host, and close stdin at its end."""
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

    # -- outputs -----------------------------------------------------------------------------------

    def forward(self, fd):
        """Pass on one read of an output, up to the cap. Returns whether there was anything."""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            del self.sent[fd]
            return False
        room = self.cap - self.sent[fd]
        if len(data) > room:
            self.truncated[fd] = b"1"
            data = data[:room]
        if data:
            self.sent[fd] += len(data)
            self.link.send(frames.STDOUT if fd == self.pipes.stdout else frames.STDERR, data)
        return True

    def drain(self):
        """Read the rest of the pipes, whose writers have exited."""
        for fd in list(self.sent):
            while fd in self.sent and self.forward(fd):
                self.link.flush_below(UNSENT_HIGH)

    def truncation_flags(self):
        """Return for stdout and stderr whether something was left out, as the host reads it."""
        return [self.truncated[fd] for fd in (self.pipes.stdout, self.pipes.stderr)]
