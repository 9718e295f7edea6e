"""A WebSocket to the service, for one thread: wsproto over a socket, with TLS where the address has it."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError as BrokenProtocol

from runyard._version import __version__
from runyard._wire import CONNECT_S
from runyard.errors import ConnectionFailed, api_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runyard.config import Config

_READ_BYTES = 64 * 1024
_PORTS = {"http": 80, "https": 443}
#: A body of an error is smaller.
_MOST_ERROR_BYTES = 64 * 1024


class WebSocket:
    """An open WebSocket. `closed` is its close code and reason once it has ended."""

    def __init__(self, config: Config, path: str) -> None:
        """Connect and wait until the service agrees. Raises ApiError, ConnectionFailed."""
        self.closed: tuple[int, str] | None = None
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._text: list[str] = []
        self._is_open = False
        self._refused: tuple[int, dict[str, str]] | None = None
        self._body = b""
        parts = urlsplit(config.url)
        self._sock = _connected(config.url)
        headers = [(b"user-agent", f"runyard-python/{__version__}".encode())]
        if config.api_key is not None:
            headers.append((b"authorization", f"Bearer {config.api_key}".encode()))
        try:
            self._send(Request(host=parts.netloc, target=parts.path + path, extra_headers=headers))
            self._messages = list(self._until_open())
        except BaseException:
            self._sock.close()
            raise
        self._sock.settimeout(None)

    def fileno(self) -> int:
        """Return the descriptor to wait for; `pending` says whether something is there already."""
        return self._sock.fileno()

    @property
    def pending(self) -> bool:
        """Return whether `receive` has something without waiting."""
        return bool(self._messages) or (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0)

    def receive(self) -> list[str | bytes]:
        """Return what has arrived, after waiting for something: whole texts, and pieces of binary messages.

        Raises ConnectionFailed when the connection breaks.
        """
        found, self._messages = self._messages, []
        return found or list(self._read())

    def send(self, message: str | bytes) -> None:
        """Send a message. Raises ConnectionFailed."""
        if self.closed is None:
            self._send(TextMessage(data=message) if isinstance(message, str) else BytesMessage(data=message))

    def close(self) -> None:
        """End it, without waiting for the service to agree."""
        try:
            if self.closed is None:
                self._send(CloseConnection(code=1000))
        except ConnectionFailed:
            pass
        finally:
            self._sock.close()

    def _until_open(self) -> Iterator[str | bytes]:
        while not self._is_open:
            yield from self._read()
            if self._refused is not None and self._refused[1].get("ended"):
                status, headers = self._refused
                raise api_error(status, headers, self._body, None)

    def _read(self) -> Iterator[str | bytes]:
        try:
            data = self._sock.recv(_READ_BYTES)
        except OSError as e:
            raise ConnectionFailed(f"the connection was lost: {e}") from e
        if not data:
            raise ConnectionFailed("the connection was lost: the service closed it")
        try:
            self._protocol.receive_data(data)
            for event in self._protocol.events():
                yield from self._take(event)
        except BrokenProtocol as e:
            raise ConnectionFailed(f"what answered does not speak WebSocket: {e}") from e

    def _take(self, event: Event) -> Iterator[str | bytes]:
        if isinstance(event, BytesMessage):
            yield bytes(event.data)
        elif isinstance(event, TextMessage):
            self._text.append(event.data)
            if event.message_finished:
                yield "".join(self._text)
                self._text.clear()
        elif isinstance(event, Ping):
            self._send(event.response())
        elif isinstance(event, AcceptConnection):
            self._is_open = True
        elif isinstance(event, CloseConnection):
            self.closed = (int(event.code), event.reason or "")
        elif isinstance(event, RejectConnection):
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in event.headers}
            self._refused = event.status_code, headers | ({} if event.has_body else {"ended": "1"})
        elif isinstance(event, RejectData):
            self._body += event.data
            if (event.body_finished or len(self._body) > _MOST_ERROR_BYTES) and self._refused is not None:
                self._refused[1]["ended"] = "1"

    def _send(self, event: Event) -> None:
        try:
            self._sock.sendall(self._protocol.send(event))
        except OSError as e:
            raise ConnectionFailed(f"the connection was lost: {e}") from e
        except BrokenProtocol as e:
            raise ConnectionFailed("the connection has ended") from e


def _connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    try:
        sock = socket.create_connection((host, parts.port or _PORTS[parts.scheme]), timeout=CONNECT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if parts.scheme == "https":
            return ssl.create_default_context().wrap_socket(sock, server_hostname=host)
    except OSError as e:
        raise ConnectionFailed(
            f"cannot connect to {url}: {e}; is the service running, and is RUNYARD_URL correct?", sent=False
        ) from e
    return sock
