"""The configurations of docs/nginx.md and docs/caddy.md, run by Debian's nginx and Caddy in front of the service."""

from __future__ import annotations

import json
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from tests.support.proxies import NAME, ReverseProxy

#: nginx takes a body of 1 MiB by default.
LARGE = 3 * 1024 * 1024
EVIL = {
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "http",
    "Forwarded": "host=evil.example;proto=http",
    "X-Forwarded-Port": "1",
}


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxy(request, service, tmp_path_factory):
    place = tmp_path_factory.mktemp(request.param) / "proxy"
    started = ReverseProxy(request.param, place, f"{service.host}:{service.port}")
    yield started
    started.stop()


@pytest.fixture
def through(proxy, service):
    return proxy.client(service)


def test_an_upload_larger_than_nginx_takes_by_default_comes_back_as_it_was(through):
    content = bytes(range(256)) * (LARGE // 256)
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    file = through.request("POST", "/v1/files", head + content + b"\r\n--b--\r\n", form)
    assert (file.status, file.body["size"]) == (200, LARGE)
    assert through.get(f"/v1/files/{file.body['id']}/content").raw == content


def test_a_body_that_is_too_large_gets_the_answer_of_the_service(through):
    answer = through.post("/v1/runs", data=b" " * (17 * 1024 * 1024))
    assert (answer.status, answer.body["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/event-stream"])
def test_an_event_is_seen_before_the_run_has_ended(through, accept):
    """The run is cancelled by what its first output causes: a proxy that collects answers would let it time out."""
    body = {"language": "bash", "code": "echo first; sleep 50", "stream": True, "limits": {"timeout_ms": 55_000}}
    connection = through.connection(60)
    sent = {"Authorization": f"Bearer {through.token}", "Content-Type": "application/json", "Accept": accept}
    connection.request("POST", "/v1/runs", json.dumps(body), sent)
    response = connection.getresponse()
    assert (response.status, response.getheader("Content-Type").partition(";")[0]) == (200, accept)
    seen = b""
    while b"first" not in seen:
        seen += response.readline()
    (run,) = through.get("/v1/runs?status=running&limit=1").body["data"]
    assert through.post(f"/v1/runs/{run['id']}/cancel", json={}).body["status"] == "cancelled"
    rest = response.read()
    connection.close()
    assert b'"event":"result"' in rest or b"event: result" in rest
    assert b'"status":"cancelled"' in rest


@pytest.mark.parametrize("headers", [{}, EVIL], ids=["plain", "forged"])
def test_a_link_has_the_scheme_and_the_name_of_the_proxy_and_opens(through, proxy, headers):
    run = {"language": "bash", "code": "echo -n inside > outputs/a.txt"}
    answer = through.post("/v1/runs", json=run, headers=headers)
    assert answer.status == 200
    (artifact,) = answer.body["artifacts"]
    assert artifact["url"].startswith(f"{proxy.origin}/v1/files/{artifact['id']}/content?token=")
    address = urlsplit(artifact["url"])
    assert through.get(f"{address.path}?{address.query}", token=None).raw == b"inside"
    (listed,) = through.get("/v1/runs?limit=1", headers=headers).body["data"]
    assert listed["artifacts"][0]["url"].startswith(f"{proxy.origin}/v1/files/")


def test_the_document_is_right_for_the_proxy_too(through):
    assert through.get("/openapi.json", token=None).body["servers"] == [{"url": "/"}]
    assert through.get("/v1/health", token=None).body["status"] == "ok"


def test_the_address_in_the_log_is_that_of_the_client_alone(through, proxy, service):
    request_id = f"through-{proxy.port}"
    answer = through.get("/v1/languages", headers={"x-request-id": request_id, "X-Forwarded-For": "198.51.100.9"})
    assert answer.headers["x-request-id"] == request_id
    path, deadline = service.state / "log/service.log", time.monotonic() + 20
    remotes = []
    while not remotes:
        assert time.monotonic() < deadline, "the request is not in the log"
        lines = [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        remotes = [line["remote"] for line in lines if line.get("request_id") == request_id and "remote" in line]
    assert remotes == ["127.0.0.1"]


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
def test_an_upgrade_reaches_the_service_and_bytes_go_both_ways(kind, tmp_path):
    """The upstream is a socket of the test: it sees the request as the proxy sends it, and speaks no HTTP after that."""
    seen = []

    def serve():
        connection, _ = upstream.accept()
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(4096)
            seen.append(head.decode())
            connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            )
            while data := connection.recv(4096):
                connection.sendall(data.upper())

    with socket.create_server(("127.0.0.1", 0)) as upstream:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        proxy = ReverseProxy(kind, tmp_path / "proxy", f"127.0.0.1:{upstream.getsockname()[1]}")
        try:
            with proxy.connect(20) as client:
                client.sendall(
                    f"GET /v1/x HTTP/1.1\r\nHost: {NAME}:{proxy.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
                )
                answer = b""
                while b"\r\n\r\n" not in answer:
                    answer += client.recv(4096)
                assert answer.startswith(b"HTTP/1.1 101 ")
                for word in (b"ping", b"pong"):
                    client.sendall(word)
                    assert client.recv(4096) == word.upper()
        finally:
            proxy.stop()
        thread.join(20)
        assert not thread.is_alive()
    headers = {
        name.lower(): value for name, _, value in (line.partition(": ") for line in seen[0].split("\r\n")[1:])
    }
    assert (headers["upgrade"], headers["connection"].lower()) == ("websocket", "upgrade")
    assert (headers["x-forwarded-proto"], headers["x-forwarded-host"]) == ("https", f"{NAME}:{proxy.port}")
    assert headers["x-forwarded-for"] == "127.0.0.1"
