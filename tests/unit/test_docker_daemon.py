"""The Docker daemon's answers, from 20.10 to newer ones, and its silence: a fake one on a real socket."""

from __future__ import annotations

import gc
import http.server
import json
import socketserver
import threading
import time

import pytest

from sandbox.engines import EngineError, EngineUnusable
from sandbox.engines.docker import daemon as module
from sandbox.engines.docker.daemon import Daemon, ImageMissing

# As recorded of Docker 20.10 on cgroup v1, and of Docker 28 and 29 on cgroup v2 under systemd; shortened.
OLD = (
    {"Version": "20.10.24+dfsg1", "ApiVersion": "1.41", "MinAPIVersion": "1.12"},
    {
        "Runtimes": {"io.containerd.runc.v2": {"path": "runc"}, "runc": {"path": "runc"}},
        "DefaultRuntime": "runc",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": "1",
    },
)
NEW = (
    {"Version": "28.2.2", "ApiVersion": "1.50", "MinAPIVersion": "1.24"},
    {
        "Runtimes": {
            "io.containerd.runc.v2": {"path": "runc", "status": {"org.opencontainers.runtime-spec.features": "{}"}},
            "runc": {"path": "runc"},
            "runsc": {"path": "/usr/bin/runsc", "runtimeArgs": ["--platform=systrap"]},
        },
        "DefaultRuntime": "runc",
        "CgroupDriver": "systemd",
        "CgroupVersion": "2",
    },
)
NEWEST = ({"Version": "29.0.0", "ApiVersion": "1.52", "MinAPIVersion": "1.44"}, NEW[1])


