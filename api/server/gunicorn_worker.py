"""gunicorn's threaded worker, extended for a service on the open internet.

One thread, the loop (`loop.py`), watches all connections. It reads heads and bodies until a request is complete and
sends what is left of large answers: neither idle nor slow clients hold a thread. A complete request waits for its
turn, and a thread serves it.

* An answer that takes long is moved on as far as it goes, and suspended until there is more (`relay.py`).
* The thread that has answered waits briefly for the next request if threads are spare. To return the connection to
  the loop costs 40 % of a request's CPU.
* What the HTTP parser refuses is answered in the error shape of the API, without repeating what was sent.
* The name and version of the server are not sent.
"""

from __future__ import annotations

import errno
import logging
import select
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from gunicorn import util  # type: ignore[import-untyped]
from gunicorn.glogging import Logger as GunicornLogger  # type: ignore[import-untyped]
from gunicorn.http import errors as http_errors  # type: ignore[import-untyped]
from gunicorn.http import wsgi

from api.context import EXTENSION
from api.errors import JSON, ApiError, envelope, http_error
from api.http.body import ARRIVAL_KEY, BODY_KEY, KEYLESS_BODY_BYTES, UNAUTHENTICATED_BODY_BYTES, Body
from api.http.long_answers import HAS_MORE_KEY, LateAnswer, LongAnswer
from api.http.takeover import TAKE_OVER_KEY
from api.keys.authentication import authorization_of
from api.ratelimit.client_address import client_address, is_proxy
from api.server.answers import HttpResponse, Room
from api.server.bodies import Budget, Memory
from api.server.connection import ClientConnection, Rules, Step, status_of
from api.server.loop import Fate, Loop, receive
from api.server.relay import Relay, has_more
from api.server.turns import HeldTurn
from config.ids import new_id
from config.turn import hold
from protocol.job import MAX_BODY_BYTES

if TYPE_CHECKING:
    from collections.abc import Hashable
    from datetime import timedelta

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from gunicorn.config import Config  # type: ignore[import-untyped]
    from gunicorn.http.message import Request  # type: ignore[import-untyped]

    from api.context import Context

log = logging.getLogger(__name__)

#: Environ key of the function that is called at the end of a request.
ENDED_KEY = "runyard.ended"
#: Seconds that a thread waits for the next request of a connection, and how many threads may wait at once, beyond
#: those that requests need.
KEEPALIVE_WAIT_S = 0.5
KEEPALIVE_WAITERS = 16
#: Threads that may wait a little for the next piece of a long answer before it is suspended.
LINGERERS = 64
#: Bodies that are collected or worked on: in all, and of one key or address.
BODIES_BYTES = 256 * 1024 * 1024
BODIES_SHARE_BYTES = 64 * 1024 * 1024
#: The most bytes of slowly read answers in files: of all clients, and of one.
RESTS_BYTES = 4 * 1024 * 1024 * 1024
RESTS_SHARE_BYTES = 1024 * 1024 * 1024
#: The path of uploads, whose bodies are streamed.
UPLOADS = "/v1/files"
SESSIONS = "/v1/sessions/"
RUNS = "/v1/runs/"

_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (http_errors.LimitRequestLine, 414),
    (http_errors.LimitRequestHeaders, 431),
    (http_errors.ExpectationFailed, 417),
    (http_errors.UnsupportedTransferCoding, 501),
    (http_errors.ConfigurationProblem, 500),
    (http_errors.ParseException, 400),
    (http_errors.NoMoreData, 400),
    (StopIteration, 400),
)


