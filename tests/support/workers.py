"""A worker process of the tests' own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from config.ids import new_id
from dispatch import WorkerUnavailable
from dispatch.unix import UnixDispatcher
from protocol.job import Job
from storage.layout import make_areas
from tests.support.slow_machine import TIME_FACTOR

REPO = Path(__file__).resolve().parents[2]


class Worker:
    """A worker process on images that the service has built."""

    def __init__(self, state: Path, images: Path, *, inside: str | None = None, **settings: str) -> None:
        """`inside` is a line of shell that is run before the worker, in a mount namespace that both share."""
        environment = {"PATH": os.environ["PATH"], "STATE_DIR": str(state), "IMAGES_DIR": str(images)}
        make_areas(state / "storage", int(settings.get("UID_BASE", 0x7000_0000)))
        self.state = state
        self.log = state / "worker.log"
        with open(self.log, "ab") as log:
            argv = [sys.executable, "-m", "worker"]
            if inside is not None:
                argv = ["unshare", "--mount", "sh", "-c", f'{inside} && exec "$@"', "sh", *argv]
            self.process = subprocess.Popen(argv, cwd=REPO, env=environment | settings, stdout=log, stderr=log)
        self.dispatcher = UnixDispatcher(state / "run" / "worker.sock")

    def wait_until_filled(self, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds * TIME_FACTOR
        pool: object = None
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                pool = self.dispatcher.status()["pool"]
            except WorkerUnavailable:
                time.sleep(0.05)
                continue
            if all(shelf["ready"] == shelf["size"] for shelf in pool.values()):
                return
            time.sleep(0.05)
        raise AssertionError(f"the pool does not fill: {pool}\n{self.log.read_text()[-4000:]}")

    def run(self, language="python", code="print(1)", key="test", client_fd=None, **fields):
        job = Job(run_id=new_id("run"), language=language, code=code, key=key, **fields)
        return self.dispatcher.run(job, client_fd=client_fd)

    def stop(self, how=signal.SIGTERM) -> int:
        self.dispatcher.close()
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(60)

    def end(self) -> None:
        """Kill it if it is still there, and remove what a killed one leaves: the empty parents of its groups."""
        self.stop(signal.SIGKILL)
        until(lambda: self.groups() == [])
        for parent in self.group_parents():
            parent.rmdir()

    def remove(self) -> None:
        """Remove what one that has ended leaves, and its state: if killed, the groups of its sandboxes too."""
        until(lambda: not self.sandbox_processes(), 20)
        for group in (*self.groups(), *self.group_parents()):
            group.rmdir()
        shutil.rmtree(self.state)

    @property
    def group_name(self) -> str:
        from sandbox.engines.confinement import instance_name

        return instance_name(self.state)

    def groups(self) -> list[Path]:
        """The cgroups of its sandboxes, in every hierarchy."""
        return [entry for parent in self.group_parents() for entry in parent.iterdir() if entry.is_dir()]

    def group_parents(self) -> list[Path]:
        root = Path("/sys/fs/cgroup")
        found = [*root.glob(f"*/{self.group_name}"), root / self.group_name]
        return [parent for parent in found if parent.is_dir() and not parent.is_symlink()]

    def run_groups(self) -> list[Path]:
        """Those of sandboxes that runs are given, not of the templates that these are forked from."""
        return [group for group in self.groups() if not group.name.startswith("template-")]

    def sandbox_processes(self) -> list[int]:
        """Host pids of everything that runs in its sandboxes, and in templates."""
        return self._processes_of(self.groups())

    def run_processes(self) -> list[int]:
        """Host pids of everything that runs in sandboxes that runs are given."""
        return self._processes_of(self.run_groups())

    @staticmethod
    def _processes_of(groups: list[Path]) -> list[int]:
        pids = set()
        for group in groups:
            try:
                pids.update(map(int, (group / "cgroup.procs").read_text().split()))
            except OSError:
                continue
        return sorted(pids)


def pids(service, what: str) -> list[int]:
    """The processes of a service's `api` (gunicorn's, all of them) or `worker`."""
    word = {"api": b"python:api.server.gunicorn_conf", "worker": b"worker"}[what]
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
                environment = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if word in words and f"STATE_DIR={service.state}".encode() in environment:
                found.append(int(name))
    # The worker's helper, which makes slots, is forked from it and has its words.
    return sorted(pid for pid in found if what != "worker" or _parent(pid) not in found)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def the_worker(service) -> int:
    """The worker of a service, without the process beside it, which is a child of the same command."""
    return the_first_of(pids(service, "worker"))


def the_first_of(found) -> int:
    """The process among these whose parent is none of them."""
    found = set(found)
    (first,) = [pid for pid in found if _parent(pid) not in found]
    return first


def _parent(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("PPid:"))


def until(condition, seconds=10.0):
    """Wait for something that comes by itself."""
    deadline = time.monotonic() + seconds * TIME_FACTOR
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)
