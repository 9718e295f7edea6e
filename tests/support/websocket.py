"""A WebSocket as a client has it, on wsproto and a socket."""

from __future__ import annotations

import json
import socket
import time

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)


class Refused(Exception):
    """The request was answered otherwise."""

    def __init__(self, status, headers, body):
        super().__init__(f"{status} {body!r}")
        self.status, self.headers, self.body = status, headers, body

    @property
    def code(self):
        return json.loads(self.body)["error"]["code"]


class WebSocket:
    """A connection to `path`. `texts` are the JSON messages that came, `data` all binary ones together."""

    def __init__(self, service, path, *, token=None, headers=(), timeout=20):
        self.sock = socket.create_connection((service.host, service.port), timeout=timeout)
        self.timeout = timeout
        self.protocol = WSConnection(ConnectionType.CLIENT)
        self.texts, self.messages, self.data = [], [], bytearray()
        self.closed = None
        self._piece = bytearray()
        self._text = ""
        extra = [(name.encode(), value.encode()) for name, value in headers]
        if token is not None:
            extra.append((b"authorization", f"Bearer {token}".encode()))
        self._send(Request(host=f"{service.host}:{service.port}", target=path, extra_headers=extra))
        self._is_open, self._refused, self._body = False, None, b""
        try:
            self.until(lambda: self._is_open or (self._refused and self._refused[2]))
        except AssertionError:
            self.sock.close()
            raise
        if not self._is_open:
            self.sock.close()
            status, found, _ = self._refused
            raise Refused(status, dict(found), self._body)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def _send(self, event):
        self.sock.sendall(self.protocol.send(event))

    def send(self, data):
        """Send bytes, or a JSON message."""
        if isinstance(data, bytes):
            self._send(BytesMessage(data=data))
        else:
            self._send(TextMessage(data=data if isinstance(data, str) else json.dumps(data)))

    def close(self, code=1000):
        self._send(CloseConnection(code=code))

    def until(self, condition, seconds=None):
        """Read until the condition holds; its value."""
        deadline = time.monotonic() + (seconds or self.timeout)
        while not (found := condition()):
            assert time.monotonic() < deadline, (self.texts, bytes(self.data[-2000:]), self.closed)
            assert self.closed is None, (self.closed, self.texts, bytes(self.data[-2000:]))
            self.read(deadline - time.monotonic())
        return found

    def read(self, seconds):
        """Take what one read brings, if anything comes in time."""
        self.sock.settimeout(max(0.01, seconds))
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            return
        finally:
            self.sock.settimeout(self.timeout)
        if not data:
            self.closed = self.closed or (1006, "")
            return
        self.protocol.receive_data(data)
        for event in self.protocol.events():
            self._take(event)

    def _take(self, event):
        if isinstance(event, AcceptConnection):
            self._is_open = True
        elif isinstance(event, RejectConnection):
            self._refused = (event.status_code, event.headers, not event.has_body)
        elif isinstance(event, RejectData):
            self._body += event.data
            self._refused = (*self._refused[:2], event.body_finished)
        elif isinstance(event, TextMessage):
            self._text += event.data
            if event.message_finished:
                self.texts.append(json.loads(self._text))
                self._text = ""
        elif isinstance(event, BytesMessage):
            self.data += event.data
            self._piece += event.data
            if event.message_finished:
                self.messages.append(bytes(self._piece))
                self._piece.clear()
        elif isinstance(event, Ping):
            self._send(event.response())
        elif isinstance(event, CloseConnection):
            self.closed = (event.code, event.reason)

    def expect(self, wanted, seconds=None):
        """Read until these bytes have come since the last time; what came up to them."""
        end = self.until(lambda: self.data.find(wanted) + len(wanted) if wanted in self.data else 0, seconds)
        found = bytes(self.data[:end])
        del self.data[:end]
        return found

    def ended(self, seconds=None):
        """Read to the end; its code and reason."""
        deadline = time.monotonic() + (seconds or self.timeout)
        while self.closed is None:
            assert time.monotonic() < deadline, (self.texts, bytes(self.data[-2000:]))
            self.read(deadline - time.monotonic())
        return self.closed
