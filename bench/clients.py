"""A client that keeps its connection: runs waited for, and runs streamed."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

TIMEOUT_S = 180
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"
#: The kinds that close a stream.
LAST = ("result", "error")


class Client:
    """One kept connection to the service. Not for several threads."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def run(self, body: bytes) -> float:
        """Seconds from the request's first byte to the answer's last. Raises RuntimeError unless it succeeded."""
        began = time.perf_counter()
        raw = self.call("POST", "/v1/runs", body)
        took = time.perf_counter() - began
        # Not parsed while the clock runs, but looked at: a run that failed is no fast run.
        if b'"status":"succeeded"' not in raw:
            raise RuntimeError(f"the run did not succeed: {raw[:200]!r}")
        return took

    def call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """A request's answer. Raises RuntimeError for any other status than 200."""
        response = self._request(method, path, body, {})
        raw = response.read()
        if response.status != http.client.OK:
            raise RuntimeError(f"{response.status} {raw[:200]!r}")
        return raw

    def post_any(self, path: str, body: bytes, method: str = "POST") -> bytes:
        """A POST's answer, whichever 2xx it has. Raises RuntimeError for another status."""
        response = self._request(method, path, body, {})
        raw = response.read()
        if response.status >= http.client.MULTIPLE_CHOICES:
            raise RuntimeError(f"{response.status} {raw[:200]!r}")
        return raw

    def get(self, path: str) -> Any:  # JSON
        """A GET's answer, parsed."""
        return json.loads(self.call("GET", path))

    def stream(self, body: bytes, accept: str = NDJSON) -> Iterator[tuple[int, dict[str, Any]]]:
        """The events of a streamed run, each with the CLOCK_MONOTONIC nanoseconds of its arrival."""
        response = self._request("POST", "/v1/runs", body, {"Accept": accept})
        if response.status != http.client.OK:
            raise RuntimeError(f"{response.status} {response.read(200)!r}")
        while line := response.readline():
            at = time.monotonic_ns()
            if accept == SSE:
                if not line.startswith(b"data:"):
                    continue
                line = line[len(b"data:") :]
            if not line.strip():
                continue
            event = json.loads(line)
            yield at, event
            if event["event"] in LAST:
                response.read()  # the end of the body, so that the connection can be used again
                return
        raise RuntimeError("the stream ended without its last event")

    def _request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        try:
            self._connection.request(method, path, body, self._headers | headers)
            return self._connection.getresponse()
        except (OSError, http.client.HTTPException):
            self.close()  # the next request begins on a new connection
            raise

    def close(self) -> None:
        self._connection.close()
