"""The command line at a terminal of the tests' own."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time

from tests.clients.conftest import COMMAND


class Terminal:
    """The command at a terminal."""

    def __init__(self, environment, *arguments, rows=30, cols=100):
        self.main, theirs = pty.openpty()
        self.resize(rows, cols)
        self.before = termios.tcgetattr(theirs)
        self.theirs = theirs
        self.said = b""
        self.command = subprocess.Popen(
            # The terminal on stdin becomes the controlling one, so that its Ctrl-C is a signal.
            ["setsid", "--ctty", *COMMAND, *arguments],
            stdin=theirs, stdout=theirs, stderr=theirs, env=environment | {"TERM": "xterm-256color"},
        )  # fmt: skip

    def resize(self, rows, cols):
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def types(self, data):
        os.write(self.main, data)

    def until(self, wanted, seconds=30):
        """What is shown up to these bytes."""
        deadline = time.monotonic() + seconds
        while wanted not in self.said:
            ready, _, _ = select.select([self.main], [], [], max(0, deadline - time.monotonic()))
            assert ready, self.said
            self.said += os.read(self.main, 65536)
        before, _, self.said = self.said.partition(wanted)
        return before

    def ended(self):
        code = self.command.wait(30)
        assert termios.tcgetattr(self.theirs) == self.before, "the terminal is as it was"
        for fd in (self.main, self.theirs):
            os.close(fd)
        return code
