"""The messages between this kernel and the worker: see docs/kernels.md."""

import fcntl
import json
import os
import struct
import time

#: ioctl that counts the bytes in a pipe.
FIONREAD = 0x541B
#: Give up waiting for the reader of the replies after this time.
READER_S = 2
#: Above every descriptor that code is likely to use by number.
FIRST_FD = 100


class Messages:
    """Reads requests from descriptor 0 and writes replies to descriptor 3, both moved away from there."""

    def __init__(self):
        self.requests = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, FIRST_FD)
        self._replies = fcntl.fcntl(3, fcntl.F_DUPFD_CLOEXEC, FIRST_FD)
        os.close(3)
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        if null != 0:
            os.close(null)

    def read(self):
        """Return the next request and its parts by name, or None and none when the requests have ended."""
        size = self._read(4)
        header = size and self._read(struct.unpack(">I", size)[0])
        if not header:
            return None, {}
        request = json.loads(header)
        return request, {name: self._read(size) for name, size in request.get("parts", ())}

    def write(self, reply, **texts):
        """Write a reply with its parts, and wait until it has been read. The reader drains the outputs first."""
        parts = {name: text.encode("utf-8", "replace") for name, text in texts.items()}
        if parts:
            reply = {**reply, "parts": [[name, len(part)] for name, part in parts.items()]}
        header = json.dumps(reply).encode()
        data = memoryview(b"".join((struct.pack(">I", len(header)), header, *parts.values())))
        while data:
            data = data[os.write(self._replies, data) :]
        deadline = time.monotonic() + READER_S
        pause_s = 0.00005
        while self._unread() and time.monotonic() < deadline:
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.002)

    def _read(self, size):
        parts = []
        while size:
            part = os.read(self.requests, min(size, 1 << 20))
            if not part:
                return b""
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _unread(self):
        return struct.unpack("i", fcntl.ioctl(self._replies, FIONREAD, b"\0\0\0\0"))[0]
