"""The parts of a service that each role sets up, and when a machine with that role is ready."""

from __future__ import annotations

import json
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from config.environment import SETTINGS
from config.roles import ALL, API, ROLES, WORKER
from config.settings import Settings
from ops import fitness, install, programs
from ops.checks import all_checks
from ops.health import readiness
from ops.hints import greeting
from ops.install import InstallError
from ops.state import StatePlace
from ops.supervisor import make_directories
from ops.up import Up
from tests.unit.test_config_roles import SHARED

GOOD = {"database": "ok", "storage": "ok", "disk": "ok"}
NO_WORKER = {"worker": "fail", "languages": "fail", "sandboxes": "fail", "posture": "fail"}


@pytest.fixture
def environ(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.upper() in SETTINGS:
            monkeypatch.delenv(name)
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    for name, value in SHARED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize(
    ("role", "egress", "names"),
    [
        ("all", "off", ["worker", "api", "images"]),
        ("all", "on", ["worker", "api", "images", "egress"]),
        ("api", "on", ["api"]),
        ("worker", "off", ["worker", "images"]),
        ("worker", "on", ["worker", "images", "egress"]),
    ],
)
def test_the_programs_of_a_role(environ, role, egress, names):
    environ.setenv("ROLE", role)
    environ.setenv("EGRESS", egress)
    found = programs.of_role(Settings())
    assert [program.name for program in found] == names
    secrets = {name for name in ("DATABASE_URL", "SIGNING_KEY", "RATELIMIT_URL") if name in SHARED}
    for program in found:
        assert program.name == "api" or not secrets & set(program.env)
        assert program.env.get("ROLE") == (role if program.name in ("api", "worker") else None)


@pytest.mark.parametrize(
    ("role", "made"), [("api", {"api", "db"}), ("worker", {"egress"}), ("all", {"api", "db", "egress"})]
)
@pytest.mark.skipif(os.geteuid() != 0, reason="gives directories to accounts")
def test_the_directories_of_a_role(environ, tmp_path, role, made):
    environ.setenv("ROLE", role)
    place = StatePlace(tmp_path)
    make_directories(place, Settings())
    found = {"api": tmp_path / "api", "db": tmp_path / "db", "egress": place.run / "egress"}
    assert {name for name, path in found.items() if path.exists()} == made


def test_a_machine_without_programs_needs_no_package_kernel_or_disk_for_them(environ, tmp_path):
    environ.setenv("ROLE", "api")
    assert install.needed_packages() == install.BASE_PACKAGES
    names = {check.name for check in all_checks(StatePlace(tmp_path))}
    assert "setpriv" in names
    assert not {"overlay", "seccomp", "disk", "crun works", "user namespaces", "mmdebstrap"} & names
    environ.setenv("STATE_DIR", "/var/lib/runyard-none")
    environ.setattr(fitness, "check_account", lambda: None)
    environ.setattr(fitness, "_check_kernel", lambda: pytest.fail("the kernel was looked at"))
    fitness.check_machine()
    environ.setattr(Up, "_builder", lambda *_: pytest.fail("images were looked at"))
    assert not Up()._images_outdated()


def test_a_worker_takes_no_port(environ):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environ.setenv("PORT", str(taken.getsockname()[1]))
        environ.setenv("ROLE", "worker")
        Up().check_port()
        environ.setenv("ROLE", "api")
        with pytest.raises(InstallError, match="cannot listen"):
            Up().check_port()


def test_a_role_that_there_is_not_is_named(environ):
    environ.setenv("ROLE", "both")
    with pytest.raises(InstallError, match="ROLE=both: must be one of all, api, worker"):
        fitness.check_role()


@pytest.fixture
def answering():
    """A server whose /readyz answers as it is told."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = self.server.reply
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("checks", "whole", "api"),
    [
        (GOOD | {"worker": "ok", "posture.seccomp": "ok"}, True, True),
        (GOOD | NO_WORKER, False, True),
        (GOOD | {"worker": "ok", "posture.seccomp": "fail"}, False, True),
        (GOOD | NO_WORKER | {"database": "fail"}, False, False),
        (GOOD | {"broker": "fail"} | NO_WORKER, False, False),
        (NO_WORKER, False, False),
    ],
)
def test_an_api_alone_is_ready_with_its_own_checks_and_a_whole_service_with_all(
    answering, tmp_path, checks, whole, api
):
    good = all(state == "ok" for state in checks.values())
    answering.reply = (200 if good else 503, json.dumps({"checks": checks}).encode())
    url = f"http://127.0.0.1:{answering.server_port}"
    place = StatePlace(tmp_path)
    assert readiness(place, url, ALL)[0] == whole
    assert readiness(place, url, API)[0] == api


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"checks": 1}', b'{"checks": {}}', b"\xff"])
def test_an_answer_that_is_no_report_is_not_ready(answering, tmp_path, body):
    answering.reply = (503, body)
    assert not readiness(StatePlace(tmp_path), f"http://127.0.0.1:{answering.server_port}", API)[0]


READY, NOT_BUILT = [{"id": "bash", "ready": True}], [{"id": "bash", "ready": False}]


@pytest.mark.parametrize(
    ("status", "found"),
    [
        ({"languages": READY, "broker": "ok"}, (True, "")),
        ({"languages": NOT_BUILT, "broker": "ok"}, (False, "no language is ready")),
        ({"languages": READY, "broker": "fail"}, (False, "no connection to the broker")),
        ({"languages": READY}, (False, "no connection to the broker")),
        ({}, (False, "no language is ready")),
        ([], (False, "nothing: it does not answer")),
    ],
)
def test_a_worker_is_ready_with_a_language_and_the_broker(tmp_path, status, found):
    place = StatePlace(tmp_path)
    place.run.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place.run / "worker.sock"))
        listener.listen()

        def answer():
            with listener.accept()[0] as asked:
                asked.recv(1000)
                asked.sendall(json.dumps({"status": status}).encode() + b"\n")

        threading.Thread(target=answer, daemon=True).start()
        assert readiness(place, "", WORKER) == found


def test_a_worker_that_does_not_answer_is_not_ready(tmp_path):
    assert readiness(StatePlace(tmp_path), "", WORKER) == (False, "nothing: it does not answer")


@pytest.mark.parametrize("role", ROLES.values(), ids=lambda role: role.name)
def test_what_is_said_at_the_end_of_a_start(environ, tmp_path, role):
    said = greeting(StatePlace(tmp_path), "http://127.0.0.1:8080", role, 1.0)
    assert ("http://127.0.0.1:8080" in said) == role.has_api
    assert "make down" in said
