"""Requests that mean harm, in the shape of agent-coderunner: each is a clear 4xx in that shape."""

from __future__ import annotations

import json
import socket

import pytest

from tests.adversarial.test_demands import TELLTALE
from tests.adversarial.test_other_services import NAMES, WRONG, send

CODES = {
    400: "bad_request",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
}


def execution(**fields):
    return {"language": "bash", "code": "echo hi", **fields}


CELLS = {
    **{f"code {value!r}": execution(code=value) for value in (*WRONG, "")},
    "code too long": execution(code="#" * 102_401),
    "code of wide letters too long": execution(code="\u20ac" * 34_134),
    **{
        f"timeout {value!r}": execution(timeout=value)
        for value in (0, -1, 30_001, 1.5, 1e400, "1", True, [], 2**63, 2**64, -(2**70))
    },
    **{f"stdin {value!r}": execution(stdin=value) for value in (1, [], {}, True, ["a"])},
    "stdin too long": execution(stdin="x" * ((8 << 20) + 1)),
    "a lone surrogate": b'{"language":"bash","code":"\\ud800"}',
    "NaN": b'{"language":"bash","code":"1","timeout":NaN}',
    "nested too deep": b'{"code":' * 2_000,
    "many values": b'{"x":[' + b"1," * 1_000_000 + b'1],"language":"bash","code":"1"}',
    "not UTF-8": b"\xff\xfe",
    "two objects": b"{}{}",
    "an array": b"[]",
    "nothing": b"",
}
EXECUTIONS = CELLS | {
    **{f"language {name[:20]!r}": execution(language=name) for name in (*NAMES, "node", "Python", "python ", "")},
    **{f"language {value!r}": execution(language=value) for value in WRONG if value is not None},
}
SESSIONS = {
    **{f"language {name[:20]!r}": {"language": name} for name in (*NAMES, "node", "")},
    **{f"language {value!r}": {"language": value} for value in WRONG if value is not None},
    "nested too deep": b'{"language":' * 2_000,
    "an array": b"[]",
    "not UTF-8": b"\xff\xfe",
}
#: Paths of files, as they stand in the request line, and the statuses that they may get.
PATHS = {
    "..": {400, 404, 405}, "../../etc/passwd": {400}, "%2e%2e": {400}, "%2e%2e/%2e%2e/etc/passwd": {400},
    "a/%2e%2e/%2e%2e/x": {400}, "%2e%2e%2fetc%2fpasswd": {400}, "/etc/passwd": {404}, "%2fetc%2fpasswd": {404},
    "a%00b": {400}, "%00": {400}, "a//b": {400}, "./a": {400}, "a/.": {400}, "a/": {400}, "%ff%fe": {400}, "%ed%a0%80": {400},
    "x" * 256: {400}, "a/" * 600 + "b": {400}, "%c0%ae%c0%ae/x": {400},
}  # fmt: skip


def check(reply, *statuses):
    assert reply.status in statuses, (reply.status, reply.raw[:300])
    assert list(reply.body) == ["error", "message"]
    assert reply.body["error"] == CODES[reply.status]
    assert 0 < len(reply.body["message"]) < 300
    assert not TELLTALE.search(reply.body["message"]), reply.body


@pytest.mark.parametrize("name", EXECUTIONS)
def test_executions(service, name):
    check(send(service, "/api/execute", EXECUTIONS[name]), 400)


@pytest.mark.parametrize("name", SESSIONS)
def test_sessions(service, name):
    check(send(service, "/api/sessions", SESSIONS[name]), 400)


@pytest.fixture(scope="module")
def session(service):
    made = service.post("/api/sessions", json={"language": "bash"})
    assert made.status == 200, made.raw
    yield made.body["sessionId"]
    service.request("DELETE", f"/api/sessions/{made.body['sessionId']}")


@pytest.mark.parametrize("name", CELLS)
def test_executions_in_a_session(service, session, name):
    check(send(service, f"/api/sessions/{session}/execute", CELLS[name]), 400)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_paths_of_files(service, session, method, path):
    reply = service.request(method, f"/api/sessions/{session}/files/{path}", b"x" if method == "PUT" else None)
    check(reply, *PATHS[path])


def test_links_in_a_session_lead_to_nothing_of_the_host(service, session):
    """They lead within the sandbox, where its own programs may read the same."""
    code = "ln -s /etc/hostname link; ln -s / root; echo made > /work/made; ln -s made inside; mkfifo pipe"
    assert service.post(f"/api/sessions/{session}/execute", {"code": code}).body["exitCode"] == 0
    host = socket.gethostname().encode()
    for path in ("link", "root/etc/hostname", "root/proc/1/environ", "root/root/.ssh/id_rsa"):
        reply = service.get(f"/api/sessions/{session}/files/{path}")
        assert reply.status in (200, 403, 404, 409), reply.raw[:200]
        assert host not in reply.raw
    assert service.get(f"/api/sessions/{session}/files/inside").raw == b"made\n"
    check_conflict = service.get(f"/api/sessions/{session}/files/pipe", timeout=20)
    assert (check_conflict.status, check_conflict.body["error"]) == (409, "conflict")
    # A link is removed, and not the file that it leads to.
    assert service.request("DELETE", f"/api/sessions/{session}/files/inside").status == 200
    assert service.get(f"/api/sessions/{session}/files/made").raw == b"made\n"


