"""One client's connection: the request that is arriving on it, and what is left of an answer that is leaving.

`take` is given the received bytes and returns the progress of the request. It knows nothing of the loop and of
threads, and never waits, so that both can call it. The head is read by gunicorn's own parser once it is whole. A
body is collected until its end, according to its framing, unless its handler reads it as it comes (an upload).
"""

from __future__ import annotations

import enum
import math
import socket
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.http.body import ChunkedReader, LengthReader  # type: ignore[import-untyped]
from gunicorn.http.message import Request  # type: ignore[import-untyped]
from gunicorn.http.unreader import SocketUnreader  # type: ignore[import-untyped]

from api.http.body import DRAIN_BYTES, DRAIN_S, Body
from api.server.answers import Leaving
from api.server.bodies import Budget, CollectedBody, Memory
from api.server.chunks import ChunkScan
from config.pieces import PIECE_BYTES
from config.turn import waiting

if TYPE_CHECKING:
    from api.server.relay import Relay

#: All lines of a head together.
MOST_HEAD = 64 * 1024
#: A longer request line is rejected by the parser.
MOST_LINE = 8192
#: From its first byte a head has this long to arrive, and a body of an unknown client as long again.
HEAD_S = 5.0
UNIDENTIFIED_S = 5.0
BODY_S = 60.0
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Step(enum.Enum):
    """The stages of receiving a request."""

    MORE = "wants more bytes"
    READY = "can be worked on"
    UNIDENTIFIED = "its owner must be identified before more is received"
    BAD = "is no request; see `error`"
    GONE = "its client disconnected before a request"


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that connections share: how requests are parsed, attributed and bounded."""

    config: Any
    #: The largest body that is collected.
    most_body: int
    #: Returns the owner of a request: a key if its token was recognised (True), else an address.
    whose: Callable[[Request, Any], tuple[Hashable, bool]]
    #: Returns whether the handler streams the body itself.
    is_streamed: Callable[[Request], bool]
    #: The bytes of a body that are collected before it must be known whose request it is.
    stranger_bytes: Callable[[Request], int]
    budget: Budget
    memory: Memory
    #: Returns whether many clients share an address.
    is_proxy: Callable[[str], bool]
    folder: Path | None = None


class Arrived(SocketUnreader):  # type: ignore[misc]  # gunicorn is untyped
    """Gives the parser what has been collected, and then what comes, if the request is read as it comes."""

    #: The parser may ask for a mebibyte at once: a block of that size costs its page faults each time.
    max_body_chunk = PIECE_BYTES

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.collected: CollectedBody | None = None
        self.is_whole = True

    def chunk(self, size_hint: int | None = None) -> bytes:
        size = min(max(size_hint or 0, self.mxchunk), self.max_body_chunk)
        if self.collected is not None and (piece := self.collected.read(size)):
            return piece
        if self.is_whole:
            return b""
        try:
            return bytes(self.sock.recv(size, socket.MSG_DONTWAIT))
        except BlockingIOError:
            with waiting():
                return bytes(self.sock.recv(size))


class ClientConnection:
    """A connection and the request on it. `timeout`, `sock`, `client` and `server` are read by gunicorn too."""

    def __init__(self, rules: Rules, sock: socket.socket, client: Any, server: Any) -> None:  # noqa: ANN401
        self.rules = rules
        self.sock = sock
        self.client = client
        self.server = server
        self.address: str = client[0] if isinstance(client, tuple) else "local"
        self.number = 0
        #: When an idle connection is closed.
        self.timeout = 0.0
        #: The connection was taken over: see `Worker`.
        self.is_taken = False
        self.pending = b""
        self.since = self.deadline = self.watched_at = time.monotonic()
        #: The rest of an answer, and whether the connection is kept after it.
        self.left: Leaving | None = None
        self.keeps = False
        #: The answer that is suspended, or is being moved on.
        self.relay: Relay | None = None
        self.request: Request | None = None
        self._clear()

    def _clear(self) -> None:
        self._head = bytearray()
        self._scanned = 0
        self.request = None
        self.error: Exception | None = None
        self.whose: Hashable = self.address
        self.is_known = False
        self.body = Body.WHOLE
        self.is_streamed = False
        self._unreader: Arrived | None = None
        self._collected: CollectedBody | None = None
        self._chunks: ChunkScan | None = None
        self._left = 0
        self._charged = 0
        self._charged_to: tuple[Hashable, ...] = ()
        self._discarding = False
        self._discarded = 0

    @property
    def is_idle(self) -> bool:
        """Return whether no byte of a request has arrived yet."""
        return not self._head and self.request is None

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Return the headers of the request, with names in capitals."""
        assert self.request is not None
        return list(self.request.headers)

    def take(self, data: bytes) -> Step:
        """Take what was received, or nothing at the end of what the client sends."""
        if self.request is not None:
            return self._take_body(data) if data else self._cut()
        if not data:
            return Step.GONE
        if not self._head:
            self.since = time.monotonic()
            self.deadline = self.since + HEAD_S
        self._head += data
        end = self._head.find(b"\r\n\r\n", max(0, self._scanned - 3))
        if end < 0:
            self._scanned = len(self._head)
            endless = len(self._head) > MOST_LINE and self._head.find(b"\r\n", 0, MOST_LINE) < 0
            if len(self._head) <= MOST_HEAD and not endless:
                return Step.MORE
            end = len(self._head)
        head, rest = bytes(self._head[: end + 4]), bytes(self._head[end + 4 :])
        self._head.clear()
        try:
            self._parse(head)
        except Exception as e:  # noqa: BLE001  # each error of the parser is answered
            self.error = e
            return Step.BAD
        return self._begin_body(rest)

    def known_as(self, whose: Hashable | None) -> Step:
        """Continue after UNIDENTIFIED with the request's owner; None rejects the request, and reading stops."""
        if whose is None:
            self.body = Body.SLOW if time.monotonic() >= self.deadline else Body.TOO_LARGE
            return Step.READY
        self.whose, self.is_known = whose, True
        self.deadline = self.since + BODY_S
        if not self._discarding and self.rules.is_streamed(self.request):
            return self._stream()
        return Step.MORE

    def late(self) -> Step:
        """Return the next step of a request whose time is over."""
        if self.request is None:
            return Step.GONE if self.is_idle else Step.BAD
        if self._discarding:
            return Step.READY
        if not self.is_known and self.since + BODY_S > time.monotonic():
            return Step.UNIDENTIFIED
        self.body = Body.SLOW
        return Step.READY

    def ended(self) -> bool:
        """Forget the request that was answered. Returns whether the next may come on this connection."""
        request, unreader = self.request, self._unreader
        assert request is not None
        assert unreader is not None
        usable = self.body is Body.WHOLE and not self._discarding and not request.should_close()
        if self.is_streamed or self._chunks is not None:
            # Only the parser knows for certain the end of chunks.
            usable = usable and _is_read(request)
        if self.is_streamed:
            self.pending = unreader.take_buffered()
        self.forget()
        return usable

    def forget(self) -> None:
        """Release everything that the request holds."""
        if self._collected is not None:
            self._collected.close()
        if self._charged:
            self.rules.budget.release(self._charged_to, self._charged)
        self._clear()

    # -- the request -------------------------------------------------------------------------------

    def _parse(self, head: bytes) -> None:
        self.number += 1
        self._unreader = Arrived(self.sock)
        self._unreader.unread(head)
        self.request = Request(self.rules.config, self._unreader, self.client, self.number)
        self.whose, self.is_known = self.rules.whose(self.request, self.client)

    def _begin_body(self, rest: bytes) -> Step:
        request = self.request
        assert request is not None
        assert self._unreader is not None
        reader = request.body.reader
        self.deadline = time.monotonic() + (BODY_S if self.is_known else UNIDENTIFIED_S)
        if isinstance(reader, LengthReader):
            self._left = reader.length
            if self._left <= len(rest) and not (self._left and self.rules.is_streamed(request)):
                # The ordinary case: all of it has come with the head, in one piece that is not large.
                self._unreader.unread(rest[: self._left])
                self.pending = rest[self._left :]
                request._expected_100_continue = False  # gunicorn's own flag
                return Step.READY
        else:
            assert isinstance(reader, ChunkedReader)
            self._chunks = ChunkScan()
        if self.is_known and self.rules.is_streamed(request):
            self._unreader.unread(rest)
            return self._stream()
        expects = request._expected_100_continue  # gunicorn's own flag
        request._expected_100_continue = False
        if self._left > self._most:
            self.body = Body.OVER
            if expects or not self.is_known:  # its sender waits for the answer, or is unknown
                self._discarding = True
                return Step.READY
            self._discard()
        elif expects:
            try:
                self.sock.send(CONTINUE, socket.MSG_DONTWAIT)
            except OSError:
                return Step.GONE
        return self._take_body(rest) if rest else Step.MORE

    def _stream(self) -> Step:
        """Let the handler read the body: what has come of it, and then what comes."""
        assert self._unreader is not None
        self.is_streamed = True
        self._unreader.collected = self._collected
        self._unreader.is_whole = False
        return Step.READY

    def _take_body(self, data: bytes) -> Step:
        belongs = self._chunks.take(data) if self._chunks is not None else min(len(data), self._left)
        step = self._keep(data, belongs)
        if step is Step.MORE and not self.is_known and self._size > self.rules.stranger_bytes(self.request):
            return Step.UNIDENTIFIED
        return step

    @property
    def _most(self) -> float:
        """Return the largest body of this request that is collected; a streamed body has its bound elsewhere."""
        return math.inf if self.rules.is_streamed(self.request) else self.rules.most_body

    @property
    def _size(self) -> int:
        return self._collected.size if self._collected is not None else 0

    def _keep(self, data: bytes, belongs: int) -> Step:
        """Keep the first `belongs` of these bytes, which are the body's; what follows is the next request's."""
        self._left -= belongs
        if self._chunks is not None and self._chunks.size > self._most and not self._discarding:
            self.body = Body.OVER
            self._discard()
        if self._discarding:
            self._discarded += belongs
            if self._discarded >= DRAIN_BYTES:
                return Step.READY
        elif not self._collect(memoryview(data)[:belongs]):
            return Step.READY
        if self._chunks.ended if self._chunks is not None else self._left <= 0:
            self.pending = data[belongs:]
            assert self._unreader is not None
            self._unreader.collected = self._collected
            return Step.READY
        return Step.MORE

    def _collect(self, data: memoryview) -> bool:
        if self._collected is None:
            self._collected = CollectedBody(self.rules.folder, self.rules.memory)
            self._charged_to = self._accounts()
        try:
            if not self.rules.budget.take(self._charged_to, len(data)):
                self.body = Body.CROWDED
                return False
            self._charged += len(data)
            self._collected.add(data)
        except OSError:
            self.body = Body.CROWDED
            return False
        return True

    def _accounts(self) -> tuple[Hashable, ...]:
        """Return whose shares a body counts in: its key's, and its address's unless that is a proxy's."""
        if self.whose == self.address or self.rules.is_proxy(self.address):
            return (self.whose,)
        return (self.whose, self.address)

    def _discard(self) -> None:
        self._discarding = True
        self.deadline = time.monotonic() + DRAIN_S
        if self._collected is not None:
            self._collected.close()
            self._collected = None

    def _cut(self) -> Step:
        """Mark the body as incomplete because the client sends no more; its handler answers so."""
        self.body = Body.CUT
        assert self._unreader is not None
        self._unreader.collected = self._collected
        return Step.READY


def _is_read(request: Request) -> bool:
    """Return whether its handler has read all of a streamed body."""
    body = request.body
    if body.failed or body.buf.tell():
        return False
    reader = body.reader
    if isinstance(reader, LengthReader):
        return bool(reader.length == 0)
    return reader.parser is None


def status_of(error: Exception | None, statuses: tuple[tuple[type[Exception], int], ...]) -> int:
    """Return the status that a parser's error is answered with; 408 for a head that did not come in time."""
    if error is None:
        return HTTPStatus.REQUEST_TIMEOUT
    return next((status for kind, status in statuses if isinstance(error, kind)), 500)
