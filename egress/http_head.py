"""Read the head of an HTTP request, strictly, and how its body is framed (RFC 9112).

Ambiguous input is refused: another line end, a folded line, a space before a colon, two
lengths. A proxy that is read in another way than the server behind it lets one request hide another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from config.network_patterns import PatternInvalid, parse_host, parse_port

MAX_HEAD_BYTES = 65_536
MAX_HEADERS = 200
END_OF_HEAD = b"\r\n\r\n"
HTTP_PORT = 80

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_TARGET = re.compile(rb"[\x21-\x7e]+")
_VERSION = re.compile(rb"HTTP/1\.[01]")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH = re.compile(rb"[0-9]{1,18}")
#: Of this connection alone: they are not passed on (RFC 9110, 7.6.1).
HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"proxy-authenticate", b"te",
     b"upgrade", b"http2-settings"}
)  # fmt: skip
#: What a Connection header may not remove: it would change what the request is.
KEPT = frozenset({b"host", b"content-length", b"transfer-encoding"})


class HeadInvalid(ValueError):
    """A head that is not served; the message is for the client."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The head of one request. `headers` are (name in lower case, name as it came, value)."""

    method: bytes
    target: bytes
    version: bytes
    headers: tuple[tuple[bytes, bytes, bytes], ...]

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of all headers of a name, given in lower case."""
        return [value for lower, _, value in self.headers if lower == name]


def read_head(data: bytes) -> tuple[RequestHead, int] | None:
    """Read the head at the front of `data`, with its length; None while its end is missing. Raises HeadInvalid."""
    end = data.find(END_OF_HEAD, 0, MAX_HEAD_BYTES)
    if end < 0:
        if len(data) >= MAX_HEAD_BYTES:
            raise HeadInvalid(f"the head of the request has more than {MAX_HEAD_BYTES} bytes")
        return None
    first, *lines = data[:end].split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or not _TOKEN.fullmatch(words[0]) or not _TARGET.fullmatch(words[1]):
        raise HeadInvalid("the first line is not a request")
    if not _VERSION.fullmatch(words[2]):
        raise HeadInvalid("the version is not HTTP/1.0 or HTTP/1.1")
    if len(lines) > MAX_HEADERS:
        raise HeadInvalid(f"the request has more than {MAX_HEADERS} headers")
    headers = []
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise HeadInvalid("a header is malformed")
        headers.append((found[1].lower(), found[1], found[2].rstrip(b" \t")))
    return RequestHead(words[0], words[1], words[2], tuple(headers)), end + len(END_OF_HEAD)


def may_hold_head(held: bytes, added: int) -> bool:
    """Return whether it is time to read a head, when the last `added` bytes of `held` are new."""
    return len(held) >= MAX_HEAD_BYTES or held.find(END_OF_HEAD, max(0, len(held) - added - 3)) >= 0


def parse_authority(text: str, default_port: int | None) -> tuple[str, int]:
    """Return host and port of `host:port`. Raises HeadInvalid; without a default the port must be there."""
    if "@" in text:
        raise HeadInvalid("the address of the request holds a user name")
    host, port = text, None
    if text.startswith("["):
        bracket = text.find("]")
        host, rest = text[: bracket + 1], text[bracket + 1 :]
        if bracket < 0 or (rest and not rest.startswith(":")):
            raise HeadInvalid("the address of the request is malformed")
        port = rest[1:] if rest else None
    elif ":" in text:
        host, _, port = text.rpartition(":")
    try:
        if port is None:
            if default_port is None:
                raise HeadInvalid("the request names no port")
            return parse_host(host), default_port
        return parse_host(host), parse_port(port)
    except PatternInvalid as e:
        raise HeadInvalid(f"the host of the request: {e}") from e


def parse_absolute_target(target: bytes) -> tuple[str, int, bytes]:
    """Return host, port and the target for the server, of `http://host:port/path`. Raises HeadInvalid."""
    text = target.decode("ascii")
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise HeadInvalid("the proxy serves CONNECT, and requests whose target is http://…")
    if scheme.lower() == "https":
        raise HeadInvalid("https:// is reached by CONNECT")
    try:
        netloc = urlsplit(f"http://{rest}").netloc
    except ValueError as e:
        raise HeadInvalid("the target is malformed") from e
    if "\\" in netloc or not rest.startswith(netloc):
        raise HeadInvalid("the target is malformed")
    host, port = parse_authority(netloc, HTTP_PORT)
    path = rest[len(netloc) :].partition("#")[0]
    return host, port, (path if path.startswith("/") else f"/{path}").encode("ascii")


def check_host_header(head: RequestHead, host: str, port: int) -> None:
    """Check that the Host header names this host and port. Raises HeadInvalid."""
    values = head.values(b"host")
    if not values and head.version == b"HTTP/1.0":
        return
    if len(values) != 1:
        raise HeadInvalid("the request must have one Host header")
    if not values[0].isascii() or parse_authority(values[0].decode("ascii"), HTTP_PORT) != (host, port):
        raise HeadInvalid("the Host header names another host than the one that was permitted")


@dataclass(frozen=True, slots=True)
class Framing:
    """The framing of a body: `length` bytes, or chunks if it is None."""

    length: int | None


def body_framing(head: RequestHead) -> Framing:
    """Return how the body of a request is framed. Raises HeadInvalid where that can be read in two ways."""
    encodings, lengths = head.values(b"transfer-encoding"), head.values(b"content-length")
    if encodings:
        if lengths:
            raise HeadInvalid("the request has both Content-Length and Transfer-Encoding")
        if len(encodings) > 1 or encodings[0].lower() != b"chunked" or head.version != b"HTTP/1.1":
            raise HeadInvalid("Transfer-Encoding must be chunked, once, in HTTP/1.1")
        return Framing(None)
    if not lengths:
        return Framing(0)
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise HeadInvalid("Content-Length must be one number")
    return Framing(int(lengths[0]))


def forwarded_head(head: RequestHead, target: bytes, host: str, port: int) -> bytes:
    """Return the head for the server: its own target and Host, nothing of this connection, to be closed after one
    request.
    """
    named = {name.strip().lower() for value in head.values(b"connection") for name in value.split(b",")} - KEPT
    dropped = HOP_BY_HOP | named | {b"host"}
    lines = [b" ".join((head.method, target, head.version)), b"Host: " + authority(host, port).encode("ascii")]
    lines += [name + b": " + value for lower, name, value in head.headers if lower not in dropped]
    lines.append(b"Connection: close")
    return b"\r\n".join(lines) + END_OF_HEAD


def authority(host: str, port: int) -> str:
    """Return host and port as a Host header has them."""
    name = f"[{host}]" if ":" in host else host
    return name if port == HTTP_PORT else f"{name}:{port}"
