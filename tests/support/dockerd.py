"""A Docker daemon of the tests' own: its data, socket and pid file lie in one directory, and it has no network."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import docker

from sandbox.engines.oci.runsc import best_platform, known_flags, options_for
from sandbox.engines.runtimes import find_runtime

STARTED_WITHIN_S = 30


class Dockerd:
    """A running dockerd beneath `place` that knows these runtimes beside its own runc."""

    def __init__(self, place: Path, runtimes: tuple[str, ...] = ("runsc", "crun")) -> None:
        self.place = place
        self.host = f"unix://{place}/docker.sock"
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
        platform = best_platform(known_flags())
        runsc = {
            "path": find_runtime("runsc"),
            "runtimeArgs": [f"--platform={platform}", *options_for(known_flags())],
        }
        known = {"runsc": runsc, "crun": {"path": find_runtime("crun")}}
        (place / "daemon.json").write_text(json.dumps({"runtimes": {name: known[name] for name in runtimes}}))
        self.start()

    def start(self) -> None:
        argv = ["dockerd", "--config-file", f"{self.place}/daemon.json", "--data-root", f"{self.place}/data"]
        argv += ["--exec-root", f"{self.place}/exec", "--pidfile", f"{self.place}/docker.pid", "--host", self.host]
        argv += ["--iptables=false", "--ip-masq=false", "--bridge=none", "--storage-driver=overlay2"]
        with open(self.place / "log", "ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + STARTED_WITHIN_S
        while not self._answers():
            assert self.process.poll() is None, (self.place / "log").read_text()[-4000:]
            assert time.monotonic() < deadline, "dockerd does not start"
            time.sleep(0.1)
        self.client = docker.APIClient(self.host, version="auto", timeout=20)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self.host.removeprefix("unix://")) == 0

    def stop(self) -> None:
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    def remove(self) -> None:
        """Stop, and leave nothing."""
        self.rest()
        shutil.rmtree(self.place)

    def rest(self) -> None:
        """Stop, and leave its data, but nothing mounted."""
        self.stop()
        mounts = [line.split(" ")[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for point in reversed(mounts):
            if point.startswith(f"{self.place}/"):
                subprocess.run(["umount", "-l", point], check=True)