def test_a_file_that_is_too_large(service, session):
    path = f"/api/sessions/{session}/files/big"
    data = bytes((10 << 20) + 1)
    check(service.request("PUT", path, data), 413)
    check(service.request("PUT", path, iter([data])), 413)
    check(service.request("PUT", path, iter([bytes(17 << 20)])), 413)
    check(service.get(path), 404)
    # One whose body breaks off is not written either.
    with socket.create_connection((service.host, service.port), timeout=20) as connection:
        head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.token}\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + b"half")
        connection.shutdown(socket.SHUT_WR)
        assert b'"error":"bad_request"' in connection.recv(65536)
    check(service.get(path), 404)


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "sess-", "sess-%00", "x" * 5000, "%ff", "sess_%2f", "*", "'--", "sess-" + "a" * 26]
)
def test_names_of_sessions_and_executions(service, session, name):
    """None of them is one, and none of them ends one."""
    for method, path, body in (
        ("GET", f"sessions/{name}", None),
        ("DELETE", f"sessions/{name}", None),
        ("POST", f"sessions/{name}/execute", b'{"code":"id"}'),
        ("GET", f"sessions/{name}/files", None),
        ("GET", f"executions/{name.replace('sess', 'exec')}", None),
    ):
        reply = service.request(method, f"/api/{path}", body, {"Content-Type": "application/json"})
        check(reply, 404, 405)
    assert service.get(f"/api/sessions/{session}").body["sessionId"] == session


def test_another_keys_session_and_execution_are_not_there(service, session):
    kept = service.post(f"/api/sessions/{session}/execute", {"code": "echo mine > mine; echo mine"}).body
    json_body = {"Content-Type": "application/json"}
    for method, path, body in (
        ("GET", f"sessions/{session}", None),
        ("DELETE", f"sessions/{session}", None),
        ("POST", f"sessions/{session}/execute", b'{"code":"id"}'),
        ("GET", f"sessions/{session}/files", None),
        ("GET", f"sessions/{session}/files/mine", None),
        ("PUT", f"sessions/{session}/files/mine", b"x"),
        ("DELETE", f"sessions/{session}/files/mine", None),
        ("GET", f"executions/{kept['id']}", None),
    ):
        reply = service.request(method, f"/api/{path}", body, json_body, token=service.other_token)
        check(reply, 404)
        by_query = service.request(method, f"/api/{path}?key={service.other_token}", body, json_body, token=None)
        check(by_query, 404)
    assert service.get(f"/api/sessions/{session}/files/mine").raw == b"mine\n"


@pytest.mark.parametrize(
    "query",
    [
        "code=1&code=2", "code=1&timeout=1&timeout=2", "code=1&timeout=1e3", "code=1&timeout=-1", "code=1&timeout=30001",
        "code=%ff", "code=%ed%a0%80", "stdin=1", "code=", "&" * 6000, "code=1&" + "a=1&" * 100, "code=1&timeout=" + "9" * 4000,
    ],
)  # fmt: skip
def test_queries(service, query):
    check(service.get(f"/api/run/bash?{query}"), 400)


@pytest.mark.parametrize(
    "language", ["..", "%2e%2e", "%00", "node", "bash%0a", "BASH", "x" * 3000, "%ff", "bash;id", "*"]
)
def test_languages_in_the_path(service, language):
    check(service.get(f"/api/run/{language}?code=id"), 400, 404)


def test_a_look_ahead_executes_nothing(service):
    """A HEAD, as browsers and caches send one, and a request of another method."""
    before = service.get("/api/executions?limit=1").body["executions"]
    for method in ("HEAD", "POST", "PUT", "DELETE"):
        reply = service.request(method, "/api/run/bash?code=echo")
        assert reply.status == 405
    assert service.get("/api/executions?limit=1").body["executions"] == before


def test_a_session_that_kills_itself_is_gone_and_no_other(service, session):
    made = service.post("/api/sessions", {"language": "python"}).body["sessionId"]
    code = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    reply = service.post(f"/api/sessions/{made}/execute", {"code": code})
    assert reply.status == 200, reply.raw
    assert reply.body["exitCode"] != 0
    again = service.post(f"/api/sessions/{made}/execute", {"code": "print(1)"})
    assert (again.status, again.body["stdout"]) == (200, "1")
    hungry = service.post(f"/api/sessions/{made}/execute", {"code": "x = bytearray(600 << 20)"})
    assert hungry.status in (200, 404), hungry.raw
    assert json.loads(hungry.raw).get("exitCode") != 0
    service.request("DELETE", f"/api/sessions/{made}")
    assert service.post(f"/api/sessions/{session}/execute", {"code": "echo alive"}).body["stdout"] == "alive"
