"""gunicorn's threaded worker, with what a service on the open internet needs beside it.

One thread, the loop, watches all connections. It reads heads and bodies until a request is complete, and sends
what is left of large answers; so neither idle nor slow clients hold a thread. A complete request waits for its turn
(`turns.py`): a few are worked on at a time, and the keys take turns.

* The thread that has answered waits briefly for the next request if threads are spare. To return the connection to
  the loop costs 40 % of a request's CPU.
* At most ARRIVING_MOST connections of an address may be without a complete request; beyond that the oldest is
  closed. When all connections are in use, the one that has been idle for longest is closed, so that idle ones never
  stop `accept`.
* A connection is closed by the loop, which discards for a while what its client still sends.
* What the HTTP parser refuses is answered in the error shape of the API, without repeating what was sent.
* The name and version of the server are not told.
"""

from __future__ import annotations

import errno
import logging
import select
import selectors
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from gunicorn import util  # type: ignore[import-untyped]
from gunicorn.glogging import Logger as GunicornLogger  # type: ignore[import-untyped]
from gunicorn.http import errors as http_errors  # type: ignore[import-untyped]
from gunicorn.http import wsgi
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from api.body import ARRIVAL_KEY, BODY_KEY
from api.context import EXTENSION
from api.errors import JSON, ApiError, envelope, http_error
from api.limits.addresses import client_address, is_proxy
from api.server.answers import Answer, Leaving, Room
from api.server.bodies import Budget, Memory
from api.server.connection import Body, Connection, Rules, Step, status_of
from api.server.turns import STALLED_S, HeldTurn, Turns
from config.ids import new_id
from config.turn import hold
from sandbox.job import MAX_BODY_BYTES

if TYPE_CHECKING:
    from collections.abc import Hashable
    from concurrent.futures import Future
    from datetime import timedelta

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from gunicorn.config import Config  # type: ignore[import-untyped]
    from gunicorn.http.message import Request  # type: ignore[import-untyped]

    from api.context import Context

log = logging.getLogger(__name__)

