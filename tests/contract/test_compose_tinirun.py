"""deploy/tinirun/docker-compose.yml: valid, and started on a Docker daemon of the tests' own.

Valkey is built of Debian's package here, where no registry can be reached; python and bash are the only languages.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from config.parsers import DIALECT_NAMES
from tests.support.composed import (
    NEEDS_DOCKER,
    NOTHING,
    REPO,
    Composed,
    base_image,
    compose_daemon,
    stage,
)
from tests.support.dockerd import Dockerd
from tests.support.part_images import part_image
from tests.support.place import IMAGES, STATE
from tests.support.service import Service
from tests.support.tinirun import events
from tests.support.workers import until

FILE = "deploy/tinirun/docker-compose.yml"
KEY = "api-key-123"
pytestmark = [NEEDS_DOCKER, pytest.mark.timeout(1800)]


class Project(Composed):
    """The project with the demo."""

    project = "runyard-tinirun-test"
    options = ("-f", FILE)

    def __init__(self, daemon: Dockerd, folder: Path, base: str, valkey: str) -> None:
        super().__init__(daemon, folder, base, Service)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.demo_port = probe.getsockname()[1]
        for name in ("API_KEYS", "SIGNING_KEY"):
            del self.environment[name]
        self.environment |= {"DEMO_PORT": str(self.demo_port), "VALKEY_IMAGE": valkey, "LANGUAGES": "bash,python"}

    def demo(self, path: str, body: dict | None = None) -> tuple[int, bytes]:
        """Return status and body of an answer of the demo."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.demo_port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as e:
            return e.code, e.read()


@pytest.fixture(scope="module")
def composed():
    with compose_daemon(STATE) as daemon, tempfile.TemporaryDirectory() as scratch:
        base = base_image(daemon, IMAGES)
        project = Project(daemon, stage(Path(scratch)), base, part_image(daemon, base, "valkey"))
        project.call("down", "-v", "-t", "10")
        project.call("build", "worker", "api", "demo", "runner-bash", "runner-python")
        try:
            # What `up` starts without names, but for the images of other languages.
            project.call("up", "-d", "--no-build", "valkey", "worker", "api", "demo")
            project.wait()
            yield project
        finally:
            project.call("down", "-v", "-t", "30")
        assert project.left() == NOTHING


def test_docker_compose_takes_the_file():
    done = subprocess.run(
        ["docker-compose", "-f", FILE, "config"],
        cwd=REPO, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count(KEY) == 2


@pytest.mark.slow
def test_the_key_of_the_page_runs_a_program_and_valkey_is_asked(composed):
    reply = composed.service.post("/v1/runs", {"language": "bash", "code": "echo hello"}, token=KEY)
    assert (reply.status, reply.body["stdout"]) == (200, "hello\n"), reply.body
    assert composed.service.post("/v1/runs", {"language": "bash", "code": "1"}, token="dev_123").status == 401
    # The bucket itself is full again within a millisecond, and then gone.
    status, asked = composed.inside("valkey", "valkey-cli info commandstats")
    assert (status, "cmdstat_eval" in asked) == (0, True), asked


@pytest.mark.slow
def test_no_process_has_a_setting_by_its_other_name(composed):
    for name in ("api", "worker"):
        environ = Path(f"/proc/{composed.container(name)['State']['Pid']}/environ").read_text()
        names = {line.partition("=")[0] for line in environ.split("\0")}
        assert not {
            entry for entry in names if entry.startswith("RUNNER_") and not entry.startswith("RUNNER_IMAGE_")
        }
        assert {"api": {"API_KEYS", "RATELIMIT_URL", "BIND", "PORT"}, "worker": {"LOG_LEVEL"}}[name] <= names


@pytest.mark.slow
def test_the_demo_serves_its_page_and_runs_programs_without_the_key(composed):
    status, page = composed.demo("/")
    assert (status, page) == (200, (REPO / "web/demo/page.html").read_bytes())
    status, body = composed.demo("/run", {"lang": "bash", "code": "echo from the demo"})
    assert KEY.encode() not in page + body
    if "tinirun" not in DIALECT_NAMES:  # this version has the demo alone
        assert (status, json.loads(body)["error"]["code"]) == (502, "service_error")
        return
    assert status == 200
    assert events(body)[-1]["data"]["stdout"] == "from the demo\n"


@pytest.mark.slow
def test_the_demo_and_the_buckets_have_no_power(composed):
    until(lambda: composed.container("demo")["State"]["Health"]["Status"] == "healthy", 60)
    for name, published in (("demo", {"127.0.0.1"}), ("valkey", set())):
        host = composed.container(name)["HostConfig"]
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (True, ["ALL"], False)
        assert {one["HostIp"] for bound in (host["PortBindings"] or {}).values() for one in bound} == published
        assert not composed.container(name)["Mounts"] or {
            mount["Destination"] for mount in composed.container(name)["Mounts"]
        } <= {"/data"}
        _, status = composed.inside(name, "grep -E '^(Uid|Cap(Eff|Bnd)|NoNewPrivs)' /proc/1/status")
        assert [line.split()[1] for line in status.splitlines()] == ["65534", "0" * 16, "0" * 16, "1"]
        assert composed.inside(name, "touch /x")[0] != 0
    reach = "python3 -c \"import socket; socket.create_connection(('{}', {}), 3)\""
    assert composed.inside("demo", reach.format("api", 8080))[0] == 0
    assert composed.inside("demo", reach.format("valkey", 6379))[0] != 0


@pytest.mark.slow
def test_the_demo_waits_for_an_api_that_is_away(composed):
    """Comes last: the api is stopped."""
    composed.call("stop", "-t", "20", "api")
    deadline = time.monotonic() + 30
    while True:
        status, body = composed.demo("/run", {"lang": "bash", "code": "true"})
        if (status, json.loads(body)["error"]["message"][:37]) == (502, "The service that runs programs does n"):
            return
        assert time.monotonic() < deadline, body
