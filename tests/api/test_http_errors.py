"""One error shape over every endpoint and every layer, and every refusal of a request, over real HTTP."""

from __future__ import annotations

import json
import socket

import pytest

TYPES = {401: "authentication_error", 429: "rate_limit_error"}


def assert_envelope(reply, status, code=None, param=None):
    assert reply.status == status, reply.raw[:500]
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]
    error = reply.body["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["type"] == TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    assert error["message"]
    for secret in ("Traceback", "/site-packages", 'File \\"', "werkzeug", "gunicorn", "flask"):
        assert secret not in reply.raw.decode()
    if code is not None:
        assert error["code"] == code
    if param is not None:
        assert error["param"] == param


def raw(service, data: bytes, timeout=20) -> bytes:
    """What the service answers to these very bytes."""
    with socket.create_connection((service.host, service.port), timeout=timeout) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received


class Parsed:
    """A raw answer as `assert_envelope` reads one."""

    def __init__(self, data: bytes):
        head, _, self.raw = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.body = json.loads(self.raw)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/", 404, "not_found"),
        ("POST", "/v1/runs/", 404, "not_found"),
        ("GET", "//v1//languages", 404, "not_found"),
        ("GET", "/v1/../etc/passwd", 404, "not_found"),
        ("GET", "/v1/%00", 404, "not_found"),
        ("GET", "/v1/%ff", 404, "not_found"),
        ("GET", "/v1/runs/run_none", 404, "run_not_found"),
        ("DELETE", "/v1/runs", 405, "method_not_allowed"),
        ("PUT", "/v1/runs/run_none", 405, "method_not_allowed"),
        ("POST", "/v1/languages", 405, "method_not_allowed"),
        ("POST", "/v1/health", 405, "method_not_allowed"),
        ("PATCH", "/healthz", 405, "method_not_allowed"),
        ("DELETE", "/readyz", 405, "method_not_allowed"),
    ],
)
def test_paths_and_methods(service, method, path, status, code):
    reply = service.request(method, path)
    assert_envelope(reply, status, code)
    assert bool(reply.headers.get("allow")) == (status == 405)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET /healthz HTTP/9.9\r\n\r\n", 400),
        (b"G\xc3\xa9T /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nbroken\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\na: b\r\n c\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\na: \0\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\na: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: magic\r\n\r\n", 417),
        (b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: magic\r\n\r\n", 501),
    ],
)
def test_what_is_no_http_has_the_same_shape(service, data, status):
    answer = raw(service, data)
    assert_envelope(Parsed(answer), status)
    assert b"Python" not in answer
    assert b"magic" not in answer