class Worker(Loop):
    """Serves the requests that the loop has received whole. All but the start runs on threads."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.wsgi: WSGIApplication
        self._spare = threading.Semaphore(KEEPALIVE_WAITERS)
        self._lingerers = threading.Semaphore(LINGERERS)
        self._rests = Budget(RESTS_BYTES, RESTS_SHARE_BYTES)
        wsgi.SERVER = "runyard"

    # -- start -------------------------------------------------------------------------------------

    def load_wsgi(self) -> None:
        super().load_wsgi()
        application: WSGIApplication = self.wsgi
        self.served: Context = self.app.wsgi().extensions[EXTENSION]
        self.trusted = self.served.settings.trusted()
        folder = self.served.settings.api_home
        self.rules = Rules(
            config=self.cfg,
            most_body=MAX_BODY_BYTES,
            whose=self._whose,
            is_streamed=_is_upload,
            stranger_bytes=self._stranger_bytes,
            budget=Budget(BODIES_BYTES, BODIES_SHARE_BYTES),
            memory=Memory(),
            is_proxy=lambda address: is_proxy(address, self.trusted),
            folder=folder if folder.is_dir() else None,
        )

        def application_with_facts(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            environ[ENDED_KEY] = self.served.access.end
            environ[ARRIVAL_KEY] = partial(self.allow, environ["gunicorn.socket"])
            return application(environ, start_response)

        self.wsgi = application_with_facts

    def _whose(self, request: Request, client: Any) -> tuple[Hashable, bool]:  # noqa: ANN401
        authorization, api_key, forwarded = None, None, []
        for name, value in request.headers:
            if name == "AUTHORIZATION":
                authorization = value
            elif name == "X-API-KEY":
                api_key = value
            elif name == "X-FORWARDED-FOR":
                forwarded.append(value)
        authorization = self._given(request, authorization, api_key)
        if authorization is not None:
            key = self._recognised(authorization)
            if key is not None:
                return key, True
        remote = client[0] if isinstance(client, tuple) else None
        return client_address(remote, ",".join(forwarded) if self.trusted else None, self.trusted), False

    def _given(self, request: Request, authorization: str | None, api_key: str | None) -> str | None:
        """Return what a request says who it is from; None without a key."""
        if authorization is None and api_key is None:
            api_key = self.served.query_key(request.path, request.query)
        return authorization_of(authorization, api_key)

    def _stranger_bytes(self, request: Request) -> int:
        return KEYLESS_BODY_BYTES if self.served.is_keyless(request.path) else UNAUTHENTICATED_BODY_BYTES

    def _recognised(self, authorization: str | None) -> bytes | None:
        served = self.served
        return served.authenticator.recognised(authorization) or served.administrator.recognised(authorization)

    # -- on threads --------------------------------------------------------------------------------

    def ask_whose(self, conn: ClientConnection) -> Fate:
        """Identify the owner of a request that exceeds an unknown client's bounds. Runs on a thread."""
        turn = HeldTurn(self.turns, conn.whose)
        hold(turn)
        try:
            headers = dict(conn.headers)
            given = self._given(conn.request, headers.get("AUTHORIZATION"), headers.get("X-API-KEY"))
            address = conn.whose
            with suppress(ApiError):
                if given is not None:
                    self.served.authenticator.authenticate(
                        given, may_ask=lambda: self.served.limiter.may_ask(str(address))
                    )
            key = self._recognised(given)
            if conn.known_as(key) is Step.MORE:
                return Fate.ARRIVING
        finally:
            hold(None)
            turn.leave()
        self.method_queue.defer(self.go_on, conn, Step.READY)
        return Fate.TAKEN

    def serve_connection(self, conn: ClientConnection) -> Fate:
        """Serve a request, or move its answer on, and serve those that follow it closely. Runs on a thread.

        Returns what becomes of it all.
        """
        turn = HeldTurn(self.turns, conn.whose)
        hold(turn)
        try:
            fate = self._serve(conn)
            while fate is Fate.KEEP and self.alive:
                turn.leave()
                step = self._wait_for_next_request(conn)
                if step is None:
                    break
                if step is not Step.READY:
                    return {Step.MORE: Fate.ARRIVING, Step.UNIDENTIFIED: Fate.ARRIVING}.get(step, Fate.CLOSE)
                turn.whose = conn.whose
                turn.enter()
                fate = self._serve(conn)
            return fate
        finally:
            hold(None)
            turn.leave()

    def _serve(self, conn: ClientConnection) -> Fate:
        """Serve one request. Runs on a thread."""
        request = conn.request
        try:
            usable = self._respond(conn) if conn.relay is None else self._move(conn, conn.relay)
        except OSError as e:
            if e.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, None):
                log.exception("request failed at its socket")
            usable = False
        except Exception as e:  # noqa: BLE001  # it is logged, and answered if nothing was
            usable = False
            self.handle_error(request, conn.sock, conn.client, e)
        self.allow(conn.sock, None)
        if conn.is_taken:
            return Fate.TAKEN
        if conn.relay is not None:
            return Fate.SUSPENDED
        usable = conn.ended() and bool(usable)
        if conn.left is not None:
            conn.keeps = usable
            return Fate.LEAVING
        return Fate.KEEP if usable else Fate.CLOSE

    def _wait_for_next_request(self, conn: ClientConnection) -> Step | None:
        """Wait a little for the next request, if this thread can be spared. None if nothing has come of it."""
        if conn.pending:
            pending, conn.pending = conn.pending, b""
            step = conn.take(pending)
            if step is not Step.MORE:
                return self._said_bad(conn, step)
        if not self._spare.acquire(blocking=False):
            return None if conn.is_idle else Step.MORE
        try:
            poller = select.poll()
            poller.register(conn.sock, select.POLLIN)
            if not poller.poll(KEEPALIVE_WAIT_S * 1000):
                return None if conn.is_idle else Step.MORE
            data = receive(conn.sock)
            if data is None:
                return None if conn.is_idle else Step.MORE
            return self._said_bad(conn, conn.take(data))
        finally:
            self._spare.release()

    def _said_bad(self, conn: ClientConnection, step: Step) -> Step:
        if step is Step.BAD:
            self.answer_error(conn, conn.error)
        return step

    def _respond(self, conn: ClientConnection) -> bool:
        """Have the application answer a request. Runs on a thread. Returns whether the connection may be kept."""
        conn.sock.setblocking(True)
        request = conn.request
        room = Room(self.rules.folder, self._rests, conn.whose)
        answer, environ = wsgi.create(request, conn.sock, conn.client, conn.server, self.cfg, HttpResponse, (room,))
        environ["wsgi.multithread"] = True
        environ[BODY_KEY] = None if conn.is_streamed else conn.body
        environ[TAKE_OVER_KEY] = partial(self._take_over, conn)
        environ[HAS_MORE_KEY] = partial(has_more, conn.sock, self._lingerers)
        self._close_if_last(conn, answer)
        began = datetime.now()  # noqa: DTZ005  # only its distance to another
        try:
            pieces = self.wsgi(environ, answer.start_response)
            if isinstance(pieces, LongAnswer | LateAnswer):
                again = partial(self._answer_again, conn, room)
                conn.relay = Relay(pieces, conn.sock, answer, environ, again=again, began=began)
                return self._move(conn, conn.relay)
            try:
                if not conn.is_taken:
                    for piece in pieces:
                        answer.write(piece)
                    answer.close()
            finally:
                self.log.access(answer, request, environ, datetime.now() - began)  # noqa: DTZ005
                if hasattr(pieces, "close"):
                    pieces.close()
        except Exception as e:
            if isinstance(e, OSError) or not answer.headers_sent:
                raise
            log.exception("an answer broke off")  # another one on the same socket would corrupt it
            return False
        conn.left = answer.outbox.leaving
        return not answer.should_close()

    def _close_if_last(self, conn: ClientConnection, answer: HttpResponse) -> None:
        if not self.alive or not self.cfg.keepalive or conn.body is not Body.WHOLE:
            answer.force_close()

    def _answer_again(self, conn: ClientConnection, room: Room) -> HttpResponse:
        """Return another answer to the request of a connection, of which nothing was sent yet."""
        answer = HttpResponse(conn.request, conn.sock, self.cfg, room)
        self._close_if_last(conn, answer)
        return answer

    def _move(self, conn: ClientConnection, relay: Relay) -> bool:
        """Move a long answer on, as far as it goes. Runs on a thread.

        Returns whether the connection may be kept, if it has ended; then `conn.relay` is None.
        """
        is_over = True
        try:
            is_over = relay.move(self._lingerers)
        except Exception as e:
            if isinstance(e, OSError) or not relay.answer.headers_sent:
                raise
            log.exception("an answer broke off")
            return False
        finally:
            if is_over:
                conn.relay = None
                relay.close()
                elapsed = datetime.now() - relay.began  # noqa: DTZ005
                self.log.access(relay.answer, conn.request, relay.environ, elapsed)
        return not relay.answer.should_close()

    def _take_over(self, conn: ClientConnection) -> tuple[socket.socket, bytes]:
        """Give a handler its connection for good, with what was read beyond its request.

        It closes the socket. When it has returned, nothing more is sent or read here.
        """
        conn.is_taken = True
        pending, conn.pending = conn.pending, b""
        return conn.sock.dup(), pending

    # -- errors ------------------------------------------------------------------------------------

    def handle_error(self, req: object, client: socket.socket, addr: object, exc: Exception | None) -> None:  # noqa: ARG002
        """Answer what the parser refused, or what escaped the application, in the shape of every error."""
        status = status_of(exc, _STATUSES)
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
        self.served.access.log_unparsed(request_id, status, len(body), addr[0] if isinstance(addr, tuple) else None)

    def answer_error(self, conn: ClientConnection, error: Exception | None) -> None:
        self.handle_error(None, conn.sock, conn.client, error)


def _is_upload(request: Request) -> bool:
    """Return whether a handler reads the body of this request as it comes."""
    path = request.path
    if request.method == "POST":
        return bool(path == UPLOADS or (path.startswith((SESSIONS, RUNS)) and path.endswith("/stdin")))
    is_file = path.startswith(SESSIONS) and path.endswith(("/files", "/files/archive"))
    return bool(request.method == "PUT" and is_file)


class Logger(GunicornLogger):  # type: ignore[misc]  # gunicorn is untyped
    """Sends gunicorn's own messages to the service's log, and reports the end of each request to the access log."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)

    def access(self, resp: Any, _req: object, environ: WSGIEnvironment, request_time: timedelta) -> None:  # noqa: ANN401
        """Record an answer that was sent, handed to the loop with its rest, or given up."""
        ended = environ.pop(ENDED_KEY, None)
        if ended is not None:
            ended(environ, resp.status_code or 500, request_time.total_seconds(), resp.sent)
