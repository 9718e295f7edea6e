"""The stream to the host: frames in, frames out, never blocking except in methods whose docstring names it."""

import os
import select

from agent import frames

CHUNK = 65536
#: Beyond this much unsent output the program's pipes are left alone: back-pressure, not memory.
UNSENT_HIGH = 256 * 1024


class StreamClosed(Exception):
    """The host is gone, or no longer wants this sandbox."""


class HostStream:
    """One stream: two ends of one socket, or two pipes, as the engine has it.

    `unsent` holds sent bytes that the kernel has not taken yet.
    """

    def __init__(self, read_fd, write_fd):
        for fd in (read_fd, write_fd):
            os.set_blocking(fd, False)
        self.read_fd = read_fd
        self.write_fd = write_fd
        self.inbox = bytearray()
        self.unsent = bytearray()

    def register(self, poller):
        """Have a poller wait for what matters now."""
        poller.register(self.read_fd, select.POLLIN)
        if self.unsent:
            poller.register(self.write_fd, select.POLLOUT)

    def receive(self, take=frames.take_frames):
        """Return the frames that one read completes, as `take` returns them. Raises StreamClosed at the end."""
        try:
            data = os.read(self.read_fd, CHUNK)
        except BlockingIOError:
            return []
        if not data:
            raise StreamClosed
        self.inbox += data
        return take(self.inbox)

    def send(self, kind, payload=b""):
        """Send a frame, or as much of it as the kernel takes now."""
        head = frames.head(kind, len(payload))
        sent = 0 if self.unsent else self.write(head, payload)
        if sent < len(head) + len(payload):
            self.unsent += (head + payload)[sent:]
            self.flush()

    def send_bytes(self, whole_frames):
        """Send what is framed already, or as much of it as the kernel takes now."""
        self.unsent += whole_frames
        self.flush()

    def send_blocking(self, kind, payload=b""):
        """Send a frame and wait while too much is unsent; all of it after the last."""
        self.send(kind, payload)
        self.flush_below(UNSENT_HIGH if kind != frames.END else 1)

    def flush(self):
        """Send of what waits as much as the kernel takes now."""
        while self.unsent and (sent := self.write(self.unsent)):
            del self.unsent[:sent]

    def write(self, *pieces):
        """Return how many of these bytes the kernel takes now. Raises StreamClosed."""
        try:
            return os.writev(self.write_fd, pieces)
        except BlockingIOError:
            return 0
        except OSError as e:
            raise StreamClosed from e

    def flush_below(self, size):
        """Wait until fewer than `size` bytes are unsent."""
        poller = select.poll()
        poller.register(self.write_fd, select.POLLOUT)
        while len(self.unsent) >= size:
            poller.poll()
            self.flush()
