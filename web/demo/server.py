"""The HTTP server of the demo: the page, a check of health, and `POST /run`. Each connection is for one request.

A connection has a deadline for its request, a thread, and one of a bounded number of places, so that slow or many
clients cannot hold the others up.
"""

from __future__ import annotations

import http.client
import io
import json
import logging
import socket
import socketserver
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from api.ratelimit.client_address import client_address, is_proxy, limited_as
from web.demo.bounds import Places, Rate
from web.demo.page import content_security_policy, page
from web.demo.program import RequestError, parse_program
from web.demo.relay import Watch, relay
from web.demo.settings import DemoSettings
from web.demo.upstream import EVENT_STREAM, Upstream, UpstreamError

#: Seconds in which a whole request must be there, and in which a piece of an answer must be taken.
REQUEST_WITHIN_S = 10.0
SEND_WITHIN_S = 10.0
#: Of a request that is refused, this much is read, so that the answer is not lost with the connection.
LINGER_BYTES, LINGER_S = 4 * 1024 * 1024, 2.0
CONNECTIONS, CONNECTIONS_EACH = 128, 16
#: Runs at a time of one address.
RUNS_EACH = 2
#: A program may wait for its turn, for its packages and its compiler, besides the time that it may take.
PREPARATION_S = 120
METHODS = {"/": ("GET", "HEAD"), "/healthz": ("GET", "HEAD"), "/run": ("POST",)}
EVERYWHERE = {
    "Cache-Control": "no-store",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

log = logging.getLogger("demo")


class DemoServer(ThreadingHTTPServer):
    """The server of one page and one service."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, settings: DemoSettings) -> None:
        self.settings = settings
        self.upstream = Upstream(settings)
        self.page = page()
        self.policy = content_security_policy(self.page, settings.frame_ancestors)
        self.rate = Rate(settings.rate_per_minute)
        self.runs = Places(settings.runs, RUNS_EACH)
        self._connections = Places(CONNECTIONS, CONNECTIONS_EACH)
        if ":" in settings.bind:
            self.address_family = socket.AF_INET6
        super().__init__((settings.bind, settings.port), DemoHandler)

    def server_bind(self) -> None:
        """Bind, without the look-up of this host's name that the base class makes."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.settings.bind, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # as the base class has it
        """Serve a connection in a thread, if there is a place for it."""
        peer = client_address[0]
        shared = is_proxy(peer, self.settings.trusted_proxies)
        if not self._connections.take(limited_as(peer), is_shared=shared):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._connections.free(limited_as(peer))
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # as the base class has it
        """Serve a connection, and release its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.free(limited_as(client_address[0]))

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002  # as the base class has it
        """Log an error that no handler expected; a client that resets its connection is none."""
        if not isinstance(sys.exc_info()[1], OSError):
            log.exception("a request failed")  # noqa: LOG004  # called while the error is handled


class DemoHandler(BaseHTTPRequestHandler):
    """One request."""

    server: DemoServer
    protocol_version = "HTTP/1.1"
    timeout = SEND_WITHIN_S

    def setup(self) -> None:
        """Read the request through a reader with a deadline."""
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_RequestReader(self.connection, time.monotonic() + REQUEST_WITHIN_S))

    def do_GET(self) -> None:
        """Answer with the page, or that the server is healthy."""
        if self._is_for_us():
            kind = "text/html; charset=utf-8" if self._path == "/" else "application/json"
            body = self.server.page if self._path == "/" else b'{"status":"ok"}\n'
            self._answer(200, body, {"Content-Type": kind, "Content-Security-Policy": self.server.policy})

    do_HEAD = do_GET  # noqa: N815  # as the base class looks it up

    def do_POST(self) -> None:
        """Run a program."""
        if self._is_for_us():
            try:
                self._run()
            except RequestError as e:
                self._refuse(e.status, e.code, e.message, e.param, e.headers)
            except UpstreamError as e:
                wait = {} if e.retry_after_s is None else {"Retry-After": str(e.retry_after_s)}
                self._refuse(e.status, "service_error", e.message, headers=wait)

    def do_OPTIONS(self) -> None:
        """Refuse: no other origin may call this server."""
        self._is_for_us()

    do_PUT = do_DELETE = do_PATCH = do_OPTIONS  # noqa: N815  # as the base class looks it up

    @property
    def _path(self) -> str:
        return self.path.partition("?")[0]

    def _is_for_us(self) -> bool:
        """Return whether path and method are served; answer if they are not."""
        methods = METHODS.get(self._path)
        if methods is None:
            self._refuse(404, "not_found", "No such path. The demo is at /.")
        elif self.command not in methods:
            allowed = ", ".join(methods)
            message = f"Method not allowed; allowed: {allowed}."
            self._refuse(405, "method_not_allowed", message, headers={"Allow": allowed})
        return methods is not None and self.command in methods

    def _run(self) -> None:
        """Check, send on, and pass the answer on. Raises RequestError or UpstreamError before it has begun."""
        trusted = self.server.settings.trusted_proxies
        forwarded = ",".join(self.headers.get_all("X-Forwarded-For", []))
        address = limited_as(client_address(self.client_address[0], forwarded, trusted))
        wait_s = self.server.rate.wait_s(address)
        if wait_s:
            message = f"Too many runs from your address. Try again in {wait_s} s."
            raise RequestError(429, "too_many_runs", message, headers={"Retry-After": str(wait_s)})
        lang, code = parse_program(self.headers, self.rfile)
        if not self.server.runs.take(address):
            message = "The demo runs as many programs as it may. Try again in 5 s."
            raise RequestError(429, "too_many_runs", message, headers={"Retry-After": "5"})
        began = time.monotonic()
        try:
            self._pass_on(lang, code)
        finally:
            self.server.runs.free(address)
            log.info(
                "run", extra={"lang": lang, "address": address, "ms": round(1000 * (time.monotonic() - began))}
            )

    def _pass_on(self, lang: str, code: str) -> None:
        run = self.server.upstream.start(lang, code)
        try:
            with Watch(run, self.connection, self.server.settings.timeout_s + PREPARATION_S) as watch:
                run.begin()
                self._head(200, {"Content-Type": EVENT_STREAM, "X-Accel-Buffering": "no"})
                with suppress(OSError):  # the browser has gone
                    relay(run, self.wfile.write, watch)
        finally:
            run.close()

    def _refuse(
        self, status: int, code: str, message: str, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        error = {"code": code, "message": message, "param": param}
        body = json.dumps({"error": error}).encode() + b"\n"
        self._answer(status, body, {"Content-Type": "application/json", **(headers or {})})
        self._linger()

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        with suppress(OSError):  # the browser has gone
            self._head(status, {**headers, "Content-Length": str(len(body))})
            if self.command != "HEAD":
                self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        """Send the status and the headers. The connection ends with the answer."""
        self.close_connection = True
        self.request_version = "HTTP/1.1"  # also for one that names none: without it there would be no head
        self.send_response(status)
        for name, value in {**EVERYWHERE, **headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()

    def _linger(self) -> None:
        """Read on for a moment: to close a connection with unread data resets it, and the answer may be lost."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            left, deadline = LINGER_BYTES, time.monotonic() + LINGER_S
            while left > 0 and (wait_s := deadline - time.monotonic()) > 0:
                self.connection.settimeout(wait_s)
                read = len(self.connection.recv(65_536))
                left -= read or left

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002  # as the base class has it
        """Answer to a request that the base class cannot read, in our form."""
        self.command = getattr(self, "command", None) or "GET"
        self._refuse(code, "bad_request", f"{http.client.responses.get(code, 'Bad request')}.")

    def version_string(self) -> str:
        """Return the header `Server`, without versions."""
        return "runyard-demo"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base class has it
        """Log nothing: requests other than runs are of no interest."""


class _RequestReader(io.RawIOBase):
    """Reads from a connection until a moment, however slowly the bytes come."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  # any buffer
        """Read into a buffer. Raises TimeoutError beyond the deadline."""
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the request is not complete")
        self._connection.settimeout(left_s)
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(SEND_WITHIN_S)
