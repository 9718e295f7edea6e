"""What stands between a client and the service in these tests: a server that fails as told, a wire that is cut."""

from __future__ import annotations

import json
import re
import select
import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HANG_UP = "hang up"
_REQUEST_LINE = re.compile(rb"\b(GET|POST|DELETE) (/\S*) HTTP/1\.1\r\n")


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Faults:
    """A server that gives the answers it was told, one after the other, and remembers what was asked."""

    url: str
    answers: list = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)

    def answer(self, status, body=None, **headers):
        """Queue an answer: `body` is bytes, or JSON. Header names have `_` for `-`."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers.append((status, {name.replace("_", "-"): value for name, value in headers.items()}, raw))

    def refuse(self, status, code, **headers):
        self.answer(
            status, {"error": {"message": f"no: {code}", "type": "t", "param": "p", "code": code}}, **headers
        )

    def hang_up(self):
        """Queue a connection that is cut once the request has been read."""
        self.answers.append(HANG_UP)


@contextmanager
def fault_server():
    """A `Faults` that listens on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            faults.seen.append(Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            answer = faults.answers.pop(0) if faults.answers else (500, {}, b"nothing was queued")
            if answer == HANG_UP:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            status, headers, raw = answer
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(raw))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)
            if int(headers.get("Content-Length", len(raw))) != len(raw):
                self.close_connection = True

        do_GET = do_POST = do_DELETE = _any  # noqa: N815  # the names that the base class looks for

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    faults = Faults(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield faults
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Wire:
    """A TCP proxy whose connections can be cut. `cut_at` cuts one behind those bytes."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        #: Method and path of every request that a client sent, in order.
        self.requests: list[str] = []
        #: What, seen on its way to the client, cuts the connection behind it; each counts once.
        self.cut_at: list[bytes] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        if self._listener.fileno() < 0:
            return
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def cut(self) -> None:
        """Sever what is connected now."""
        with self._lock:
            for pair in self._pairs:
                for end in pair:
                    with _closed_already():
                        end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(self._target)
            with self._lock:
                self._pairs.append((client, server))
            thread = threading.Thread(target=self._carry, args=(client, server))
            self._threads.append(thread)
            thread.start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        passed, asked = b"", b""
        with client, server, _closed_already():
            while True:
                for end in select.select([client, server], [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    if end is client:
                        asked += data
                        while found := _REQUEST_LINE.search(asked):
                            self.requests.append(f"{found[1].decode()} {found[2].decode()}")
                            asked = asked[found.end() :]
                        asked = asked[-8192:]
                        server.sendall(data)
                        continue
                    whole, before = passed + data, len(passed)
                    if self.cut_at and (found := whole.find(self.cut_at[0])) >= 0:
                        # Just that far and no further, however much came at once.
                        client.sendall(whole[before : found + len(self.cut_at.pop(0))])
                        return
                    client.sendall(data)
                    passed = whole[-1_000_000:]


@contextmanager
def _closed_already():
    with suppress(OSError, ValueError):
        yield


@contextmanager
def wire(port: int):
    """A `Wire` to that port of this machine."""
    made = Wire(port)
    try:
        yield made
    finally:
        made.close()
