"""Requests that mean harm: each is answered with a clear 4xx, that says nothing of what is behind it."""

from __future__ import annotations

import json
import re
import socket
import time

import pytest

from tests.adversarial.demands import BODIES, PISTON, RAW, TOKENS

TELLTALE = re.compile(
    r"Traceback|File \"|/var/lib|/usr/lib|site-packages|\.py\b|sqlalchemy|pydantic|werkzeug|gunicorn/|crun|runc|docker"
    r"|worker\.sock|0x[0-9a-f]{6}|dev_123",
    re.IGNORECASE,
)


def check_error(reply, status):
    assert reply.status == status, (reply.status, reply.raw[:500])
    error = reply.body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"]
    assert len(error["message"]) < 2000
    assert not TELLTALE.search(reply.raw.decode()), reply.raw[:500]
    assert reply.headers["x-request-id"]
    return error


@pytest.mark.parametrize("name", TOKENS)
def test_token(service, name):
    header = TOKENS[name]
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    for method, path in (
        ("POST", "/v1/runs"),
        ("GET", "/v1/runs"),
        ("GET", "/v1/files"),
        ("POST", "/v1/runs/run_x/cancel"),
    ):
        reply = service.request(method, path, b"{}" if method == "POST" else None, headers, token=None)
        if name == "control characters":  # no header at all, as HTTP has it
            check_error(reply, 400)
            continue
        check_error(reply, 401)
        assert reply.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("name", BODIES)
def test_body(service, name):
    body, param = BODIES[name]
    error = check_error(service.post("/v1/runs", json=body), 400)
    if param is not None:
        assert error["param"] == param


@pytest.mark.parametrize("name", RAW)
def test_what_is_no_request(service, name):
    check_error(service.post("/v1/runs", data=RAW[name]), 400)


def check_message(reply, status):
    assert reply.status == status, (reply.status, reply.raw[:500])
    assert list(reply.body) == ["message"]
    assert 0 < len(reply.body["message"]) < 500
    # What was sent may be named, as Piston does; nothing else is.
    assert not TELLTALE.search(reply.raw.decode()), reply.raw[:500]


@pytest.mark.parametrize("name", PISTON)
def test_body_of_piston(service, name):
    check_message(service.post("/api/v2/execute", json=PISTON[name]), 400)


@pytest.mark.parametrize("name", RAW)
def test_what_is_no_request_of_piston(service, name):
    check_message(service.post("/api/v2/execute", data=RAW[name]), 400)


def test_null_is_the_default_and_not_an_error(service):
    run = service.run("bash", "echo hi", limits={"timeout_ms": None, "cpus": None}, env=None, args=None, stdin=None)
    assert (run["stdout"], run["limits"]["timeout_ms"]) == ("hi\n", 10_000)


@pytest.mark.parametrize(
    "path",
    ["/v1/runs/../../etc/passwd", "/v1/runs/%2e%2e%2f", "/v1/runs/run_x%00", "/v1/runs/" + "x" * 4000, "/v1/runs/run_é".encode().decode("latin-1"),
     "/v1/files/file_x/content", "/v1/files/..%2f..%2fetc%2fpasswd/content", "/v1/nothing", "/.env", "/v1/runs/run_x/events"],
)  # fmt: skip
def test_nothing_lies_at_a_path_that_is_not_the_apis(service, path):
    sent = path.encode("latin-1").decode("latin-1")
    with socket.create_connection((service.host, service.port), 20) as connection:
        head = (
            f"GET {sent} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.token}\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(head.encode("latin-1"))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    status = int(answer.split(b" ", 2)[1])
    assert status in (400, 403, 404), answer[:300]
    assert b"root:" not in answer
    assert not TELLTALE.search(answer.partition(b"\r\n\r\n")[2].decode("utf-8", "replace"))


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "OPTIONS", "PROPFIND", "DELETE"])
def test_a_method_that_is_not_offered(service, method):
    reply = service.request(method, "/v1/runs", b"", {})
    assert reply.status in (200, 204, 405), reply.raw[:200]
    assert reply.status != 200 or method == "OPTIONS"


