"""The directories of a service, and its live processes. Standard library only."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

DEFAULT_STATE_DIR = "/var/lib/runyard"
CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class StatePlace:
    """The paths beneath `STATE_DIR` that `make` and the supervisor agree upon."""

    state_dir: Path

    @classmethod
    def of_environment(cls) -> StatePlace:
        """Make a StatePlace from `STATE_DIR` in this process's environment."""
        return cls(Path(os.environ.get("STATE_DIR") or DEFAULT_STATE_DIR).resolve())

    @property
    def images(self) -> Path:
        return Path(os.environ.get("IMAGES_DIR") or self.state_dir / "images")

    @property
    def venv(self) -> Path:
        return self.state_dir / "venv"

    @property
    def python(self) -> Path:
        """Return the path of the installed service's interpreter, which identifies its processes."""
        return self.venv / "bin/python"

    @property
    def run(self) -> Path:
        return self.state_dir / "run"

    @property
    def log(self) -> Path:
        return self.state_dir / "log/service.log"

    @property
    def lock(self) -> Path:
        return self.run / "supervisor.lock"

    @property
    def pid_file(self) -> Path:
        return self.run / "supervisor.pid"

    @property
    def started(self) -> Path:
        """Return the path of the record of the running service: address, and digests of code and settings."""
        return self.run / "started.json"

    @property
    def settings(self) -> Path:
        """Return the path of the settings that the service was started with (`ops.record`), for root only."""
        return self.run / "settings.json"

    @property
    def instance(self) -> str:
        """Return the name of this service's cgroups, as the engine creates it."""
        return "runyard-" + hashlib.sha256(str(self.state_dir).encode()).hexdigest()[:8]

    def make(self, api_uid: int | None = None) -> None:
        """Create the directories that are missing, each with its owner and mode."""
        modes = {".": 0o755, "run": 0o755, "log": 0o700, "images": 0o755}
        for name, mode in modes.items():
            path = self.state_dir / name
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(mode)
        if api_uid is not None:
            for name in ("api", "db"):
                own = self.state_dir / name
                own.mkdir(exist_ok=True)
                os.chown(own, api_uid, api_uid)
                own.chmod(0o700)

    def make_egress(self, uid: int) -> None:
        """Create the directory of the egress process's socket, which it and root alone may enter."""
        own = self.run / "egress"
        own.mkdir(exist_ok=True)
        os.chown(own, uid, uid)
        own.chmod(0o700)


def address(bind: str, port: str) -> str:
    """Return the URL of a service that listens there, as this machine reaches it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(bind, bind)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{port}"


def directory_problem(state_dir: Path) -> str | None:
    """Explain in a sentence why a service cannot use this directory; None if it can."""
    if not state_dir.is_absolute():
        return f"STATE_DIR: {state_dir} must be an absolute path"
    for folder in (*reversed(state_dir.parents), state_dir):
        if folder.exists() and not folder.is_dir():
            return f"STATE_DIR: {folder} is not a directory"
        if folder.exists() and not folder.stat().st_mode & 0o001:
            return f"STATE_DIR: {folder} is not accessible to the account of the api (chmod o+x {folder})"
    return None


@contextlib.contextmanager
def service_lock(place: StatePlace, waits: Callable[[str], None]) -> Iterator[None]:
    """Hold the exclusive right to start or stop the service; `waits` is called if another process holds it."""
    try:
        fd = os.open(place.state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):  # no service was ever started here
        yield
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits("waiting for another make up or make down of this service to finish")
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def take_lock(place: StatePlace) -> IO[str] | None:
    """Take the lock that a supervisor holds until it exits; None if another process holds it."""
    file = place.lock.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def is_running(place: StatePlace) -> bool:
    """Return whether a supervisor holds the lock. A pid file alone could name any process."""
    if not place.lock.exists():
        return False
    file = take_lock(place)
    if file is None:
        return True
    file.close()
    return False


def supervisor_pid(place: StatePlace) -> int | None:
    """Return the pid of the running supervisor."""
    with contextlib.suppress(OSError, ValueError):
        if is_running(place):
            return int(place.pid_file.read_text())
    return None


def running_places() -> list[StatePlace]:
    """Return the places of all services on this machine that a supervisor of root runs."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        argv = _argv(entry)
        program, suffix = os.fsdecode(argv[0]) if argv else "", "/venv/bin/python"
        if b"ops.supervisor" not in argv or not program.endswith(suffix) or not _is_roots(entry):
            continue
        place = StatePlace(Path(program.removesuffix(suffix)))
        if supervisor_pid(place) == int(entry.name):
            found.append(place)
    return sorted(found, key=lambda place: place.state_dir)


def _is_roots(entry: Path) -> bool:
    with contextlib.suppress(OSError):
        lines = (entry / "status").read_text().splitlines()
        return any(line.split()[:2] == ["Uid:", "0"] for line in lines)
    return False


def processes(place: StatePlace) -> list[int]:
    """List the live processes of the service: started by its interpreter, or inside its cgroups."""
    marks = {str(place.python).encode(), str(place.venv / "bin/python3").encode()}
    found = {
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and int(entry.name) != os.getpid() and marks & set(_argv(entry))
    }
    for folder in cgroups(place):
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in (folder / "cgroup.procs").read_text().split()}
    return sorted(found)


def cgroups(place: StatePlace) -> list[Path]:
    """List the directories of this service's control groups, the deepest first."""
    parents = [p for p in (CGROUP_ROOT / place.instance, *CGROUP_ROOT.glob(f"*/{place.instance}")) if p.is_dir()]
    # os.walk, as it passes over directories that vanish under it: sandboxes come and go.
    found = [Path(folder) for parent in parents for folder, _, _ in os.walk(parent)]
    return sorted(set(found), key=lambda folder: (-len(folder.parts), str(folder)))


def mounts(place: StatePlace) -> list[str]:
    """List the mount points beneath the service's run directory and image store, the last mounted first."""
    roots = (f"{place.run}/", f"{place.images}/")
    points = [line.split(" ")[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [point for point in reversed(points) if point.startswith(roots)]


def _argv(entry: Path) -> list[bytes]:
    with contextlib.suppress(OSError):
        return (entry / "cmdline").read_bytes().split(b"\0")
    return []
