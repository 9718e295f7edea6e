"""The call of the service: one request to one address, with the key, which redirects nowhere."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import ssl
from contextlib import suppress
from urllib.parse import urlsplit

from web.demo.settings import DemoSettings

#: For a connection, and for the service to take the request.
CONNECT_TIMEOUT_S = 5.0
EVENT_STREAM = "text/event-stream"

log = logging.getLogger("demo")


class UpstreamError(Exception):
    """The service does not run this program: a status and a sentence for the browser, without internals."""

    def __init__(self, status: int, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s


class Upstream:
    """The service. Each run has a connection of its own."""

    def __init__(self, settings: DemoSettings) -> None:
        self._settings = settings
        self._parts = urlsplit(settings.url)
        self._tls = ssl.create_default_context() if self._parts.scheme == "https" else None

    def start(self, lang: str, code: str) -> UpstreamRun:
        """Send a program, and return its run. Raises UpstreamError."""
        connection = self._connection()
        try:
            connection.connect()
        except OSError as e:
            connection.close()
            raise _away(e) from e
        run = UpstreamRun(connection)
        body = {"code": code, "lang": lang, "timeout": self._settings.timeout_s}
        headers = {
            "Accept": EVENT_STREAM,
            "Connection": "close",
            "Content-Type": "application/json",
            "User-Agent": "runyard-demo",
            "X-Runner-Api-Key": self._settings.key,
        }
        try:
            connection.request("POST", f"{self._parts.path}/code/run", json.dumps(body).encode(), headers)
        except OSError as e:
            run.close()
            raise _away(e) from e
        return run

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._tls is not None:
            return http.client.HTTPSConnection(host, port, timeout=CONNECT_TIMEOUT_S, context=self._tls)
        return http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT_S)


class UpstreamRun:
    """One run: the answer of the service as it comes. `stop` may be called from any thread."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        assert connection.sock is not None, "is connected"
        self._socket: socket.socket = connection.sock
        self._response: http.client.HTTPResponse | None = None

    def begin(self) -> None:
        """Wait for the head of the answer. Raises UpstreamError unless it is a stream of events."""
        self._socket.settimeout(None)  # from here on the watch ends it in time
        try:
            response = self._response = self._connection.getresponse()
        except (OSError, http.client.HTTPException) as e:
            raise _away(e) from e
        kind = response.headers.get_content_type()
        if response.status == http.client.OK and kind == EVENT_STREAM:
            return
        raise _refusal(response.status, kind, response.headers.get("Retry-After"))

    def read(self, most: int) -> bytes:
        """Return what has come, at most that many bytes; nothing at the end. Raises OSError or HTTPException."""
        assert self._response is not None, "has begun"
        return self._response.read1(most)

    def stop(self) -> None:
        """End the connection: the service ends a program that nobody listens to."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection, and release what it holds."""
        if self._response is not None:
            self._response.close()
        self._connection.close()
        self._socket.close()


def _away(problem: Exception) -> UpstreamError:
    """Return the error for a service that does not answer."""
    log.error("the service does not answer: %s: %s", type(problem).__name__, problem)
    return UpstreamError(502, "The service that runs programs does not answer. Try again later.")


def _refusal(status: int, kind: str, retry_after: str | None) -> UpstreamError:
    """Return the error for an answer that is no stream. A redirect is one: it is not followed."""
    if status in (429, 503):
        wait_s = int(retry_after) if retry_after and retry_after.isdecimal() and len(retry_after) <= 5 else 5
        return UpstreamError(503, f"The service is busy. Try again in {wait_s} s.", wait_s)
    if status in (400, 413, 422):
        log.warning("the service refused a program with status %d", status)
        return UpstreamError(400, "The service refused this program: its language may not be available there.")
    reason = " (is DEMO_TINIRUN_API_KEY right?)" if status in (401, 403) else ""
    log.error("the service answered with status %d and %s%s", status, kind, reason)
    return UpstreamError(502, "The service that runs programs cannot be used at present. Try again later.")
