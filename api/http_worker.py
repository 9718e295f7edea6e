"""gunicorn's threaded worker, with what a service on the open internet needs beside it.

* A connection holds no thread before its first byte, and only so long until its request has arrived: neither
  idle nor trickling clients can occupy the threads.
* Who asks again soon is answered by the thread that answered before, if there are some to spare: to give a
  connection back to the thread that accepts, and to be given it again, is two fifths of a request's CPU there.
* A connection is closed on the thread that served it: upstream lingers for up to two seconds on the one
  thread that accepts, which any client that asks for `Connection: close` and stays can bring about.
* What the HTTP parser refuses is answered in the error shape of the API, without repeating what was sent.
* The head of an answer and the first of its body are sent together: who waits is woken once.
* The name and version of the server are not told.
"""

from __future__ import annotations

import logging
import select
import selectors
import socket
import struct
import threading
import time
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from gunicorn import util  # type: ignore[import-untyped]
from gunicorn.glogging import Logger as GunicornLogger  # type: ignore[import-untyped]
from gunicorn.http import errors as http_errors  # type: ignore[import-untyped]
from gunicorn.http import wsgi
from gunicorn.http.unreader import SocketUnreader  # type: ignore[import-untyped]
from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]

from api.body import ARRIVAL_KEY
from api.context import EXTENSION
from api.errors import JSON, envelope, http_error
from config.ids import new_id
from config.pieces import PIECE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from gunicorn.config import Config  # type: ignore[import-untyped]

    from api.access import Access

log = logging.getLogger(__name__)

#: Where a request's environ says whom to tell of its end.
ENDED_KEY = "runyard.ended"
#: From its first byte a request has this long to show its headers, and then this long to arrive whole.
HEADERS_TIMEOUT_S = 10.0
BODY_TIMEOUT_S = 60.0
#: A client that takes nothing of its answer for this long is given up.
SEND_TIMEOUT_S = 30
#: So long a thread waits for the next request of a connection, and so many threads do that at the same time, beyond
#: those that requests need.
LINGER_S = 0.5
LINGERERS = 16
_SEND_TIMEVAL = struct.pack("ll", SEND_TIMEOUT_S, 0)

