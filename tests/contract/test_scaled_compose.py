"""deploy/scaled/docker-compose.yml as it stands, on a Docker daemon of the tests' own, used through nginx's port alone.

The parts that are not of this project are built of Debian's packages (tests/support/parts), where no registry can be
reached. The tests go in the order of the file: later ones stop and kill parts of the service.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.contract.test_compose import Composed, base_image, images_of, stage
from tests.support.dockerd import Dockerd
from tests.support.part_images import part_image
from tests.support.service import STATE, Service
from tests.support.slow_machine import TIME_FACTOR
from tests.support.websocket import WebSocket
from tests.support.workers import until

FILE = "deploy/scaled/docker-compose.yml"
PASSWORDS = ("RABBITMQ_PASSWORD", "POSTGRES_PASSWORD", "VALKEY_PASSWORD", "S3_PASSWORD")
PARTS = {"RABBITMQ": "rabbitmq", "POSTGRES": "postgres", "VALKEY": "valkey", "S3": "s3", "NGINX": "nginx"}
APIS, WORKERS = ("api-1", "api-2"), ("worker-1", "worker-2")
#: nginx's default is 1 MiB.
LARGE = 3 * 1024 * 1024
#: Requests that are made until both apis have answered one of them.
TRIES = 60
#: A line of the format in deploy/scaled/nginx.conf.
LOGGED = re.compile(r'"(?P<method>\S+) (?P<path>\S+)" (?P<status>\d+) \d+ \S+ (?P<sent_to>.+) (?P<request>req_\w+|-)$')
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


class Scaled(Composed):
    """The project of two apis and two workers."""

    project = "runyard-scaled-test"
    options = ("-f", FILE)

    def __init__(self, daemon: Dockerd, folder: Path, base: str) -> None:
        super().__init__(daemon, folder, base, Service)
        self.environment |= {name: secrets.token_hex(32) for name in PASSWORDS}
        self.environment |= {f"{name}_IMAGE": part_image(daemon, base, part) for name, part in PARTS.items()}
        self.environment |= {"LANGUAGES": "bash,python", "MAX_RUNS": "8"}

    def build(self) -> None:
        """Build the images of this project by the compose file that has their recipes."""
        self.options = ()
        self.call("build", "worker", "api", "runner-bash", "runner-python")
        del self.options

    def healthy(self, *names: str) -> None:
        """Wait until the health checks of the file say so."""
        for name in names:
            until(lambda name=name: self.container(name)["State"]["Health"]["Status"] == "healthy", 90)

    def lines(self, name: str) -> list[str]:
        """What a service wrote, over all starts of its container."""
        (found,) = self.client.containers(all=True, filters={"label": f"com.docker.compose.service={name}"})
        return self.client.logs(found["Id"]).decode(errors="replace").splitlines()

    def requests(self) -> list[dict]:
        """All requests that nginx has answered: method, path, status, request, and the apis that it was sent to."""
        names = {self.container(name)["NetworkSettings"]["Networks"][f"{self.project}_front"]["IPAddress"]: name for name in self.running(*APIS)}
        found = [match.groupdict() for line in self.lines("nginx") if (match := LOGGED.search(line))]
        for one in found:
            addresses = [address.partition(":")[0] for address in one["sent_to"].split(", ")]
            one["sent_to"] = [names.get(address, address) for address in addresses]
        return found

    def running(self, *names: str) -> list[str]:
        found = self.client.containers(filters={"label": f"com.docker.compose.project={self.project}"})
        return [name for name in names if name in {one["Labels"]["com.docker.compose.service"] for one in found}]

    def answered_by(self, reply) -> str:
        """The api that answered."""
        wanted = reply.headers["x-request-id"]
        found = []

        def logged():
            found[:] = [one["sent_to"][-1] for one in self.requests() if one["request"] == wanted]
            return found

        until(logged, 10)
        return found[0]

    def by_each_api(self, call) -> dict:
        """Repeat a request until every running api has answered it; the replies by their names."""
        wanted, found = set(self.running(*APIS)), {}
        for _ in range(TRIES):
            reply = call()
            found[self.answered_by(reply)] = reply
            if set(found) == wanted:
                return found
        raise AssertionError(f"{set(found)} of {wanted} answered {TRIES} requests")

    def workers_of(self, runs: list[str]) -> dict[str, str]:
        """The worker that ended each run, by its own log."""
        found = {}
        for name in WORKERS:
            for line in self.lines(name):
                if '"run ended"' in line and (run := json.loads(line).get("run_id")) in runs:
                    assert run not in found, f"{run} ended twice"
                    found[run] = name
        return found

    def kill(self, name: str) -> None:
        """Kill it; its restart policy does not start it again after that."""
        self.client.kill(self.container(name)["Id"])
        until(lambda: not self.running(name), 10)

    def start(self, *names: str) -> None:
        self.call("start", *names)
        self.healthy(*names)

    def background(self, count: int, code: str, **fields) -> list[str]:
        """Runs in the background, all of them running."""
        runs = [self.service.submit("bash", code, **fields) for _ in range(count)]
        until(lambda: all(self.service.get(f"/v1/runs/{run}").body["status"] == "running" for run in runs), 30)
        return runs

    def left(self) -> dict[str, list]:
        """What the project, and its sandboxes, have on the daemon."""
        mine = {"label": f"com.docker.compose.project={self.project}"}
        return {
            "sandboxes": self.client.containers(all=True, filters={"label": "dev.runyard.instance"}),
            "containers": self.client.containers(all=True, filters=mine),
            "networks": self.client.networks(filters=mine),
            "volumes": self.client.volumes(filters=mine)["Volumes"],
        }


@pytest.fixture(scope="module")
def scaled():
    if shutil.which("docker-compose") is None or shutil.which("dockerd") is None:
        pytest.fail("this needs dockerd and docker-compose: make test-setup installs them")
    daemon = Dockerd(Path(f"{STATE}-compose"))
    try:
        with tempfile.TemporaryDirectory() as scratch:
            project = Scaled(daemon, stage(Path(scratch)), base_image(daemon, images_of(STATE)))
            project.call("down", "-v", "-t", "10")
            project.build()
            try:
                project.call("up", "-d", "--no-build")
                project.wait()
                yield project
            finally:
                project.call("down", "-v", "-t", "40")
    finally:
        for found in daemon.client.containers(all=True):
            daemon.client.remove_container(found["Id"], force=True, v=True)
        daemon.client.prune_images({"dangling": "true", "until": "168h"})
        daemon.rest()
