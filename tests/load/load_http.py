"""HTTP as the load's clients speak it, and what no client may ever be answered."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import time
from contextlib import closing
from dataclasses import dataclass
from random import Random
from typing import Any

TIMEOUT_S = 120
TERMINAL = {"succeeded", "failed", "timeout", "oom", "killed", "cancelled", "error"}
END_WITHIN_S = 60


class Wrong(Exception):
    """The service said or did what it must not."""


class Refused(Exception):
    """The service has no room just now, and said when to come again."""

    def __init__(self, after_s: int) -> None:
        super().__init__(f"again in {after_s} s")
        self.after_s = after_s


@dataclass(frozen=True)
class Target:
    """The service under load and whose key is spent on it."""

    host: str
    port: int
    token: str
    languages: tuple[dict[str, Any], ...]
    rng: Random

    def nonce(self) -> str:
        """A text that no other run prints, nor did for the same test before: keys made of it are remembered."""
        return secrets.token_hex(6)

    # -- one request -------------------------------------------------------------------------------

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of one request on a connection of its own. Raises Refused, Wrong."""
        with closing(self.open(method, path, body, **headers)) as connection:
            response = connection.getresponse()
            check_status(response)
            raw = response.read()
            return response.status, json.loads(raw) if raw else None

    def open(self, method: str, path: str, body: bytes | None = None, **headers: str) -> http.client.HTTPConnection:
        """A connection on which a request has been sent."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"} | headers
        connection.request(method, path, body, sent)
        return connection

    def connect(self) -> socket.socket:
        """A bare connection, for clients who do not speak properly."""
        return socket.create_connection((self.host, self.port), timeout=TIMEOUT_S)

    def head(self, length: int) -> bytes:
        """The head of a request to run something, by hand."""
        return (
            f"POST /v1/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        ).encode()

    # -- runs --------------------------------------------------------------------------------------

    def run(self, language: str, code: str, **fields: Any) -> dict[str, Any]:
        """Run and wait; the run, which has ended and not by the service's fault."""
        status, run = self.request("POST", "/v1/runs", body_of(language, code, **fields))
        expect(status == 200, f"{status} {run}")
        return ended(run)

    def look(self, run_id: str) -> dict[str, Any]:
        """A run in any state."""
        status, run = self.request("GET", f"/v1/runs/{run_id}")
        expect(status == 200, f"{run_id}: {status} {run}")
        return run

    def await_end(self, run_id: str) -> dict[str, Any]:
        """Look at a run until it has ended, as every accepted run must."""
        deadline = time.monotonic() + END_WITHIN_S
        while (run := self.look(run_id))["status"] not in TERMINAL:
            expect(time.monotonic() < deadline, f"{run_id} is {run['status']} for ever")
            time.sleep(0.1)
        return ended(run)


def body_of(language: str, code: str, *, limits: dict[str, Any] | None = None, **fields: Any) -> bytes:
    """The request for a run, with all the time there is unless it says otherwise: the machine is overloaded."""
    limits = {"timeout_ms": 60_000} | (limits or {})
    return json.dumps({"language": language, "code": code, "limits": limits, **fields}).encode()


def check_status(response: http.client.HTTPResponse) -> None:
    """Whatever is asked: never a 5xx but 503, and that, like 429, with a time to come again."""
    if response.status in {429, 503}:
        after = response.getheader("Retry-After", "")
        raw = response.read()
        expect(after.isdigit() and int(after) >= 1, f"{response.status} without Retry-After: {raw[:300]!r}")
        raise Refused(int(after))
    if response.status >= 500:
        raise Wrong(f"{response.status} {response.read()[:500]!r}")


def ended(run: dict[str, Any]) -> dict[str, Any]:
    """A run that is over, and not because the service failed."""
    expect(run["status"] in TERMINAL, f"not over: {run['status']}")
    expect(run["status"] != "error", f"the service failed: {run.get('error')}")
    return run


def expect(condition: bool, said: str) -> None:
    if not condition:
        raise Wrong(said)