class FakeDocker(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers from `answers`: (method, path without version) to (status, body) or a number of seconds to hang.

    A body that is a tuple is sent piece by piece, with hanging in between if a piece is a number.
    """

    daemon_threads = True

    def __init__(self, path, version, info):
        self.answers = {("GET", "/version"): (200, version), ("GET", "/info"): (200, info)}
        self.calls = []
        super().__init__(str(path), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "test"

    def log_message(self, *_):
        pass

    def answer(self):
        path = self.path.partition("?")[0]
        if path.startswith("/v1."):
            path = "/" + path.split("/", 2)[2]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.calls.append((self.command, self.path, json.loads(body) if body else None))
        found = self.server.answers.get((self.command, path), (404, {"message": "no such thing"}))
        if isinstance(found, float):
            time.sleep(found)
            self.close_connection = True
            return
        status, data = found
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if isinstance(data, tuple):
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.send_pieces(data)
            return
        text = b"" if data is None else json.dumps(data).encode()
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def send_pieces(self, pieces):
        for piece in pieces:
            if isinstance(piece, float):
                time.sleep(piece)
                self.close_connection = True
                return
            text = json.dumps(piece).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_DELETE = answer  # noqa: N815  # the base class's names


@pytest.fixture
def fake(tmp_path):
    servers = []

    def start(version, info):
        server = FakeDocker(tmp_path / "docker.sock", version, info)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return server, f"unix://{tmp_path}/docker.sock"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("answers", "api", "driver"), [(OLD, "1.41", "cgroupfs"), (NEW, "1.50", "systemd"), (NEWEST, "1.52", "systemd")]
)
def test_each_daemon_is_spoken_to_in_its_own_version(fake, answers, api, driver):
    server, url = fake(*answers)
    daemon = Daemon(url)
    assert (daemon.about.api, daemon.about.cgroup_driver) == (api, driver)
    assert "runc" in daemon.about.runtimes
    server.answers["POST", "/containers/create"] = (201, {"Id": "abc", "Warnings": []})
    assert daemon.create("name", {"Image": "x"}) == "abc"
    assert server.calls[-1] == ("POST", f"/v{api}/containers/create?name=name", {"Image": "x"})
    daemon.close()


def test_a_daemon_that_is_too_old_is_refused(fake):
    _, url = fake({"Version": "19.03.1", "ApiVersion": "1.40"}, OLD[1])
    with pytest.raises(EngineUnusable, match=r"1\.41"):
        Daemon(url)


def test_nobody_there_says_what_to_install(tmp_path):
    with pytest.raises(EngineUnusable, match=r"apt-get install docker\.io"):
        Daemon(f"unix://{tmp_path}/none.sock")


# The SDK leaves the socket of a call that timed out to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_call_is_bounded_in_time(fake, monkeypatch):
    server, url = fake(*OLD)
    monkeypatch.setattr(module, "CALL_TIMEOUT_S", 0.2)
    daemon = Daemon(url)
    silent, half_way = 1.0, (200, (1.0,))
    hangs = [
        ("POST", "/containers/create", silent, lambda: daemon.create("x", {})),
        ("POST", "/containers/x/attach", silent, lambda: daemon.attach("x")),
        ("POST", "/containers/x/start", silent, lambda: daemon.start("x")),
        ("GET", "/containers/x/json", silent, lambda: daemon.pid("x")),
        ("POST", "/containers/x/update", silent, lambda: daemon.update("x", {})),
        ("DELETE", "/containers/x", silent, lambda: daemon.remove("x")),
        ("GET", "/containers/json", silent, lambda: daemon.labelled({"a": "b"})),
        ("GET", "/images/x/json", silent, lambda: daemon.image("x")),
        ("GET", "/events", silent, lambda: daemon.ran_out_of_memory("x", 0.0)),
        ("GET", "/events", half_way, lambda: daemon.ran_out_of_memory("x", 0.0)),
    ]
    for method, path, answer, call in hangs:
        server.answers[method, path] = answer
        began = time.monotonic()
        with pytest.raises(EngineError):
            call()
        assert time.monotonic() - began < 0.9, path
    daemon.close()
    gc.collect()


def test_a_container_is_gone_or_going_or_refused(fake):
    server, url = fake(*OLD)
    daemon = Daemon(url)
    for answer, gone in (
        ((204, None), True),
        ((404, {"message": "no"}), True),
        ((409, {"message": "busy"}), False),
    ):
        server.answers["DELETE", "/containers/x"] = answer
        assert daemon.remove("x") is gone
    server.answers["DELETE", "/containers/x"] = (500, {"message": "driver failed"})
    with pytest.raises(EngineError, match="driver failed"):
        daemon.remove("x")
    daemon.close()


def test_a_missing_image_is_told_from_other_faults(fake):
    server, url = fake(*OLD)
    daemon = Daemon(url)
    server.answers["POST", "/containers/create"] = (404, {"message": "No such image: runyard/python:abc"})
    with pytest.raises(ImageMissing):
        daemon.create("x", {})
    server.answers["POST", "/containers/create"] = (500, {"message": "out of disk"})
    with pytest.raises(EngineError, match="out of disk") as caught:
        daemon.create("x", {})
    assert not isinstance(caught.value, ImageMissing)
    daemon.close()


def test_a_container_that_ended_has_no_pid(fake):
    server, url = fake(*OLD)
    daemon = Daemon(url)
    server.answers["GET", "/containers/x/json"] = (200, {"State": {"Pid": 0, "Status": "exited"}})
    with pytest.raises(EngineError, match="ended at once"):
        daemon.pid("x")
    daemon.close()


OOM, DIE = ({"Type": "container", "Action": action, "time": 1763790000} for action in ("oom", "die"))


@pytest.mark.parametrize(
    ("events", "found"),
    [((OOM, DIE, 1.0), True), ((DIE, OOM, 1.0), True), ((DIE,), False), ((), False)],
    ids=["oom", "oom, told late", "die", "nothing"],
)
def test_the_daemon_knows_whether_a_container_ran_out_of_memory(fake, events, found):
    server, url = fake(*OLD)
    daemon = Daemon(url)
    server.answers["GET", "/events"] = (200, events)
    began = time.monotonic()
    assert daemon.ran_out_of_memory("x", 1763780000.5) is found
    assert time.monotonic() - began < 0.9
    asked = next(path for _, path, _ in server.calls if "/events" in path)
    assert all(part in asked for part in ("since=1763780000.5", "until=", "%22oom%22", "%22die%22"))
    daemon.close()
