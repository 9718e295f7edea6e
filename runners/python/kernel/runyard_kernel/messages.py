"""The two pipes of a kernel: requests in, replies out, in order with the output of the cell."""

import fcntl
import json
import os
import struct
import sys
import termios
import time

_LENGTH = struct.Struct(">I")
#: Above the descriptors that programs use.
_ASIDE = 200
#: Until the agent has taken a reply, at most.
_TAKEN_S = 2.0
_LOOK_S = 0.0002
_MAX_HEADER_BYTES = 60 * 1024


class MessagePipes:
    """The descriptors of requests and replies, which no child inherits."""

    def __init__(self, requests=0, replies=3):
        """Move both away from where a cell may close or use them, and put /dev/null in their place."""
        self.requests = fcntl.fcntl(requests, fcntl.F_DUPFD_CLOEXEC, _ASIDE)
        self.replies = fcntl.fcntl(replies, fcntl.F_DUPFD_CLOEXEC, _ASIDE)
        self.null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._outputs = {fd: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ASIDE) for fd in (1, 2)}
        os.dup2(self.null, requests)
        os.close(replies)
        #: True while a reply is being written: an interrupt must not cut it.
        self.is_sending = False

    def receive(self):
        """Return the next request as (header, parts); None at the end."""
        head = self._read(_LENGTH.size)
        if head is None:
            return None
        header = json.loads(self._read(_LENGTH.unpack(head)[0]) or b"{}")
        return header, {name: self._read(size) or b"" for name, size in header.pop("parts", ())}

    def _read(self, size):
        data = bytearray()
        while len(data) < size:
            piece = os.read(self.requests, min(size - len(data), 1 << 20))
            if not piece:
                return None
            data += piece
        return bytes(data)

    def reopen_outputs(self):
        """Open standard output and standard error again, if a cell has closed them."""
        for fd, kept in self._outputs.items():
            try:
                os.fstat(fd)
            except OSError:
                os.dup2(kept, fd)

    def send(self, header, parts=None, *, waits=True):
        """Send a reply behind the output that was written before; `waits` until the agent has it."""
        flush()
        parts = parts or {}
        head = json.dumps({**header, "parts": [[name, len(data)] for name, data in parts.items()]}).encode()
        if len(head) > _MAX_HEADER_BYTES:
            return
        self.is_sending = True
        try:
            left = memoryview(b"".join((_LENGTH.pack(len(head)), head, *parts.values())))
            while left:
                left = left[os.write(self.replies, left[: 1 << 16]) :]
            if waits:
                self._wait_until_taken()
        finally:
            self.is_sending = False

    def _wait_until_taken(self):
        count = bytearray(4)
        until = None
        while fcntl.ioctl(self.replies, termios.FIONREAD, count) == 0 and any(count):
            moment = time.monotonic()
            until = until or moment + _TAKEN_S
            if moment > until:
                return
            time.sleep(_LOOK_S)


def flush():
    """Flush standard output and standard error, or the objects that the cell has put in their place."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: S110  # the cell's own object
            pass
