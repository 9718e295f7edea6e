"""The protocol of one WebSocket, server's end, without a socket: bytes in and messages out, and the reverse."""

from __future__ import annotations

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import RemoteProtocolError

NORMAL, GOING_AWAY, POLICY, TOO_BIG, RESTART = 1000, 1001, 1008, 1009, 1012
MOST_REASON_BYTES = 123


class Wire:
    """Holds what is to be sent in `outgoing`. Used by one thread at a time."""

    def __init__(self, *, most_text: int, most_bytes: int) -> None:
        """`most_text` and `most_bytes` bound one message of each kind; a text's in characters."""
        self._connection = Connection(ConnectionType.SERVER)
        self._most_text, self._most_bytes = most_text, most_bytes
        self._text: list[str] = []
        self._size = 0
        self.outgoing = bytearray()
        #: True if this end has sent its close frame: no message is sent or taken any more.
        self.is_closing = False
        #: True if both ends have: the connection may be cut when all is sent.
        self.is_closed = False

    def receive(self, data: bytes) -> list[str | bytes]:
        """Take bytes; the messages that they complete: a text whole, of binary ones each piece as it comes.

        A breach of the protocol or of a bound closes the WebSocket with the code of the reason.
        """
        found: list[str | bytes] = []
        if self._connection.state not in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
            return found
        try:
            self._connection.receive_data(data)
            for event in self._connection.events():
                self._take(event, found)
        except RemoteProtocolError:
            self.close(CloseReason.PROTOCOL_ERROR, "this is no WebSocket frame")
            self.is_closed = True
        return found

    def _take(self, event: object, found: list[str | bytes]) -> None:
        if isinstance(event, CloseConnection):
            self._peer_closes(event)
        elif self.is_closing:
            return
        elif isinstance(event, Ping):
            self.outgoing += self._connection.send(event.response())
        elif isinstance(event, TextMessage):
            self._size += len(event.data)
            if self._size > self._most_text:
                self.close(TOO_BIG, f"a text message is at most {self._most_text} characters")
                return
            if event.data:  # else empty pieces without end would be kept
                self._text.append(event.data)
            if event.message_finished:
                found.append("".join(self._text))
                self._text, self._size = [], 0
        elif isinstance(event, BytesMessage):
            self._size += len(event.data)
            if self._size > self._most_bytes:
                self.close(TOO_BIG, f"a binary message is at most {self._most_bytes} bytes")
                return
            if event.data:
                found.append(bytes(event.data))
            if event.message_finished:
                self._size = 0

    def _peer_closes(self, event: CloseConnection) -> None:
        if self._connection.state is ConnectionState.REMOTE_CLOSING:
            self.outgoing += self._connection.send(event.response())
        elif not self.is_closing:  # wsproto's way to say that a frame could not be read
            self.close(int(event.code), event.reason or "")
        self.is_closing = self.is_closed = True

    def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""
        if not self.is_closing:
            self.outgoing += self._connection.send(BytesMessage(data=data))

    def send_text(self, text: str) -> None:
        """Send a text message."""
        if not self.is_closing:
            self.outgoing += self._connection.send(TextMessage(data=text))

    def ping(self) -> None:
        """Ask the peer whether it is there."""
        if not self.is_closing:
            self.outgoing += self._connection.send(Ping())

    def close(self, code: int, reason: str) -> None:
        """Say that this end closes. Without effect when repeated."""
        if self.is_closing:
            return
        self.is_closing = True
        if self._connection.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            text = reason.encode()[:MOST_REASON_BYTES].decode("utf-8", "ignore")
            self.outgoing += self._connection.send(CloseConnection(code=code, reason=text))


__all__ = ["GOING_AWAY", "NORMAL", "POLICY", "RESTART", "TOO_BIG", "Wire"]
