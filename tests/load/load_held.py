"""What a service holds: memory, threads, descriptors, mounts, control groups, processes, files."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatch.unix import UnixDispatcher
from ops.state import StatePlace, cgroups, mounts, processes
from sandbox.engines.oci.templates.container import TEMPLATE_PREFIX

MIB = 1024 * 1024
QUIET_WITHIN_S, REST_WITHIN_S = 20.0, 60.0


@dataclass(frozen=True)
class Part:
    """What one part of the service (its processes together) holds."""

    processes: int
    threads: int
    descriptors: int
    memory_mb: int


@dataclass(frozen=True)
class Held:
    """What all of it holds, at rest."""

    api: Part
    worker: Part
    #: What must be the same to the last one, without what is of templates.
    exact: dict[str, int]
    #: One that was replaced is there until the last sandbox that it has forked is gone.
    templates: int


def settle(place: StatePlace) -> dict[str, Any]:
    """Wait until nothing runs or waits and the pool is full; the worker's status. AssertionError if it never is.

    Nothing runs soon: what its client has left does not go on to its own end.
    """
    dispatcher = UnixDispatcher(place.run / "worker.sock")

    def quiet() -> bool:
        return not any(dispatcher.status()["queue"].values())

    try:
        until(quiet, lambda: f"runs go on: {dispatcher.status()['queue']}", QUIET_WITHIN_S)
        until(
            lambda: _at_rest(place, dispatcher.status()), lambda: f"it does not come to rest: {dispatcher.status()}"
        )
        time.sleep(2)  # what is freed behind the last answer
        return dispatcher.status()
    finally:
        dispatcher.close()


def _at_rest(place: StatePlace, status: dict[str, Any]) -> bool:
    full = all(shelf["ready"] == shelf["size"] for shelf in status["pool"].values())
    wanted = sum(shelf["size"] for shelf in status["pool"].values())
    return full and not any(status["queue"].values()) and len(_groups(place, templates=False)) == wanted


def held(place: StatePlace) -> Held:
    """Look, from outside."""
    templates = {pid for folder in cgroups(place) if _is_of_template(folder) for pid in _pids(folder)}
    inside = {pid for folder in cgroups(place) for pid in _pids(folder)} - templates
    alive = [pid for pid in processes(place) if pid not in inside | templates]
    parts = {name: [pid for pid in alive if mark in _argv(pid)] for name, mark in MARKS.items()}
    # Its helper, which makes slots, is forked from it and has its words.
    (worker,) = (pid for pid in parts["worker"] if _parent(pid) not in parts["worker"])
    return Held(
        api=_part(parts["api"]),
        worker=_part(parts["worker"]),
        exact={
            "sandboxes": len(_groups(place, templates=False)),
            "processes of the service": len(alive),
            "processes in sandboxes": len(inside),
            "children of the worker": len([pid for pid in _children(worker) if int(pid) not in templates]),
            "mounts of the worker": _mounts(worker, place),
            "mounts of the host": len(mounts(place)),
            "files at run time": _files(f"/proc/{worker}/root{place.run}"),
        },
        templates=len(_groups(place, templates=True)),
    )


#: What a part's processes are started as.
MARKS = {"api": b"gunicorn", "worker": b"worker"}


def _part(pids: list[int]) -> Part:
    return Part(
        processes=len(pids),
        threads=sum(len(os.listdir(f"/proc/{pid}/task")) for pid in pids),
        descriptors=sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids),
        memory_mb=sum(_anonymous_bytes(pid) for pid in pids) // MIB,
    )


def _anonymous_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon:"))


def _groups(place: StatePlace, *, templates: bool) -> list[Path]:
    """The control groups of templates, or those of sandboxes: one of each, and the one for memory."""
    found = [
        folder for folder in cgroups(place) if folder.parent.name == place.instance and "memory" in folder.parts
    ]
    return [folder for folder in found if _is_of_template(folder) == templates]


def _is_of_template(path: Path | str) -> bool:
    return any(part.startswith(TEMPLATE_PREFIX) for part in Path(path).parts)


def _mounts(pid: int, place: StatePlace) -> int:
    """Mounts of the service as a process of it sees them; those of others come and go."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    points = [line.split(" ")[4] for line in lines]
    return sum(point.startswith(str(place.state_dir)) and not _is_of_template(point) for point in points)


def _files(place: str) -> int:
    """Directories and files of the service and its sandboxes, but not what is in the sandboxes' own roots."""
    found = 0
    for _, folders, files in os.walk(place):
        folders[:] = [name for name in folders if not _is_of_template(name)]
        found += len(folders) + len(files)
        folders[:] = [name for name in folders if name != "root"]
    return found


def _children(pid: int) -> list[str]:
    return [child for task in os.listdir(f"/proc/{pid}/task") for child in _children_of(pid, task)]


def _children_of(pid: int, task: str) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/task/{task}/children").read_text().split()
    return []


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _argv(pid: int) -> list[bytes]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return []


def _pids(folder: Path) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]
    return []


def until(condition: Callable[[], bool], said: Callable[[], str], seconds: float = REST_WITHIN_S) -> None:
    """Wait for something that comes by itself."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, said()
        time.sleep(0.1)
