"""Both stores, each with the means to spoil, age and count what it keeps; S3 is a server process of our own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from functools import cache, cached_property
from pathlib import Path
from urllib.request import urlopen

import boto3
import pytest
from botocore.config import Config

from storage.local import LocalReader, LocalStore
from storage.s3 import S3Location, S3Reader, S3Store, connect

START_S = 60


class LocalRig:
    """An area in a directory of ours."""

    kind = "local"

    def __init__(self, area: Path) -> None:
        area.mkdir(mode=0o700)
        self.area = area
        self.store = LocalStore(area)
        self.reader = LocalReader(area)

    def path(self, sha256: str) -> Path:
        return self.area / "blobs" / sha256[:2] / sha256

    def spoil(self, sha256: str, data: bytes) -> None:
        """Other bytes under the hash."""
        self.path(sha256).write_bytes(data)

    def remove(self, sha256: str) -> None:
        self.path(sha256).unlink()

    def everything(self) -> list[str]:
        """All files: blobs, and what is on its way to become one."""
        return sorted(path.name for path in self.area.rglob("*") if path.is_file())

    def close(self) -> None:
        self.store.close()
        self.reader.close()


class S3Rig:
    """An area in a bucket of its own."""

    kind = "s3"

    def __init__(
        self, server: S3Server, spool: Path, addressing: str = "path", prefix: str = "up/uploads/"
    ) -> None:
        self.bucket = f"b-{uuid.uuid4().hex[:12]}"
        self.admin = server.admin
        self.admin.create_bucket(Bucket=self.bucket)
        self.place = S3Location(server.connection(addressing), self.bucket, prefix)
        self.store = S3Store(self.place, spool)
        self.reader = S3Reader(self.place)
        self.spool = spool

    def key(self, sha256: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.place.prefix + sha256}

    def spoil(self, sha256: str, data: bytes) -> None:
        self.admin.put_object(**self.key(sha256), Body=data)

    def remove(self, sha256: str) -> None:
        self.admin.delete_object(**self.key(sha256))

    def everything(self) -> list[str]:
        found = self.admin.list_objects_v2(Bucket=self.bucket).get("Contents", ())
        uploads = self.admin.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())
        waiting = [path.name for path in self.spool.iterdir()]
        return sorted([entry["Key"].rpartition("/")[2] for entry in found] + waiting + [u["Key"] for u in uploads])

    def close(self) -> None:
        """Clients are the server's."""


class S3Server:
    """moto's server, a process of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                pytest.fail("moto's server does not start")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            urlopen(f"http://127.0.0.1:{self.port}/moto-api/", timeout=5).close()
        except OSError:
            return False
        return True

    @cached_property
    def admin(self):
        """A client of the tests' own."""
        return boto3.session.Session().client(
            "s3", endpoint_url=self.url, config=Config(s3={"addressing_style": "path"})
        )

    @cache  # noqa: B019  # there is one server
    def connection(self, addressing: str):
        """The client under test; making one takes a second."""
        return connect(self.url, addressing)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session", autouse=True)
def names_of_this_machine():
    """`bucket.localhost` is this machine, whatever resolver it has."""
    known = socket.getaddrinfo

    def lookup(host, *arguments, **named):
        return known("127.0.0.1" if str(host).endswith(".localhost") else host, *arguments, **named)

    socket.getaddrinfo = lookup
    yield
    socket.getaddrinfo = known


@pytest.fixture(scope="session")
def s3_server():
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("AWS_")}
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    # No file of whoever runs the tests.
    os.environ |= {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
    server = S3Server()
    yield server
    server.stop()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= before


@pytest.fixture
def local(tmp_path):
    rig = LocalRig(tmp_path / "area")
    yield rig
    rig.close()


@pytest.fixture
def s3(s3_server, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    rig = S3Rig(s3_server, spool)
    yield rig
    rig.close()


@pytest.fixture(params=["local", "s3"])
def rig(request):
    """Each store in turn: what is tested with it holds for both."""
    return request.getfixturevalue(request.param)
