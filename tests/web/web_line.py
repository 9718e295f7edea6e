"""A line between browser and service that can be cut, and mended."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from typing import Self


class Line:
    """Listens on `port` and passes on; a connection through which `hold_after` came back is held after that line,
    so that nothing that follows is seen however slow the one who watches is. Until it is mended nobody gets through a
    cut line.
    """

    def __init__(self, target_port: int, *, hold_after: bytes) -> None:
        self._target = ("127.0.0.1", target_port)
        self._hold_after: bytes | None = hold_after
        self._cut = threading.Event()
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._cut.set()
        for thread in self._threads:
            thread.join(timeout=30)
        self._listener.close()

    def cut(self) -> None:
        self._cut.set()
        for thread in self._threads[1:]:
            thread.join(timeout=30)

    def mend(self) -> None:
        self._hold_after = None
        self._cut.clear()

    def _start(self, work, *arguments) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            if not select.select([self._listener], [], [], 0.05)[0]:
                continue
            client, _ = self._listener.accept()
            if self._cut.is_set():
                client.close()
            else:
                self._start(self._carry, client)

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server, suppress(OSError):
            tail = b""
            while not self._cut.is_set():
                for end in select.select([client, server], [], [], 0.05)[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    if end is client:
                        server.sendall(data)
                        continue
                    # What came over the line so far ends with `tail`; the text is looked for across both.
                    marker = self._hold_after
                    at = (tail + data).find(marker) if marker else -1
                    if at >= 0:
                        line_end = data.find(b"\n", max(0, at - len(tail)))
                        client.sendall(data[: line_end + 1] if line_end >= 0 else data)
                        self._cut.wait()
                        return
                    tail = (tail + data)[-200:]
                    client.sendall(data)