#: Where a request's environ says whom to tell of its end.
ENDED_KEY = "runyard.ended"
#: Where it says how to take its connection over, for what is no HTTP any more.
TAKE_OVER_KEY = "runyard.take_over"
#: So many connections of one address may be without a complete request, those younger than a moment aside.
ARRIVING_MOST = 64
ARRIVING_GRACE_S = 1.0
#: How often the loop looks at what has taken too long.
LOOK_S = 0.5
#: So long a closed connection's client may go on sending before it is cut off.
LINGERING_S = 2.0
LINGERING_BYTES = 64 * 1024
#: So long a thread waits for the next request of a connection, and so many threads do that at the same time, beyond
#: those that requests need.
KEEPALIVE_WAIT_S = 0.5
KEEPALIVE_WAITERS = 16
#: Bodies that are collected or worked on: in all, and of one key or address.
BODIES_BYTES = 256 * 1024 * 1024
BODIES_SHARE_BYTES = 64 * 1024 * 1024
#: What is left of answers that are read slowly, in files: of all clients, and of one.
RESTS_BYTES = 4 * 1024 * 1024 * 1024
RESTS_SHARE_BYTES = 1024 * 1024 * 1024
RECEIVE_BYTES = 64 * 1024
#: Where files are uploaded, which are read as they come.
UPLOADS = "/v1/files"

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
#: What becomes of a connection after a request.
_KEEP, _CLOSE, _ARRIVING, _LEAVING, _TAKEN = "keep", "close", "arriving", "leaving", "taken"


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn is untyped
    """Serves connections. What begins with an underscore and says so runs on threads; all else is the loop's."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.wsgi: WSGIApplication
        self.turns = Turns()
        self._spare = threading.Semaphore(KEEPALIVE_WAITERS)
        #: Connections without a complete request, by address, the oldest first.
        self._arriving: dict[str, OrderedDict[Connection, None]] = {}
        #: Connections that are closed but for what their clients still send: until when, and how much that was.
        self._lingering: dict[socket.socket, tuple[float, int]] = {}
        self._leaving: dict[Connection, tuple[Leaving, bool]] = {}
        #: Until when a streamed body must have arrived.
        self._deadlines: dict[socket.socket, float] = {}
        self._looked_at = 0.0
        self._rests = Budget(RESTS_BYTES, RESTS_SHARE_BYTES)
        wsgi.SERVER = "runyard"

    # -- start -------------------------------------------------------------------------------------

    def load_wsgi(self) -> None:
        super().load_wsgi()
        application: WSGIApplication = self.wsgi
        self.served: Context = self.app.wsgi().extensions[EXTENSION]
        self._trusted = self.served.settings.trusted()
        folder = self.served.settings.api_home
        self._rules = Rules(
            config=self.cfg,
            most_body=MAX_BODY_BYTES,
            whose=self._whose,
            is_streamed=_is_upload,
            budget=Budget(BODIES_BYTES, BODIES_SHARE_BYTES),
            memory=Memory(),
            is_proxy=lambda address: is_proxy(address, self._trusted),
            folder=folder if folder.is_dir() else None,
        )

        def application_with_facts(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            environ[ENDED_KEY] = self.served.access.end
            environ[ARRIVAL_KEY] = partial(self._allow, environ["gunicorn.socket"])
            return application(environ, start_response)

        self.wsgi = application_with_facts

    def _whose(self, request: Request, client: Any) -> tuple[Hashable, bool]:  # noqa: ANN401
        authorization, forwarded = None, []
        for name, value in request.headers:
            if name == "AUTHORIZATION":
                authorization = value
            elif name == "X-FORWARDED-FOR":
                forwarded.append(value)
        if authorization is not None:
            key = self.served.authenticator.recognised(authorization)
            if key is not None:
                return key, True
        remote = client[0] if isinstance(client, tuple) else None
        return client_address(remote, ",".join(forwarded) if self._trusted else None, self._trusted), False

    def _allow(self, sock: socket.socket, seconds: float | None) -> None:
        """Give what is left of a streamed body so long to arrive; None when it has."""
        if seconds is None:
            self._deadlines.pop(sock, None)
        else:
            self._deadlines[sock] = time.monotonic() + seconds

    # -- connections -------------------------------------------------------------------------------

    def accept(self, listener: socket.socket) -> None:
        """Take a connection, and read from it when something has come."""
        try:
            sock, address = listener.accept()
        except OSError as e:
            if e.errno in (errno.EMFILE, errno.ENFILE):
                self._close_one()
            log.debug("accept: %s", e)
            return
        sock.setblocking(False)
        conn = Connection(self._rules, sock, address, listener.getsockname())
        conn.timeout = time.monotonic() + self.cfg.keepalive
        self.nr_conns += 1
        self._await_request(conn)
        self._bound_arriving(conn.address)
        if self.nr_conns >= self.worker_connections:
            self._close_one()

    def _await_request(self, conn: Connection) -> None:
        """Watch a connection whose request is not complete."""
        conn.watched_at = time.monotonic()
        self._arriving.setdefault(conn.address, OrderedDict())[conn] = None
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._readable, conn))

    def _unwatch(self, conn: Connection) -> None:
        self.poller.unregister(conn.sock)
        of_address = self._arriving.get(conn.address)
        if of_address is not None:
            of_address.pop(conn, None)
            if not of_address:
                del self._arriving[conn.address]

    def _bound_arriving(self, address: str) -> None:
        """Close what an address has beyond its share of connections without a complete request."""
        of_address = self._arriving.get(address, OrderedDict())
        if len(of_address) <= ARRIVING_MOST or is_proxy(address, self._trusted):
            return
        young = time.monotonic() - ARRIVING_GRACE_S
        for conn in list(of_address)[: len(of_address) - ARRIVING_MOST]:
            if conn.watched_at > young:
                return
            self._readable(conn, conn.sock)  # its request may have come since
            if conn in self._arriving.get(address, ()):
                self._refuse(conn, None)

    def _close_one(self) -> None:
        """Make room: close the connection that has been idle for longest, else the oldest without a request."""
        if self.keepalived_conns:
            conn = self.keepalived_conns.popleft()
            self.poller.unregister(conn.sock)
            self._close(conn)
            return
        oldest = min(
            (next(iter(conns)) for conns in self._arriving.values()), key=lambda conn: conn.watched_at, default=None
        )
        if oldest is not None:
            self._refuse(oldest, None)

    def _readable(self, conn: Connection, sock: socket.socket) -> None:
        """Something has come for a request that is not complete."""
        try:
            data = sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._came_to(conn, conn.take(data))

    def on_client_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """An idle connection has its next request, or has ended."""
        self.keepalived_conns.remove(conn)
        self.poller.unregister(client)
        self._await_request(conn)
        self._readable(conn, client)

    def _came_to(self, conn: Connection, step: Step) -> None:
        """Do what a request wants next that is watched."""
        if step is Step.MORE:
            return
        if step is Step.GONE:
            self._unwatch(conn)
            self._close(conn)
        elif step is Step.BAD:
            self._refuse(conn, conn.error)
        else:
            self._unwatch(conn)
            self._go_on(conn, step)

    def _go_on(self, conn: Connection, step: Step) -> None:
        """Have a thread for a connection that is not watched."""
        work = self._serve_connection if step is Step.READY else self._ask_whose
        self.turns.ask(conn.whose, partial(self._begin, work, conn))

    def _begin(self, work: Callable[[Connection], str], conn: Connection) -> None:
        """Give a request, whose turn it is, to a thread. Called on any thread."""
        try:
            done: Future[str] = self.tpool.submit(work, conn)
        except RuntimeError:  # the worker ends
            self.turns.leave(conn.whose)
            return
        done.add_done_callback(lambda done: self.method_queue.defer(self._done, conn, done))

    # -- on threads --------------------------------------------------------------------------------

    def _ask_whose(self, conn: Connection) -> str:
        """Find out whose request it is that is larger or slower than a stranger's may be. Runs on a thread."""
        turn = HeldTurn(self.turns, conn.whose)
        hold(turn)
        try:
            given = next((value for name, value in conn.headers if name == "AUTHORIZATION"), None)
            address = conn.whose
            with suppress(ApiError):
                if given is not None:
                    self.served.authenticator.authenticate(
                        given, may_ask=lambda: self.served.limiter.may_ask(str(address))
                    )
            key = self.served.authenticator.recognised(given)
            if conn.known_as(key) is Step.MORE:
                return _ARRIVING
        finally:
            hold(None)
            turn.leave()
        self.method_queue.defer(self._go_on, conn, Step.READY)
        return _TAKEN

    def _serve_connection(self, conn: Connection) -> str:
        """Serve a request, and those that follow it closely. Runs on a thread. Returns what becomes of it all."""
        turn = HeldTurn(self.turns, conn.whose)
        hold(turn)
        try:
            fate = self._serve(conn)
            while fate is _KEEP and self.alive:
                turn.leave()
                step = self._wait_for_next_request(conn)
                if step is None:
                    break
                if step is not Step.READY:
                    return {Step.MORE: _ARRIVING, Step.STRANGER: _ARRIVING}.get(step, _CLOSE)
                turn.whose = conn.whose
                turn.enter()
                fate = self._serve(conn)
            return fate
        finally:
            hold(None)
            turn.leave()

    def _serve(self, conn: Connection) -> str:
        """Serve one request. Runs on a thread."""
        request = conn.request
        try:
            conn.sock.setblocking(True)
            usable = self._respond(conn)
        except OSError as e:
            if e.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, None):
                log.exception("request failed at its socket")
            usable = False
        except Exception as e:  # noqa: BLE001  # it is logged, and answered if nothing was
            usable = False
            self.handle_error(request, conn.sock, conn.client, e)
        self._deadlines.pop(conn.sock, None)
        if conn.has_left():
            return _TAKEN
        usable = conn.ended() and bool(usable)
        if conn.left is not None:
            conn.keeps = usable
            return _LEAVING
        return _KEEP if usable else _CLOSE

    def _wait_for_next_request(self, conn: Connection) -> Step | None:
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
            try:
                data = conn.sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None if conn.is_idle else Step.MORE
            except OSError:
                data = b""
            return self._said_bad(conn, conn.take(data))
        finally:
            self._spare.release()

    def _said_bad(self, conn: Connection, step: Step) -> Step:
        if step is Step.BAD:
            self._answer_error(conn, conn.error)
        return step

    def _respond(self, conn: Connection) -> bool:
        """Have the application answer a request. Runs on a thread. Returns whether the connection may be kept."""
        request = conn.request
        answer, environ = wsgi.create(
            request,
            conn.sock,
            conn.client,
            conn.server,
            self.cfg,
            Answer,
            (Room(self._rules.folder, self._rests, conn.whose),),
        )
        environ["wsgi.multithread"] = True
        environ[BODY_KEY] = None if conn.is_streamed else conn.body.value
        environ[TAKE_OVER_KEY] = partial(self._take_over, conn)
        if not self.alive or not self.cfg.keepalive or conn.body is not Body.WHOLE:
            answer.force_close()
        began = datetime.now()  # noqa: DTZ005  # only its distance to another
        try:
            pieces = self.wsgi(environ, answer.start_response)
            try:
                if not conn.has_left():
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

    def _take_over(self, conn: Connection) -> tuple[socket.socket, bytes]:
        """Give a handler its connection for good, with what was read beyond its request.

        It closes the socket. When it has returned, nothing more is sent or read here.
        """
        conn.is_taken = True
        pending, conn.pending = conn.pending, b""
        return conn.sock.dup(), pending

    # -- after a request ---------------------------------------------------------------------------

    def _done(self, conn: Connection, done: Future[str]) -> None:
        """A thread has done with a connection."""
        try:
            fate = done.result() if not done.cancelled() else _CLOSE
        except Exception:
            log.exception("a connection was not served to its end")
            fate = _CLOSE
        if fate is _TAKEN:
            if conn.is_taken:
                self._forget(conn)
            return
        conn.sock.setblocking(False)
        if fate is _LEAVING:
            left, conn.left = conn.left, None
            assert left is not None
            self._leaving[conn] = (left, conn.keeps)
            self.poller.register(conn.sock, selectors.EVENT_WRITE, partial(self._writable, conn))
        elif fate is _ARRIVING:
            self._await_request(conn)
        elif fate is _KEEP:
            self._keep(conn)
        else:
            self._close(conn)

    def _keep(self, conn: Connection) -> None:
        """Keep a connection for its next request, which may have come already."""
        if conn.pending:
            pending, conn.pending = conn.pending, b""
            self._await_request(conn)
            self._came_to(conn, conn.take(pending))
            return
        conn.timeout = time.monotonic() + (self.cfg.keepalive if self.alive else LINGERING_S)
        self.keepalived_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_client_socket_readable, conn))

    def _writable(self, conn: Connection, sock: socket.socket) -> None:
        """A client can take more of its answer."""
        left, keeps = self._leaving[conn]
        try:
            if not left.send(sock):
                return
        except OSError:
            keeps = False
        self._left(conn)
        if keeps:
            self._keep(conn)
        else:
            self._close(conn)

    def _left(self, conn: Connection) -> None:
        left, _ = self._leaving.pop(conn)
        left.close()
        self.poller.unregister(conn.sock)

    def _refuse(self, conn: Connection, error: Exception | None) -> None:
        """Answer a watched connection whose request is none, or did not come in time, and close it."""
        self._unwatch(conn)
        self._answer_error(conn, error)
        self._close(conn)

    def _close(self, conn: Connection) -> None:
        """Close a connection that is not watched, once its client has stopped sending."""
        self._forget(conn)
        sock = conn.sock
        try:
            sock.setblocking(False)
            sock.shutdown(socket.SHUT_WR)
            self._lingering[sock] = (time.monotonic() + LINGERING_S, 0)
            self.poller.register(sock, selectors.EVENT_READ, self._discard)
        except OSError:
            self._lingering.pop(sock, None)
            sock.close()

    def _forget(self, conn: Connection) -> None:
        conn.forget()
        self.nr_conns -= 1
        if conn.is_taken:
            conn.sock.close()

    def _discard(self, sock: socket.socket) -> None:
        """Throw away what is sent on a connection that is closed."""
        until, size = self._lingering[sock]
        try:
            data = sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        size += len(data)
        if data and size < LINGERING_BYTES:
            self._lingering[sock] = (until, size)
            return
        self._cut_off(sock)

    def _cut_off(self, sock: socket.socket) -> None:
        del self._lingering[sock]
        self.poller.unregister(sock)
        sock.close()

    # -- what takes too long -----------------------------------------------------------------------

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait as upstream does, and not for long while requests wait for a turn."""
        super().wait_for_and_dispatch_events(min(timeout, STALLED_S) if self.turns.has_waiting else timeout)
        if self.turns.has_waiting:
            self.turns.unstick()

    def murder_keepalived(self, force: bool = False) -> None:  # noqa: FBT001, FBT002
        """Beside upstream's: look at everything else that has a time. Called after each wait."""
        super().murder_keepalived(force)
        now = time.monotonic()
        if now - self._looked_at < LOOK_S and not force:
            return
        self._looked_at = now
        for address, conns in list(self._arriving.items()):
            for conn in list(conns):
                self._look_at_arriving(conn, now)
            self._bound_arriving(address)
        for conn, (left, _) in list(self._leaving.items()):
            if left.is_too_slow() or force:
                self._left(conn)
                self._close(conn)
        for sock, (until, _) in list(self._lingering.items()):
            if now > until or force:
                self._cut_off(sock)
        for sock, deadline in list(self._deadlines.items()):
            if now > deadline:
                # The thread that reads sees the end of the stream.
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RD)

    def _look_at_arriving(self, conn: Connection, now: float) -> None:
        if conn.is_idle:
            if now > conn.timeout or (not self.alive and now > conn.watched_at + LINGERING_S):
                self._unwatch(conn)
                self._close(conn)
        elif now > conn.deadline:
            step = conn.late()
            if step is Step.BAD:
                self._refuse(conn, None)
            else:
                self._came_to(conn, step)

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
        self.served.access.unread(request_id, status, len(body), addr[0] if isinstance(addr, tuple) else None)

    def _answer_error(self, conn: Connection, error: Exception | None) -> None:
        self.handle_error(None, conn.sock, conn.client, error)


def _is_upload(request: Request) -> bool:
    """Return whether a handler reads the body of this request as it comes."""
    return bool(request.method == "POST" and request.path == UPLOADS)


class Logger(GunicornLogger):  # type: ignore[misc]  # gunicorn is untyped
    """gunicorn's own messages through the service's log; who writes of requests is told that one is over."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)

    def access(self, resp: Any, _req: object, environ: WSGIEnvironment, request_time: timedelta) -> None:  # noqa: ANN401
        """An answer was sent, or what was left of it was handed to the loop, or it will never be sent."""
        ended = environ.pop(ENDED_KEY, None)
        if ended is not None:
            ended(environ, resp.status_code or 500, request_time.total_seconds(), resp.sent)
