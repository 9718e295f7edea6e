"""A Docker daemon of the bench's own, to compare with: its data, its socket and its image are gone afterwards.

The image is the runner image's root filesystem, so what is compared is how it is started. Containers get no
network, which is the cheaper way and what the service does too.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import bare, programs
from bench.sampling import Step
from ops import install
from sandbox.engines.oci.runsc import best_platform, known_flags, options_for
from sandbox.engines.runtimes import find_runtime

IMAGE = "runyard-bench"
UP_WITHIN_S = 60.0
DOWN_WITHIN_S = 60.0


class Docker:
    """The daemon's command line."""

    def __init__(self, socket: Path) -> None:
        self.host = f"unix://{socket}"
        self._command = ("docker", "--host", self.host)

    def step(self) -> Step:
        """A step that runs the hello in a fresh container and removes it."""
        argv = (*self._command, "run", "--rm", "--network=none", IMAGE, "python3", *programs.BARE[1:])
        return lambda: bare.start(argv)

    def answers(self) -> bool:
        """Whether the daemon is there."""
        done = subprocess.run([*self._command, "version"], capture_output=True, check=False)
        return done.returncode == 0

    def load(self, layers: Sequence[str]) -> None:
        """Make the image out of a runner image's layers, topmost first."""
        tar = "mount -t overlay -o lowerdir=$1 overlay $2 && exec tar -C $2 --xattrs -cf - ."
        with tempfile.TemporaryDirectory() as root:
            command = ["unshare", "--mount", "sh", "-c", tar, "tar", ":".join(layers), root]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as packing:
                subprocess.run(
                    [*self._command, "import", "-", IMAGE],
                    stdin=packing.stdout,
                    stdout=subprocess.DEVNULL,
                    check=True,
                )
            if packing.returncode != 0:
                raise RuntimeError("the image could not be packed")


@contextmanager
def running(layers: Sequence[str]) -> Iterator[Docker]:
    """A daemon with the image in it, installed if need be. Raises RuntimeError when there can be none."""
    if shutil.which("dockerd") is None:
        try:
            install.install_packages(["docker.io"])
        except install.InstallError as e:
            raise RuntimeError(str(e)) from e
    with tempfile.TemporaryDirectory(prefix="runyard-bench-docker-", dir="/var/lib") as folder:
        place = Path(folder)
        log = place / "log"
        (place / "daemon.json").write_text(json.dumps({"runtimes": _runtimes()}))
        with log.open("wb") as out, subprocess.Popen(_dockerd(place), stdout=out, stderr=out) as daemon:
            try:
                docker = Docker(place / "socket")
                _wait(docker, daemon, log)
                docker.load(layers)
                yield docker
            finally:
                _stop(daemon, place)


def _runtimes() -> dict[str, object]:
    """gVisor, where it is installed, beside what the daemon knows by itself."""
    path = find_runtime("runsc")
    if path is None:
        return {}
    known = known_flags()
    arguments = [f"--platform={best_platform(known)}", *options_for(known)]
    return {"runsc": {"path": path, "runtimeArgs": arguments}}


def _dockerd(place: Path) -> list[str]:
    """Nothing of the host is touched: no bridge, no packet filter, no forwarding."""
    return [
        "dockerd",
        f"--config-file={place}/daemon.json",
        f"--data-root={place}/data",
        f"--exec-root={place}/exec",
        f"--pidfile={place}/pid",
        f"--host=unix://{place}/socket",
        "--bridge=none",
        "--iptables=false",
        "--ip-forward=false",
        "--ip-masq=false",
        f"--cgroup-parent=/{IMAGE}",
    ]


def _wait(docker: Docker, daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + UP_WITHIN_S
    while not docker.answers():
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"no Docker daemon: {log.read_text(errors='replace')[-500:]}")
        time.sleep(0.2)


def _stop(daemon: subprocess.Popen[bytes], place: Path) -> None:
    daemon.terminate()
    try:
        daemon.wait(DOWN_WITHIN_S)
    except subprocess.TimeoutExpired:
        print("the Docker daemon does not stop: it is killed", file=sys.stderr)
        daemon.kill()
        daemon.wait()
    points = [line.split(" ")[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in reversed(points):
        if point.startswith(f"{place}/"):
            with contextlib.suppress(subprocess.CalledProcessError):
                subprocess.run(["umount", "-l", point], check=True)
    for group in (Path("/sys/fs/cgroup") / IMAGE, *Path("/sys/fs/cgroup").glob(f"*/{IMAGE}")):
        with contextlib.suppress(OSError):
            group.rmdir()
