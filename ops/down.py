"""`make down`: stop the service and see that nothing of it is left. Works on a broken installation too."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from ops.containers import containers, remove
from ops.install import InstallError
from ops.installed import installed_services, runs_as_units, systemctl
from ops.settings import use_service_settings
from ops.state import StatePlace, cgroups, mounts, processes, service_lock, supervisor_pid
from ops.version import asked

#: The supervisor's own bound is DRAIN_S + 5 + 3; then everything is killed.
STOP_MARGIN_S = 16.0
DEFAULT_DRAIN_S = 10.0
KILL_WITHIN_S = 10.0
POLL_S = 0.05

Say = Callable[[str], None]


def stop(place: StatePlace, say: Say) -> list[str]:
    """Stop the service. Returns what remains of it, as sentences; normally nothing."""
    pid = supervisor_pid(place)
    if pid is not None:
        say(f"stopping the supervisor ({pid})")
        _signal(pid, signal.SIGTERM)
        _until(lambda: pid not in processes(place), _drain_s() + STOP_MARGIN_S)
    if processes(place):
        say("killing processes that did not stop")
        _until(lambda: not _kill(place), KILL_WITHIN_S)
    _until(lambda: not _remove_containers(place), KILL_WITHIN_S)
    for point in mounts(place):
        subprocess.run(["umount", "-l", point], capture_output=True, check=False)
    _until(lambda: not _remove_cgroups(place), KILL_WITHIN_S)
    for path in (place.pid_file, place.started, place.settings):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
    return left_over(place)


def left_over(place: StatePlace) -> list[str]:
    """List the remains of a stopped service."""
    return [
        *(f"process {pid}" for pid in processes(place)),
        *(f"container {name[:12]}" for name in containers(place)),
        *(f"mount {point}" for point in mounts(place)),
        *(f"control group {folder}" for folder in cgroups(place)),
    ]


def _kill(place: StatePlace) -> list[int]:
    """Kill everything of the service; what was alive."""
    alive = processes(place)
    for pid in alive:
        _signal(pid, signal.SIGKILL)
    return alive


def _remove_containers(place: StatePlace) -> list[str]:
    for name in containers(place):
        remove(name)
    return containers(place)


def _remove_cgroups(place: StatePlace) -> list[str]:
    for folder in cgroups(place):
        with contextlib.suppress(OSError):
            folder.rmdir()
    return [str(folder) for folder in cgroups(place)]


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _until(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _drain_s() -> float:
    try:
        return float(os.environ.get("DRAIN_S") or DEFAULT_DRAIN_S)
    except ValueError:
        return DEFAULT_DRAIN_S


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Stop the service. Returns 0 when nothing of it remains."""
    if asked():
        return 0
    if os.geteuid() != 0:
        print("make down: must be run as root", file=sys.stderr)
        return 1
    try:
        # A file that cannot be used must not keep anybody from stopping.
        use_service_settings(on_problem=lambda problem: _say(f"the settings file is not used: {problem}"))
    except InstallError as e:
        print(f"make down: {e}", file=sys.stderr)
        return 1
    place = StatePlace.of_environment()
    with service_lock(place, _say):
        as_units = runs_as_units(place)
        if as_units:
            _say("stopping the systemd units")
            systemctl("stop", *reversed(installed_services()))
        left = stop(place, _say)
    if left:
        print("make down: could not remove: " + ", ".join(left), file=sys.stderr)
        return 1
    print(f"The service in {place.state_dir} is stopped.")
    if as_units:
        print("It starts again at boot or with make install. To remove it: make uninstall.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
