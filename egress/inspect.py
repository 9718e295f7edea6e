"""Check what a program sends on a permitted connection: the name in its ClientHello, or its plain request.

An inspector is given the bytes as they come and returns those that may be passed on. It holds back what it cannot
judge yet, within a bound.
"""

from __future__ import annotations

import re
from typing import Protocol

from config.network_patterns import is_address
from egress.client_hello import HANDSHAKE_RECORD, HelloInvalid, HelloReader
from egress.http_body import BodyReader
from egress.http_head import (
    HTTP_PORT,
    HeadInvalid,
    RequestHead,
    body_framing,
    check_host_header,
    forwarded_head,
    may_hold_head,
    parse_absolute_target,
    read_head,
)
from egress.verdicts import Refused

TLS_PORT = 443
#: Enough of a request to know it from another protocol. Servers skip empty lines in front of one.
_REQUEST = re.compile(rb"[\r\n]*[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} ")
_REQUEST_START = re.compile(rb"[\r\n]*[!#$%&'*+.^_`|~0-9A-Za-z-]{0,32} ?")
_HTTP_LINE = re.compile(rb"[\r\n]*[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} [^\r\n]* HTTP/1\.[01]\r?\n")
MAX_FIRST_LINE = 16_384


class RequestOver(Exception):
    """The one request of a connection is complete, and the program sends more: the connection ends."""


class Inspector(Protocol):
    """Judges the bytes of a program."""

    def feed(self, data: bytes) -> bytes:
        """Return the bytes to pass on. Raises Refused, or RequestOver."""

    def end(self) -> bytes:
        """Return what was held back and may be passed on, at the end of the program's bytes. Raises Refused."""


class TlsInspector:
    """Passes on a connection whose first bytes are a ClientHello for the host that was permitted."""

    def __init__(self, host: str, *, is_by_address: bool) -> None:
        """`is_by_address`: the permission names the address, so that any name there is permitted."""
        self._host = host
        self._is_by_address = is_by_address
        self._reader: HelloReader | None = HelloReader()

    def feed(self, data: bytes) -> bytes:
        """Return the bytes to pass on: nothing until the ClientHello is complete. Raises Refused."""
        if self._reader is None:
            return data
        try:
            hello = self._reader.feed(data)
        except HelloInvalid as e:
            raise Refused("tls", f"a TLS connection must begin with a ClientHello: {e}") from e
        if hello is None:
            return b""
        if not self._is_by_address:
            self._check(hello.server_name, is_encrypted=hello.is_encrypted)
        held, self._reader = bytes(self._reader.held), None
        return held

    def _check(self, name: str | None, *, is_encrypted: bool) -> None:
        if is_encrypted:
            raise Refused("tls", "an encrypted ClientHello (ECH) hides the name of the host")
        if is_address(self._host):
            if name is not None:
                raise Refused("tls", "the ClientHello names a host, and an address was permitted")
        elif name != self._host:
            raise Refused("tls", "the ClientHello must name the host that was permitted (SNI)")

    def end(self) -> bytes:
        """Refuse a connection that ends within its ClientHello."""
        if self._reader is not None and self._reader.held:
            raise Refused("tls", "the connection ended within its ClientHello")
        return b""


class HttpInspector:
    """Passes on one plain request for the host that was permitted, rewritten so that the server closes after it."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._held = b""
        self._body: BodyReader | None = None

    def begin(self, head: RequestHead, target: bytes) -> bytes:
        """Return the head for the server of a request whose head has been read. Raises Refused."""
        try:
            check_host_header(head, self._host, self._port)
            self._body = BodyReader(body_framing(head))
        except HeadInvalid as e:
            raise Refused("http", str(e)) from e
        return forwarded_head(head, target, self._host, self._port)

    def feed(self, data: bytes) -> bytes:
        """Return the bytes to pass on. Raises Refused, or RequestOver for bytes behind the request."""
        if self._body is None:
            self._held += data
            return self._read_head() if may_hold_head(self._held, len(data)) else b""
        try:
            taken = self._body.feed(data)
        except HeadInvalid as e:
            raise Refused("http", str(e)) from e
        if taken < len(data):
            if taken:
                self._held = data[taken:]
                return data[:taken]
            raise RequestOver
        return data

    def _read_head(self) -> bytes:
        try:
            found = read_head(self._held)
            if found is None:
                return b""
            head, size = found
            rest, self._held = self._held[size:], b""
            target = self._target(head)
        except HeadInvalid as e:
            raise Refused("http", str(e)) from e
        first = self.begin(head, target)
        return first + self.feed(rest) if rest else first

    def _target(self, head: RequestHead) -> bytes:
        """Return the target of a request in a tunnel, without the host. Raises HeadInvalid."""
        if head.method == b"CONNECT":
            raise HeadInvalid("CONNECT within a tunnel")
        if head.target.startswith((b"/", b"*")):
            return head.target
        host, port, target = parse_absolute_target(head.target)
        if (host, port) != (self._host, self._port):
            raise HeadInvalid("the target names another host than the one that was permitted")
        return target

    def end(self) -> bytes:
        """Refuse a request that ends within its head."""
        if self._body is None and self._held:
            raise Refused("http", "the connection ended within the head of its request")
        return b""


class TunnelInspector:
    """Chooses by the port and the first bytes of a tunnel how it is checked.

    On 443 there must be TLS and on 80 TLS or a plain request. On other ports, which a pattern has to name, what
    begins as one of the two is checked as that, and anything else is passed on.
    """

    def __init__(self, host: str, port: int, *, is_by_address: bool) -> None:
        self._tls = TlsInspector(host, is_by_address=is_by_address)
        self._http = HttpInspector(host, port)
        self._port = port
        self._chosen: Inspector | None = self._tls if port == TLS_PORT else None
        self._held = b""

    @property
    def speaks_tls(self) -> bool:
        """Return whether the program has begun TLS."""
        return self._chosen is self._tls

    def feed(self, data: bytes) -> bytes:
        """Return the bytes to pass on. Raises Refused, or RequestOver."""
        if self._chosen is not None:
            return self._chosen.feed(data)
        self._held += data
        if not self._held:
            return b""
        chosen = self._choose(self._held)
        if chosen is None:
            return b""
        self._chosen = chosen
        held, self._held = self._held, b""
        return chosen.feed(held)

    def _choose(self, first: bytes) -> Inspector | None:
        if first[0] == HANDSHAKE_RECORD:
            return self._tls
        if self._port == HTTP_PORT or _HTTP_LINE.match(first):
            return self._http
        is_one_line = b"\n" not in first.lstrip(b"\r\n")
        may_become = _REQUEST_START.fullmatch(first) or (is_one_line and _REQUEST.match(first))
        return None if may_become and len(first) < MAX_FIRST_LINE else _Raw()

    def end(self) -> bytes:
        """Return what was held back: too little to be a request. Raises Refused."""
        return self._held if self._chosen is None else self._chosen.end()


class _Raw:
    """Passes everything on."""

    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes:
        return b""
