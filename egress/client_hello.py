"""Read the server name of a TLS ClientHello (RFC 8446, RFC 6066), and whether it holds an encrypted one (ECH)."""

from __future__ import annotations

from dataclasses import dataclass

HANDSHAKE_RECORD = 22
CLIENT_HELLO = 1
RECORD_HEADER_BYTES = 5
TLS_MAJOR = 3
MAX_RECORD_BYTES = 16_384
#: Some clients send it in two or three.
MAX_RECORDS = 64
HANDSHAKE_HEADER_BYTES = 4
#: With the key shares and tickets of today a ClientHello has two thousand bytes.
MAX_HELLO_BYTES = 65_536
SERVER_NAME = 0
HOST_NAME = 0
#: encrypted_client_hello, and the encrypted_server_name of its drafts.
ENCRYPTED_HELLO = frozenset({0xFE0D, 0xFFCE, 0xFE08, 0xFE09, 0xFE0A, 0xFE0B, 0xFE0C})


class HelloInvalid(ValueError):
    """Bytes that are no ClientHello of TLS."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """The facts of one ClientHello. `server_name` is in lower case; None where it names none."""

    server_name: str | None
    is_encrypted: bool


class HelloReader:
    """Reads the ClientHello at the front of a stream, in time proportional to its bytes however they arrive."""

    def __init__(self) -> None:
        #: All bytes so far: they are passed on when the ClientHello is good.
        self.held = bytearray()
        self._at = 0
        self._records = 0
        self._message = bytearray()

    def feed(self, data: bytes) -> ClientHello | None:
        """Take more bytes; return the ClientHello when it is complete. Raises HelloInvalid."""
        self.held += data
        while True:
            header = self.held[self._at : self._at + RECORD_HEADER_BYTES]
            if header and header[0] != HANDSHAKE_RECORD:
                raise HelloInvalid("it does not begin with a handshake")
            if len(header) >= 2 and header[1] != TLS_MAJOR:
                raise HelloInvalid("it is not TLS")
            if len(header) < RECORD_HEADER_BYTES:
                return None
            length = int.from_bytes(header[3:5], "big")
            if not 0 < length <= MAX_RECORD_BYTES:
                raise HelloInvalid("a record has an impossible length")
            end = self._at + RECORD_HEADER_BYTES + length
            if len(self.held) < end:
                return None
            self._message += self.held[self._at + RECORD_HEADER_BYTES : end]
            self._at = end
            self._records += 1
            if self._is_complete():
                return _read(bytes(self._message[HANDSHAKE_HEADER_BYTES:]))

    def _is_complete(self) -> bool:
        """Return whether the records hold the whole message. Raises HelloInvalid."""
        if self._message[0] != CLIENT_HELLO:
            raise HelloInvalid("the handshake does not begin with a ClientHello")
        if self._records > MAX_RECORDS:
            raise HelloInvalid("the ClientHello is in too many records")
        if len(self._message) < HANDSHAKE_HEADER_BYTES:
            return False
        size = int.from_bytes(self._message[1:HANDSHAKE_HEADER_BYTES], "big")
        if size > MAX_HELLO_BYTES:
            raise HelloInvalid("the ClientHello is too long")
        if len(self._message) > HANDSHAKE_HEADER_BYTES + size:
            raise HelloInvalid("bytes follow the ClientHello in its record")
        return len(self._message) == HANDSHAKE_HEADER_BYTES + size


def read_client_hello(data: bytes) -> ClientHello | None:
    """Read the ClientHello at the front of `data`; None while more bytes are needed. Raises HelloInvalid."""
    return HelloReader().feed(data)


class _Fields:
    """Takes the fields of a message off its front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def is_empty(self) -> bool:
        return self._at == len(self._data)

    def take(self, size: int) -> bytes:
        """Take so many bytes. Raises HelloInvalid if there are fewer."""
        end = self._at + size
        if end > len(self._data):
            raise HelloInvalid("a field is cut short")
        found = self._data[self._at : end]
        self._at = end
        return found

    def number(self, size: int) -> int:
        """Take a number of so many bytes."""
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """Take bytes whose length is in a number of so many bytes in front."""
        return self.take(self.number(size))


def _read(body: bytes) -> ClientHello:
    fields = _Fields(body)
    fields.take(2 + 32)  # version, random
    fields.vector(1)  # session id
    fields.vector(2)  # cipher suites
    fields.vector(1)  # compression methods
    if fields.is_empty():
        return ClientHello(None, is_encrypted=False)
    extensions = _Fields(fields.vector(2))
    if not fields.is_empty():
        raise HelloInvalid("bytes follow the extensions")
    seen: set[int] = set()
    name: str | None = None
    while not extensions.is_empty():
        kind = extensions.number(2)
        content = extensions.vector(2)
        if kind in seen:
            raise HelloInvalid("an extension is given twice")
        seen.add(kind)
        if kind == SERVER_NAME:
            name = _server_name(content)
    return ClientHello(name, is_encrypted=not seen.isdisjoint(ENCRYPTED_HELLO))


def _server_name(content: bytes) -> str:
    entries = _Fields(content)
    names = _Fields(entries.vector(2))
    kind, name = names.number(1), names.vector(2)
    if not entries.is_empty() or not names.is_empty() or kind != HOST_NAME:
        raise HelloInvalid("the server name is not one name")
    if not name or not name.isascii():
        raise HelloInvalid("the server name is not ASCII")
    return name.decode("ascii").lower()
