"""deploy/scaled/nginx.conf, run by Debian's nginx: which requests it sends to the other api, and which never."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from tests.support.composed import REPO
from tests.support.proxies import NGINX_CONF, STARTED_S, replaced

#: As the comment of the file describes it for several hosts; no server of them is left out after a failure.
UPSTREAM = "upstream runyard {{ server 127.0.0.1:{} max_fails=0; server 127.0.0.1:{} max_fails=0; }}\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class Api:
    """Takes requests, and answers each with these bytes; without any it closes the connection."""

    def __init__(self, answer: bytes) -> None:
        self.requests: list[str] = []
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                head = b""
                while b"\r\n\r\n" not in head and (piece := connection.recv(65536)):
                    head += piece
                head, _, body = head.partition(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head.lower())
                missing = int(length[1]) - len(body) if length else 0
                while missing > 0 and (piece := connection.recv(65536)):
                    missing -= len(piece)
                self.requests.append(head.decode().partition(" HTTP")[0])
                connection.sendall(self._answer)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Nginx:
    """nginx with the file's configuration, before two ports of this machine."""

    def __init__(self, place, *ports: int) -> None:
        place.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        page = replaced(
            (REPO / "deploy/scaled/nginx.conf").read_text(),
            ("listen 8080;", f"listen 127.0.0.1:{self.port};"),
            ("set $runyard_apis api:8080;", "set $runyard_apis runyard;"),
            ("/var/log/nginx/access.log", f"{place}/access.log"),
            ("/var/log/nginx/error.log", f"{place}/error.log"),
        )
        (place / "runyard.conf").write_text(UPSTREAM.format(*ports) + page)
        (place / "nginx.conf").write_text(NGINX_CONF.format(place=place))
        argv = ["/usr/sbin/nginx", "-p", str(place), "-c", str(place / "nginx.conf")]
        assert shutil.which(argv[0]), "nginx is not installed: make test-setup installs it"
        self.log, self._output = place / "access.log", place / "output"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                argv, cwd=place, env={"PATH": os.environ["PATH"]}, stdout=output, stderr=output
            )
        deadline = time.monotonic() + STARTED_S
        while not self._answers():
            assert self._process.poll() is None, self._output.read_text()
            assert time.monotonic() < deadline, self._output.read_text()
            time.sleep(0.01)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def request(self, method: str, path: str, body: bytes | None = None) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, body)
        status = connection.getresponse().status
        connection.close()
        return status

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)


@pytest.fixture
def start(tmp_path):
    started = []

    def make(*ports: int) -> Nginx:
        started.append(Nginx(tmp_path / "nginx", *ports))
        return started[-1]

    yield make
    for nginx in started:
        nginx.stop()


@pytest.mark.parametrize(
    ("method", "path", "body", "times"),
    [
        ("GET", "/v1/runs", None, 2),
        ("DELETE", "/v1/runs/run_a", None, 2),
        ("POST", "/v1/runs", b"{}", 1),
        ("POST", "/v1/runs/run_a/cancel", None, 1),
        ("PATCH", "/v1/sessions/sess_a", b"{}", 1),
        ("GET", "/api/run/python?code=1", None, 1),
        ("GET", "/v1/agent-coderunner/api/run/python?code=1", None, 1),
        ("GET", "/api%2Frun/python?code=1", None, 1),
        ("GET", "//api//run//python?code=1", None, 1),
        ("GET", "/x/../api/run/python?code=1", None, 1),
    ],
)
def test_a_request_that_was_sent_is_repeated_only_if_it_may_be(start, method, path, body, times):
    apis = [Api(b""), Api(b"")]
    nginx = start(*(api.port for api in apis))
    assert nginx.request(method, path, body) == 502
    assert [request for api in apis for request in api.requests] == [f"{method} {path}"] * times
    for api in apis:
        api.close()


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("POST", b"{}"), ("PUT", b"x" * 100_000)])
def test_what_one_api_cannot_have_got_is_sent_to_the_other(start, method, body):
    api, gone = Api(ANSWER), Api(b"")
    gone.close()
    nginx = start(gone.port, api.port)
    assert [nginx.request(method, "/v1/x", body) for _ in range(4)] == [200] * 4
    assert len(api.requests) == 4
    api.close()


def test_the_log_has_no_query_and_every_api_that_was_tried(start):
    apis = [Api(b""), Api(b"")]
    nginx = start(*(api.port for api in apis))
    nginx.request("GET", "/v1/files/file_a/content?token=s3cret")
    nginx.stop()
    (line,) = nginx.log.read_text().splitlines()
    assert '"GET /v1/files/file_a/content" 502 ' in line
    assert {f"127.0.0.1:{api.port}" in line for api in apis} == {True}
    written = "".join(path.read_text() for path in nginx.log.parent.glob("*.log"))
    assert "s3cret" not in written
    for api in apis:
        api.close()
