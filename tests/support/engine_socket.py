"""A Docker daemon's socket that can misbehave: requests pass through it to the real daemon, or as they are told."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

How = Literal["fail", "hang", "drop"]
#: Their connections are two-way streams, or have a body of no known length: passed on as they come.
STREAMS = re.compile(rb"/attach\b|/images/load\b")
FAILURE = b'{"message":"a fault that was asked for"}'
ANSWER = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(FAILURE), FAILURE)
)  # fmt: skip


@dataclass
class Fault:
    """What becomes of the next `times` requests whose first line matches. `met` counts them."""

    pattern: re.Pattern[bytes]
    how: How
    times: int
    met: int = 0
    over: threading.Event = field(default_factory=threading.Event)


class EngineSocket:
    """Listens at `path`; `behind` is the real daemon's socket. DOCKER_HOST is `host`."""

    def __init__(self, path: Path, behind: Path) -> None:
        self.host = f"unix://{path}"
        self._path, self._behind = path, behind
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._open: set[socket.socket] = set()
        self._streams: set[socket.socket] = set()
        self.begin()

    def begin(self) -> None:
        """Listen, as after a restart."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def end(self) -> None:
        """Nobody is there any more: every connection ends, and a new one is refused."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink(missing_ok=True)
        self._hang_up(self._open)

    def cut_streams(self) -> None:
        """End every attach connection, and nothing else."""
        self._hang_up(self._streams)

    @contextlib.contextmanager
    def fault(self, first_line: bytes, how: How, times: int = 1 << 30) -> Iterator[Fault]:
        """Let requests fail, hang or lose their connection while this is entered."""
        made = Fault(re.compile(first_line), how, times)
        with self._lock:
            self._faults.append(made)
        try:
            yield made
        finally:
            with self._lock:
                self._faults.remove(made)
            made.over.set()

    def _hang_up(self, which: set[socket.socket]) -> None:
        with self._lock:
            ends = list(which)
            which.clear()
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = listener.accept()[0]
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        daemon = socket.socket(socket.AF_UNIX)
        with client, daemon, contextlib.suppress(OSError):
            with self._lock:
                self._open |= {client, daemon}
            daemon.connect(str(self._behind))
            threading.Thread(target=_copy, args=(daemon, client), daemon=True).start()
            self._requests(client, daemon)
        with self._lock:
            self._open -= {client, daemon}
            self._streams -= {client, daemon}

    def _requests(self, client: socket.socket, daemon: socket.socket) -> None:
        """Pass on one request after the other."""
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                piece = client.recv(65536)
                if not piece:
                    return
                data += piece
            head, _, rest = data.partition(b"\r\n\r\n")
            first = head.split(b"\r\n")[0]
            if STREAMS.search(first):
                with self._lock:
                    self._streams |= {client, daemon}
                daemon.sendall(data)
                _copy(client, daemon)
                return
            found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            length = int(found[1]) if found else 0
            while len(rest) < length:
                rest += client.recv(65536)
            body, data = rest[:length], rest[length:]
            fault = self._fault_for(first)
            if fault is None:
                daemon.sendall(head + b"\r\n\r\n" + body)
            elif fault.how == "fail":
                client.sendall(ANSWER)
            elif fault.how == "drop":
                client.shutdown(socket.SHUT_RDWR)
                return
            else:
                fault.over.wait()
                client.shutdown(socket.SHUT_RDWR)
                return

    def _fault_for(self, first: bytes) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.met < fault.times and fault.pattern.search(first):
                    fault.met += 1
                    return fault
        return None


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes on until one end is gone, then let the other know."""
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