_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (http_errors.LimitRequestLine, 414),
    (http_errors.LimitRequestHeaders, 431),
    (http_errors.ExpectationFailed, 417),
    (http_errors.UnsupportedTransferCoding, 501),
    (http_errors.ConfigurationProblem, 500),
    (http_errors.ParseException, 400),
)


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn is untyped
    """A `gthread` worker that idle, slow and lingering clients cannot occupy."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.wsgi: WSGIApplication
        self._arriving: dict[socket.socket, float] = {}
        self._lingerers = threading.Semaphore(LINGERERS)
        wsgi.SERVER = "runyard"
        wsgi.Response = Answer
        read_bodies_by_pieces()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        application: WSGIApplication = self.wsgi
        self._access: Access = self.app.wsgi().extensions[EXTENSION].access

        def with_deadline(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            environ[ENDED_KEY] = self._access.end
            environ[ARRIVAL_KEY] = arrival = partial(self._allow, environ["gunicorn.socket"])
            arrival(BODY_TIMEOUT_S)
            return application(environ, start_response)

        self.wsgi = with_deadline

    def _allow(self, sock: socket.socket, seconds: float | None) -> None:
        """Give what is left of a request so long to arrive; None when it has."""
        if seconds is None:
            self._arriving.pop(sock, None)
        else:
            self._arriving[sock] = time.monotonic() + seconds

    def accept(self, listener: socket.socket) -> None:
        """Take a connection and wait for its first byte without a thread."""
        try:
            sock, address = listener.accept()
        except OSError as e:
            log.debug("accept: %s", e)
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEVAL)
        connection = TConn(self.cfg, sock, address, listener.getsockname())
        connection.timeout = time.monotonic() + self.cfg.keepalive
        self.nr_conns += 1
        self.pending_conns.append(connection)
        self.poller.register(sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, connection))

    def handle(self, conn: TConn) -> object:
        """Serve a connection while its requests follow each other closely, and close it here if it ends."""
        keep = self._serve(conn)
        while keep is True and self._is_asked_again(conn):
            keep = self._serve(conn)
        if not keep:
            with suppress(OSError):
                util.close_graceful(conn.sock)
            conn.close = _closed
        return keep

    def _serve(self, conn: TConn) -> object:
        """Serve one request. Whether the connection can be used again."""
        self._arriving[conn.sock] = time.monotonic() + HEADERS_TIMEOUT_S
        try:
            return super().handle(conn)
        finally:
            self._arriving.pop(conn.sock, None)

    def _is_asked_again(self, conn: TConn) -> bool:
        """Wait a little for the next request, if this thread can be spared. Whether there is one, or an end."""
        if not self.alive or not self._lingerers.acquire(blocking=False):
            return False
        try:
            poller = select.poll()
            poller.register(conn.sock, select.POLLIN)
            # What was read beyond the last body is of the next request, and is not waited for.
            return bool(conn.parser.unreader.buf.getvalue() or poller.poll(LINGER_S * 1000))
        finally:
            self._lingerers.release()

    def murder_keepalived(self, force: bool = False) -> None:  # noqa: FBT001, FBT002
        """Beside upstream's: end the requests that took too long to arrive. Called about once a second."""
        super().murder_keepalived(force)
        now = time.monotonic()
        for sock, deadline in list(self._arriving.items()):
            if now > deadline:
                # The thread that reads sees the end of the stream.
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RD)

    def handle_error(
        self,
        req: object,  # noqa: ARG002
        client: socket.socket,
        addr: object,
        exc: Exception,
    ) -> None:
        """Answer what the parser refused, or what escaped the application, in the shape of every error."""
        status = next((status for kind, status in _STATUSES if isinstance(exc, kind)), 500)
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("request failed in the server", exc_info=exc)
        body = envelope(http_error(status))
        request_id = new_id("req")
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nServer: {wsgi.SERVER}\r\n"
            f"Connection: close\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n"
            f"x-request-id: {request_id}\r\n\r\n"
        )
        with suppress(OSError):
            util.write_nonblock(client, head.encode() + body)
        self._access.unread(request_id, status, len(body), addr[0] if isinstance(addr, tuple) else None)


class Answer(wsgi.Response):  # type: ignore[misc]  # gunicorn is untyped
    """An answer whose head goes with what comes first of its body."""

    sock: socket.socket | _Held

    def write(self, arg: bytes) -> None:
        if self.headers_sent or len(arg) > PIECE_BYTES:
            super().write(arg)
            return
        held = _Held()
        sock, self.sock = self.sock, held
        try:
            super().write(arg)
        finally:
            self.sock = sock
            sock.sendall(b"".join(held.pieces))


class _Held:
    """Stands in for a socket, and keeps what is to be sent."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.pieces.append(data)


class Logger(GunicornLogger):  # type: ignore[misc]  # gunicorn is untyped
    """gunicorn's own messages through the service's log; who writes of requests is told that one is over."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)

    def access(self, resp: Any, _req: object, environ: WSGIEnvironment, request_time: timedelta) -> None:  # noqa: ANN401
        """The last byte of an answer has been sent, or will never be."""
        ended = environ.pop(ENDED_KEY, None)
        if ended is not None:
            ended(environ, resp.status_code or 500, request_time.total_seconds(), resp.sent)


def read_bodies_by_pieces() -> None:
    """Have gunicorn take at most PIECE_BYTES of a body at once: it would make a mebibyte's room for each read."""
    SocketUnreader.max_body_chunk = PIECE_BYTES


def _closed(graceful: bool = False) -> None:  # noqa: FBT001, FBT002
    """Stands in for the close of a connection that is closed."""