def test_a_malformed_chunk(service):
    head = (
        f"POST /v1/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.token}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()
    assert_envelope(Parsed(raw(service, head + b"zz\r\nx\r\n0\r\n\r\n")), 400, "incomplete_body")


@pytest.mark.parametrize("token", ["missing", "dev_12", "dev_1234", "é", "x" * 4000, "dev_123,other_456"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/runs"), ("GET", "/v1/runs/run_x")])
def test_tokens(service, method, path, token):
    headers = {} if token == "missing" else {"Authorization": f"Bearer {token}".encode()}
    reply = service.request(method, path, b"{}" if method == "POST" else None, headers, token=None)
    assert_envelope(reply, 401)
    assert reply.headers["www-authenticate"].startswith("Bearer")
    assert "x-ratelimit-limit-requests" not in reply.headers


def test_no_token_is_needed_to_look_around(service):
    for path in ("/healthz", "/readyz", "/v1/health", "/v1/languages"):
        assert service.get(path, token=None).status == 200


def test_the_server_does_not_tell_its_name_and_version(service):
    assert service.get("/healthz").headers.get("server", "runyard") == "runyard"


def test_request_ids(service):
    assert service.get("/healthz", {"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert service.get("/healthz", {"x-request-id": "no good"}).headers["x-request-id"].startswith("req_")
    first, second = (service.get("/v1/none").headers["x-request-id"] for _ in range(2))
    assert first != second


def test_rate_limit(service):
    replies = [service.post("/v1/runs", json={}, token=service.slow_token) for _ in range(4)]
    assert [reply.status for reply in replies[:2]] == [400, 400], "a token is spent by asking, not by success"
    refused = replies[-1]
    assert_envelope(refused, 429, "rate_limit_exceeded")
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["x-ratelimit-limit-requests"] == "2"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.headers["x-ratelimit-reset-requests"].endswith("s")
    reading = service.get("/v1/runs/run_x", token=service.slow_token)
    assert (reading.status, reading.headers["x-ratelimit-limit-requests"]) == (404, "20")


RUN = {"language": "python", "code": "x"}
BAD = {
    "language": ({"language": "cobol", "code": "x"}, "language", "unknown_language"),
    "language path": ({"language": "../sh", "code": "x"}, "language", "unknown_language"),
    "language newline": ({"language": "Python\n", "code": "x"}, "language", "unknown_language"),
    "language proto": ({"language": "__proto__", "code": "x"}, "language", "unknown_language"),
    "language type": ({"language": 1, "code": "x"}, "language", "invalid_type"),
    "nothing": ({}, "language", "missing_field"),
    "no code": ({"language": "python"}, "code", "missing_field"),
    "empty code": (RUN | {"code": ""}, "code", "invalid_value"),
    "long code": (RUN | {"code": "x" * (1024 * 1024 + 1)}, "code", "too_long"),
    "both": (RUN | {"entrypoint": "a", "files": [{"path": "a", "content": ""}]}, "entrypoint", "invalid_value"),
    "unknown": (RUN | {"timeout": 3}, "timeout", "unknown_field"),
    "unknown limit": (RUN | {"limits": {"timeout": 3}}, "limits.timeout", "unknown_field"),
    "limit string": (RUN | {"limits": {"timeout_ms": "3"}}, "limits.timeout_ms", "invalid_type"),
    "limit float": (RUN | {"limits": {"timeout_ms": 3.5}}, "limits.timeout_ms", "invalid_type"),
    "limit bool": (RUN | {"limits": {"pids": True}}, "limits.pids", "invalid_type"),
    "limit zero": (RUN | {"limits": {"pids": 0}}, "limits.pids", "limit_below_minimum"),
    "limit above": (RUN | {"limits": {"timeout_ms": 60001}}, "limits.timeout_ms", "limit_exceeds_maximum"),
    "limit huge": (RUN | {"limits": {"memory_mb": 10**300}}, "limits.memory_mb", "limit_exceeds_maximum"),
    "path up": (RUN | {"files": [{"path": "../x", "content": ""}]}, "files.0.path", "invalid_path"),
    "path absolute": (RUN | {"files": [{"path": "/x", "content": ""}]}, "files.0.path", "invalid_path"),
    "path entry": (RUN | {"files": [{"path": "main.py", "content": ""}]}, "files.0.path", "duplicate_path"),
    "path twice": (RUN | {"files": [{"path": "a", "content": ""}] * 2}, "files.1.path", "duplicate_path"),
    "base64": (
        RUN | {"files": [{"path": "a", "content": "!", "encoding": "base64"}]},
        "files.0.content",
        "invalid_base64",
    ),
    "args": (RUN | {"args": ["x"] * 65}, "args", "too_many"),
    "env": (RUN | {"env": {"A=B": ""}}, "env", "invalid_value"),
    "stdin": (RUN | {"stdin": "x" * (8 * 1024 * 1024 + 1)}, "stdin", "too_long"),
    "metadata": (RUN | {"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
}


@pytest.mark.parametrize(("body", "param", "code"), BAD.values(), ids=BAD.keys())
def test_bad_input(service, body, param, code):
    assert_envelope(service.post("/v1/runs", json=body), 400, code, param)


def test_an_unknown_language_lists_the_known(service):
    message = service.post("/v1/runs", json={"language": "cobol", "code": "x"}).body["error"]["message"]
    assert all(name in message for name in ("bash", "bun", "deno", "node", "php", "python", "ruby", "typescript"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"[]",
        b"null",
        b"{} {}",
        b'{"language":"python","code":NaN}',
        b"[" * 200_000,
        b'{"a":' * 100_000,
        rb'{"language":"python","code":"\ud800"}',
        b'{"language":"python","code":"\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"limits":{"timeout_ms":' + b"9" * 10_000 + b"}}",
    ],
)
def test_malformed_json(service, data):
    assert_envelope(service.post("/v1/runs", data=data), 400, "invalid_json")


def test_what_curl_sends_by_default_is_explained(service):
    reply = service.post(
        "/v1/runs", data=b'{"language":"python"}', headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert_envelope(reply, 415, "unsupported_media_type")
    assert "Content-Type: application/json" in reply.body["error"]["message"]


def test_json_without_a_content_type_is_taken(service):
    reply = service.request("POST", "/v1/runs", b'{"language":"bash","code":"echo hi"}')
    assert (reply.status, reply.body["stdout"]) == (200, "hi\n")
