"""A compose file of this project on a Docker daemon of the tests' own: its images, its services, and what they leave.

The daemon's data are kept beside the state directory, so that an image is built once for the same inputs.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops.images.debian import HOST_CERTIFICATES, host_sources
from ops.images.inputs import BuildInputs
from tests.support.dockerd import Dockerd

REPO = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 180
#: The account of the api in its image, deploy/docker/Dockerfile.
API_UID = 1879048192
#: The settings file as docs/compose.md mounts it.
IN_CONTAINER = "/var/lib/runyard/runyard.toml"
ADMIN_TOKEN = "admin_of_the_settings_file"
OVERRIDE = f"""
services:
  api:
    volumes: [./runyard.toml:{IN_CONTAINER}:ro]
  worker:
    volumes: [./runyard.toml:{IN_CONTAINER}:ro]
"""
#: Where apt's mirrors are named, in the archive of the base: builds outside of Docker mount their own.
LIST = "./etc/apt/sources.list"
#: Of `left`, after a project.
NOTHING: dict[str, list] = {"sandboxes": [], "containers": [], "networks": [], "volumes": []}
NEEDS_DOCKER = pytest.mark.skipif(
    "docker" not in os.environ.get("RUNYARD_TEST_COLUMNS", "docker"),
    reason="RUNYARD_TEST_COLUMNS leaves out docker",
)


class Composed:
    """The project, and the service that it is."""

    project = "runyard-test"
    #: Of docker-compose, before its command.
    options: tuple[str, ...] = ()

    def __init__(self, daemon: Dockerd, folder: Path, base: str, face: type) -> None:
        """`face` is the class of the fixture `service`: the service as a client sees it."""
        self.client = daemon.client
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "DOCKER_HOST": daemon.host,
            "COMPOSE_DOCKER_CLI_BUILD": "0",
            "DOCKER_SOCKET": daemon.host.removeprefix("unix://"),
            "BASE": base,
            "BUILD_NETWORK": "host",
            "PORT": str(port),
            "LANGUAGES": "bash",
            "API_KEYS": "dev_123:dev:1000:1000",
            "SIGNING_KEY": secrets.token_hex(32),
        }
        self.service = face("127.0.0.1", port, folder)

    def call(self, *arguments: str, without: str | None = None, check: bool = True) -> str:
        environment = {name: value for name, value in self.environment.items() if name != without}
        done = subprocess.run(
            ["docker-compose", *self.options, "-p", self.project, *arguments],
            cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=900, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def container(self, name: str) -> dict:
        found = self.client.containers(filters={"label": f"com.docker.compose.service={name}"})
        assert len(found) == 1, found
        return self.client.inspect_container(found[0]["Id"])

    def inside(self, name: str, command: str) -> tuple[int, str]:
        """The exit status and the output of a command in a running container."""
        started = self.client.exec_create(self.container(name)["Id"], ["sh", "-c", command])
        output = self.client.exec_start(started).decode()
        return self.client.exec_inspect(started)["ExitCode"], output

    def left(self) -> dict[str, list]:
        """What the project, and its sandboxes, have on the daemon."""
        mine = {"label": f"com.docker.compose.project={self.project}"}
        return {
            "sandboxes": self.client.containers(all=True, filters={"label": "dev.runyard.instance"}),
            "containers": self.client.containers(all=True, filters=mine),
            "networks": self.client.networks(filters=mine),
            "volumes": self.client.volumes(filters=mine)["Volumes"] or [],
        }

    def wait(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.service.url}/readyz", timeout=10) as reply:
                    assert reply.status == 200
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if time.monotonic() > deadline:
                    pytest.fail(self.call("logs", "--tail=60", check=False))
                time.sleep(0.5)


@contextmanager
def compose_daemon(state: Path) -> Iterator[Dockerd]:
    """A daemon for one project, which leaves no container; its images are kept for a week."""
    if shutil.which("docker-compose") is None or shutil.which("dockerd") is None:
        pytest.fail("this needs dockerd and docker-compose: make test-setup installs them")
    daemon = Dockerd(Path(f"{state}-compose"))
    try:
        yield daemon
    finally:
        for found in daemon.client.containers(all=True):
            daemon.client.remove_container(found["Id"], force=True, v=True)
        daemon.client.prune_images({"dangling": "true", "until": "168h"})
        daemon.rest()


def stage(folder: Path) -> Path:
    """The files that the images are made of, with the certificates of this host, in a folder of its own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=REPO, capture_output=True,
        check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.decode().split("\0")):
        if (REPO / name).is_file() and not name.startswith(("tests/", "bench/", "docs/", "clients/", "web/node")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPO / name, folder / name)
    certificates = Path(os.environ.get("SSL_CERT_FILE") or HOST_CERTIFICATES)
    shutil.copy(certificates, folder / "deploy/docker/certificates/host.crt")
    (folder / "docker-compose.override.yml").write_text(OVERRIDE)
    settings = folder / "runyard.toml"
    settings.write_text(f'admin_token = "{ADMIN_TOKEN}"\nmax_sessions = 1\n')
    settings.chmod(0o400)
    os.chown(settings, API_UID, API_UID)
    return folder


def base_image(daemon: Dockerd, images: Path) -> str:
    """What mmdebstrap made for the runners, as the base that a registry would give; imported once."""
    base = images / f"base-{BuildInputs(REPO / 'runners').base_key()}"
    name = f"runyard-test/{base.name}"
    if daemon.client.images(name):
        return name
    with tempfile.TemporaryDirectory() as scratch:
        sources = Path(scratch) / "sources.list"
        sources.write_text(host_sources())
        with tarfile.open(f"{scratch}/base.tar", "w") as archive:
            archive.add(base / "rootfs", arcname=".", filter=lambda entry: None if entry.name == LIST else entry)
            archive.add(sources, arcname=LIST)
        daemon.client.import_image(f"{scratch}/base.tar", repository=name)
    return name
