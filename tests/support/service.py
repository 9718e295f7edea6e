"""The service under test as a client and as its operator reach it; `place` has where it lives."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.place import IMAGES, PORT, SETTINGS, STATE
from tests.support.slow_machine import default_limits, require_language

REPO = Path(__file__).resolve().parents[2]
TOKEN = "dev_123"
OTHER_TOKEN = "other_456"
SLOW_TOKEN = "slow_789"
ADMIN_TOKEN = "admin_123_of_the_tests"


@dataclass(frozen=True)
class Reply:
    """An HTTP reply; iterates as (status, headers, body)."""

    status: int
    headers: dict[str, str]
    body: Any
    raw: bytes

    def __iter__(self):
        return iter((self.status, self.headers, self.body))


def _is_own(path: str) -> bool:
    """Return whether a path is of this API; other services' paths are answered byte for byte as they do."""
    return path.startswith("/v1/") and not path.startswith(
        ("/v1/execute", "/v1/runtimes", "/v1/models", "/v1/sandboxes", "/v1/agent-coderunner")
    )


def unsigned(answer: Any) -> Any:
    """An answer without what its links owe to the second they were signed in."""
    if isinstance(answer, list):
        return [unsigned(item) for item in answer]
    if not isinstance(answer, dict):
        return answer
    found = {name: unsigned(value) for name, value in answer.items() if name != "expires_at"}
    if isinstance(answer.get("url"), str):
        found["url"] = answer["url"].partition("?")[0]
    return found


@dataclass(frozen=True)
class Service:
    """The running service, as a client sees it."""

    host: str
    port: int
    state: Path
    token: str = TOKEN
    other_token: str = OTHER_TOKEN
    #: A key of one request a second, burst 2.
    slow_token: str = SLOW_TOKEN

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        """Return a connection of a client's own, not yet opened."""
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=None, *, token=TOKEN, timeout=90) -> Reply:
        """One request on a connection of its own. `body` is bytes; no token when that is None."""
        connection = self.connection(timeout)
        try:
            all_headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
            all_headers |= headers or {}
            connection.request(method, path, body=body, headers=all_headers)
            response = connection.getresponse()
            raw = response.read()
            found = {name.lower(): value for name, value in response.getheaders()}
            is_json = found.get("content-type", "").startswith("application/json")
            assert not (is_json and raw and _is_own(path)) or raw.endswith((b"}\n", b"]\n")), (
                f"{method} {path}: no newline at the end"
            )
            return Reply(response.status, found, json.loads(raw) if is_json and raw else None, raw)
        finally:
            connection.close()

    def get(self, path, headers=None, *, token=TOKEN, timeout=90) -> Reply:
        return self.request("GET", path, headers=headers, token=token, timeout=timeout)

    def post(self, path, json=None, headers=None, *, data=None, token=TOKEN, timeout=90) -> Reply:
        """POST `json`, or `data` as it is."""
        body = data if data is not None else _dumps(json)
        return self.request(
            "POST",
            path,
            body,
            {"Content-Type": "application/json", **(headers or {})},
            token=token,
            timeout=timeout,
        )

    def upload(self, content: bytes, filename: str = "a", *, token=TOKEN) -> Reply:
        """Upload a file, as a form of that field alone."""
        head = f'--b0undary\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'
        headers = {"Content-Type": "multipart/form-data; boundary=b0undary"}
        return self.request(
            "POST", "/v1/files", head.encode() + content + b"\r\n--b0undary--\r\n", headers, token=token
        )

    def run(self, language="python", code=None, *, token=TOKEN, **fields) -> dict[str, Any]:
        """Run a program that the service is expected to accept; the run object."""
        require_language(language)
        fields = {**fields, "limits": default_limits(fields.get("limits"))}
        body = {"language": language, **fields}
        if code is not None:
            body["code"] = code
        reply = self.post("/v1/runs", json=body, token=token)
        assert reply.status == 200, (reply.status, reply.body)
        return reply.body

    @contextmanager
    def events(self, path="/v1/runs", json=None, headers=None, *, token=TOKEN, timeout=90):
        """A stream of events, each as (arrival in monotonic seconds, event); to leave it hangs up."""
        connection = self.connection(timeout)
        try:
            body = None if json is None else _dumps(json)
            sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **(headers or {})}
            connection.request("GET" if body is None else "POST", path, body=body, headers=sent)
            response = connection.getresponse()
            assert response.status == 200, (response.status, response.read())
            yield _lines(response)
        finally:
            connection.close()

    def stream(self, language="python", code=None, **fields) -> list[dict[str, Any]]:
        """The events of a streamed run, all of them."""
        with self.events(json={"language": language, "code": code, "stream": True, **fields}) as events:
            return [event for _, event in events]

    def submit(self, language="python", code=None, *, token=TOKEN, **fields) -> str:
        """Have a run in the background; its id."""
        body = {"language": language, "code": code, "background": True, **fields}
        reply = self.post("/v1/runs", json=body, token=token)
        assert reply.status == 202, (reply.status, reply.body)
        return reply.body["id"]

    def ended(self, run_id: str, *, token=TOKEN, seconds=60) -> dict[str, Any]:
        """The run once it has ended."""
        deadline = time.monotonic() + seconds
        while (run := self.get(f"/v1/runs/{run_id}", token=token).body)["status"] in ("queued", "running"):
            assert time.monotonic() < deadline, f"{run_id} does not end: {run['status']}"
            time.sleep(0.02)
        return run

    @property
    def images(self) -> Path:
        """The folder of the images; every service of the tests has the same."""
        return IMAGES

    @property
    def worker_socket(self) -> Path:
        return self.state / "run" / "worker.sock"


def _lines(response):
    while line := response.readline():
        yield time.monotonic(), json.loads(line)


def _dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


def _plans() -> Path:
    """The tests' plans, where the account of api can read them."""
    place = STATE / "test-plans.toml"
    STATE.mkdir(parents=True, exist_ok=True)
    if not place.exists() or place.read_bytes() != (REPO / "tests/support/plans.toml").read_bytes():
        place.write_bytes((REPO / "tests/support/plans.toml").read_bytes())
        place.chmod(0o644)
    return place


def make(*arguments: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
    """`make` in the repository as a user would call it, for the tests' own service."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "COV_")) and name not in {"VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL"}
    }
    environment |= {"STATE_DIR": str(STATE), "PORT": str(PORT)}
    environment |= {"API_KEYS": f"{TOKEN}:dev:1000:1000,{OTHER_TOKEN}:other:1000:1000,{SLOW_TOKEN}:slow:1:2"}
    # A client's address is what it says in X-Forwarded-For, so that each test can have one of its own.
    environment |= {"ADMIN_TOKEN": ADMIN_TOKEN, "TRUSTED_PROXIES": "127.0.0.1", "PLANS_FILE": str(_plans())}
    # A test that is about packages turns them on.
    environment |= {"PACKAGES": "off"} | SETTINGS
    environment |= variables
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=REPO,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"make {' '.join(arguments)} failed:\n{done.stdout[-4000:]}")
    return done