def log_lines(service, since):
    with open(service.state / "log" / "service.log", "rb") as log:
        log.seek(since)
        return log.read().splitlines()


def test_no_text_of_a_users_makes_a_line_of_the_log(service):
    """One JSON object a line whatever is sent; no token in it, whichever way it came."""
    log = service.state / "log" / "service.log"
    since = log.stat().st_size
    forged = 'x\n{"level": "critical", "message": "forged"}\r\n\x1b[2J'
    service.post("/v1/runs", json={"language": forged, "code": ""})
    service.post(
        "/v1/runs", json={"language": "bash", "code": forged, "metadata": {"a": forged}, "env": {"A": forged}}
    )
    service.get("/v1/nothing?token=secret-of-a-link&x=%0a%7b%22level%22:%22critical%22%7d")
    service.get("/v1/files/file_x/content?token=secret-of-a-link", token=None)
    service.request("GET", "/v1/runs", headers={"User-Agent": 'a"b\tforged', "X-Request-Id": "forged forged"})
    service.run("bash", 'echo \'{"level": "critical"}\' >&2')
    time.sleep(0.3)
    lines = log_lines(service, since)
    for line in lines:
        entry = json.loads(line)
        assert entry.get("level", "").lower() != "critical"
    text = b"\n".join(lines)
    assert b"secret-of-a-link" not in text
    assert service.token.encode() not in text


@pytest.mark.usefixtures("invariants")
@pytest.mark.parametrize(
    "state", ["queued or running", "running", "with output", "ended", "cancelled", "unknown", "another's"]
)
def test_cancel_in_every_state(service, state):
    def cancel(run_id, **how):
        return service.post(f"/v1/runs/{run_id}/cancel", data=b"", **how)

    if state == "unknown":
        check_error(cancel("run_nowhere"), 404)
        return
    run_id = service.submit("bash", "echo begun; sleep 20" if state != "ended" else "echo done")
    if state in ("running", "another's"):
        deadline = time.monotonic() + 20
        while service.get(f"/v1/runs/{run_id}").body["status"] == "queued":
            assert time.monotonic() < deadline
            time.sleep(0.02)
    if state == "with output":
        with service.events(f"/v1/runs/{run_id}/events") as events:
            next(event for _, event in events if event["event"] == "stdout")
    if state == "ended":
        before = service.ended(run_id)
        reply = cancel(run_id)
        assert (reply.status, reply.body) == (200, before)
        return
    if state == "another's":
        check_error(cancel(run_id, token=service.other_token), 404)
        assert service.get(f"/v1/runs/{run_id}").body["status"] == "running"
    for _ in range(2 if state == "cancelled" else 1):
        reply = cancel(run_id)
        assert (reply.status, reply.body["status"], reply.body["cancelled"]) == (200, "cancelled", True)
    assert service.ended(run_id)["status"] == "cancelled"


@pytest.mark.usefixtures("invariants")
def test_slow_and_half_bodies_hold_nobody_up(service):
    body = json.dumps({"language": "bash", "code": "echo slow"}).encode()
    head = (
        f"POST /v1/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    half = [socket.create_connection((service.host, service.port), 30) for _ in range(40)]
    try:
        for connection in half[:20]:
            connection.sendall(head[:20])
        for connection in half[20:]:
            connection.sendall(head + body[:5])
        began = time.monotonic()
        assert service.run("bash", "echo hi")["stdout"] == "hi\n"
        assert time.monotonic() - began < 20
        last = half[-1]
        for at in range(5, len(body), 4):
            last.sendall(body[at : at + 4])
            time.sleep(0.01)
        assert last.recv(4096).startswith(b"HTTP/1.1 200")
    finally:
        for connection in half:
            connection.close()
