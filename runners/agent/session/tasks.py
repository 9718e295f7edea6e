"""One task of a session: the pipes of a child, the output it may send, and what waits for its stdin."""

import _signal
import os
import select
import time

from agent import frames
from agent.link import CHUNK
from agent.session import trees
from agent.session.bursts import Burst
from agent.session.terminals import END_OF_INPUT, resize

IN, OUT = select.EPOLLIN, select.EPOLLOUT
#: Signals that are held for a program that is being started.
MOST_EARLY = 64
#: Of what a keeper says: a letter and a number.
NOTE_BYTES = 5


class Task:
    """A child of PID 1 on a channel.

    `child` is its pid, `pipes` are its three streams. `notes` is where a keeper writes of its program, and -1 for a
    file operation, whose child is all there is.
    """

    def __init__(self, server, channel, child, pipes, notes):
        self.server = server
        self.channel = channel
        self.child = child
        self.notes = notes
        self.has_keeper = notes >= 0
        self.stdin = pipes.stdin
        #: The frame kind of each output that has not come to its end.
        self.outputs = {pipes.stdout: frames.STDOUT}
        if pipes.stderr >= 0:
            self.outputs[pipes.stderr] = frames.STDERR
        self.has_terminal = pipes.stderr < 0
        #: The descriptor of a kernel's replies; -1 for all others.
        self.replies = getattr(pipes, "replies", -1)
        if self.replies >= 0:
            self.outputs[self.replies] = frames.REPLY
        self.burst = Burst()
        #: True while the outputs, but not the replies, are left alone for a moment.
        self.is_resting = False
        self.credit = frames.INITIAL_CREDIT
        self.pending = bytearray()
        self.input_ended = False
        #: The program's pid while it is alive; 0 before and after.
        self.main = 0 if notes >= 0 else child
        #: Signals for a program whose pid is not known yet.
        self.early = []
        self.status = None
        #: True once EXIT has been sent: output is dropped from then on.
        self.reported = False
        self.child_alive = True
        #: True once its channel has been closed.
        self.is_over = False

    def update(self):
        """Watch what can be moved now."""
        server = self.server
        readable = IN if self.reported or (self.credit and not server.held_back) else 0
        for fd in self.outputs:
            rests = self.is_resting and fd != self.replies
            server.watch(fd, 0 if rests else readable, self.reader(fd))
        if self.stdin >= 0:
            server.watch(self.stdin, OUT if self.pending or self.input_ended else 0, self.write)
        if self.notes >= 0:
            server.watch(self.notes, IN, self.read_note)

    def reader(self, fd):
        return lambda: self.arrived(fd)

    # -- stdin -------------------------------------------------------------------------------------

    def feed(self, data):
        """Take input from the host, which keeps to the window of the channel."""
        self.pending += data
        self.write()

    def end_input(self):
        self.input_ended = True
        self.write()

    def write(self):
        """Write what the child takes of its input, tell the host, close at the end."""
        taken = len(self.pending) if self.stdin < 0 else 0
        try:
            while taken < len(self.pending):
                taken += os.write(self.stdin, self.pending[taken : taken + CHUNK])
        except BlockingIOError:
            pass
        except OSError:  # nobody reads it any more
            taken = len(self.pending)
            self.close_stdin()
        if taken:
            del self.pending[:taken]
            self.server.send(self.channel, frames.STDIN_TAKEN, b"%d" % taken)
        if self.input_ended and not self.pending:
            self.finish_input()
        self.update()

    def finish_input(self):
        """Close the input behind what was written; of a terminal, type what ends it: its input has no other end."""
        if not self.has_terminal or self.stdin < 0:
            self.close_stdin()
            return
        try:
            os.write(self.stdin, END_OF_INPUT)
        except BlockingIOError:
            return  # later, when there is room
        except OSError:
            self.close_stdin()
        self.input_ended = False

    def resize(self, size):
        """Set the size of the terminal, if the process has one that is in use."""
        if self.has_terminal and self.stdin >= 0:
            try:
                resize(self.stdin, size)
            except OSError:  # every program has let it go
                pass

    def close_stdin(self):
        if self.stdin >= 0:
            self.server.watch(self.stdin, 0, None)
            os.close(self.stdin)
            self.stdin = -1

    # -- outputs -----------------------------------------------------------------------------------

    def grant(self, size):
        """Let so many more bytes be sent."""
        self.credit += size
        self.update()
        if self.status is not None and not self.reported:
            self.report()

    def arrived(self, fd):
        """Pass on one read of an output that is ready, and let the outputs rest after many small ones."""
        before = self.credit
        if not self.read(fd) or fd == self.replies or self.reported or not self.has_keeper:
            return
        rest_s = self.burst.note(before - self.credit, time.monotonic())
        if rest_s:
            self.server.let_rest(self, rest_s)

    def read(self, fd):
        """Pass on one read of an output, within the credit. Returns whether there was anything."""
        if fd == self.replies and not self.reported and not self.passes_on_before_a_reply():
            return False
        size = CHUNK if self.reported else min(CHUNK, self.credit)
        try:
            data = os.read(fd, size)
        except BlockingIOError:
            return False
        except OSError:  # EIO: no program has the terminal open
            data = b""
        if not data:
            self.close_output(fd)
            return False
        if not self.reported:
            self.credit -= len(data)
            self.server.send(self.channel, self.outputs[fd], data)
            if not self.credit:
                self.update()
        return True

    def passes_on_before_a_reply(self):
        """Pass on what was written before a reply. Returns whether the credit suffices for more."""
        for fd in list(self.outputs):
            while fd != self.replies and fd in self.outputs and self.credit and self.read(fd):
                pass
        return self.credit > 0

    def close_output(self, fd):
        self.server.watch(fd, 0, None)
        del self.outputs[fd]
        os.close(fd)

    # -- the end -----------------------------------------------------------------------------------

    def read_note(self):
        """Take a note of the keeper: the pid of its program, then how that ended. Returns whether there was one."""
        try:
            note = os.read(self.notes, NOTE_BYTES)
        except BlockingIOError:
            return False
        if not note:
            self.close_notes()
            return False
        number = int.from_bytes(note[1:], "big")
        if note[:1] == b"S":
            self.main = number
            self.server.send(self.channel, frames.STARTED, b"%d" % number)
            while self.early:
                trees.send(number, self.early.pop(0))
        else:
            self.main_ended(number)
        return True

    def close_notes(self):
        if self.notes >= 0:
            self.server.watch(self.notes, 0, None)
            os.close(self.notes)
            self.notes = -1

    def main_ended(self, status):
        self.status = status
        self.main = 0
        self.close_stdin()
        self.report()

    def report(self):
        """Send what the main process had written, then how it ended; later if the credit does not suffice."""
        for fd in list(self.outputs):
            while fd in self.outputs and self.credit and self.read(fd):
                pass
        if self.outputs and not self.credit:
            return
        if os.WIFSIGNALED(self.status):
            ending = [b"signal", b"%d" % os.WTERMSIG(self.status)]
        else:
            ending = [b"exit", b"%d" % os.WEXITSTATUS(self.status)]
        self.server.send(self.channel, frames.EXIT, frames.pack(ending))
        self.reported = True
        self.update()
        self.close_if_over()

    def child_ended(self, status):
        """Note the end of the keeper, or of the file operation. False if a keeper ended before its program."""
        self.child_alive = False
        while self.notes >= 0 and self.read_note():
            pass
        self.close_notes()
        is_over = self.status is not None
        if is_over:
            self.close_if_over()
        else:
            # A keeper that was signalled before it could handle signals has not started its program.
            told_early = self.has_keeper and status == _signal.SIGUSR1
            self.main_ended(_signal.SIGKILL if told_early else status)
        return is_over or not self.has_keeper

    def close_if_over(self):
        # Once: the keeper's last note may be read with its end, and both come here.
        if self.reported and not self.child_alive and not self.is_over:
            self.is_over = True
            for fd in list(self.outputs):
                self.close_output(fd)
            self.server.forget(self)

    def signal(self, number):
        """Send a signal to the main process if it is alive, or as soon as its pid is known."""
        if self.main:
            trees.send(self.main, number)
        elif self.status is None and len(self.early) < MOST_EARLY:
            self.early.append(number)

    def kill(self):
        """Tell the child to end all that is left of the task; a file operation undoes what it has begun."""
        if self.child_alive:
            trees.send(self.child, _signal.SIGUSR1 if self.has_keeper else _signal.SIGTERM)
            trees.send(self.child, _signal.SIGCONT)  # a program of the session may have stopped it
            self.server.expect_end(self)

    def kill_now(self):
        """Kill the child and everything beneath it: it did not end when it was signalled to."""
        if self.child_alive:
            trees.kill_beneath(self.child)
            trees.send(self.child, _signal.SIGKILL)
