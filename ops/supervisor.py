"""`python -m ops.supervisor`: keep a worker, an api, an egress process where one is needed, and a builder.

A machine whose ROLE is `api` or `worker` has that part alone, and a worker its egress process and builder.
Children are started and stopped in order, within a bound: the worker goes first, so that api is there to record
the ends of the runs it drains and to answer those who wait for them. One that dies is started again after
a wait that grows; a worker or an api that exits with 78 cannot work with this configuration, so everything stops.
Between events the process sleeps in sigtimedwait: it costs nothing while nothing happens.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from contextlib import suppress

from api.keys.plans import load_plans
from api.packages.patterns_file import load_patterns
from config.environment import secrets_in
from config.logging import setup
from config.settings import Settings, SettingsError, load_settings, unused_variables
from ops import host, programs
from ops.children import Child
from ops.state import StatePlace, directory_problem, take_lock
from storage.errors import StorageMisconfigured
from storage.layout import make_areas

EX_CONFIG = 78
EX_ALREADY = 75
#: Beyond the time that runs in hand are given: to end the others, and to have all of them recorded.
STOP_MARGIN_S = 8.0
#: However long the worker took, the others have this long: nothing they wait for is left.
OTHERS_STOP_S = 3.0
#: Without one of these that belongs to its role, the service is none.
SERVING = frozenset({"worker", "api"})
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
WAITED_FOR = STOP_SIGNALS | {signal.SIGCHLD, signal.SIGHUP}

log = logging.getLogger("supervisor")
audit = logging.getLogger("audit")


class Supervisor:
    """The children in the order of their start."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._children = [Child(program) for program in programs.of_role(settings)]

    def run(self) -> int:
        """Start everything, keep it, stop everything; the exit status."""
        try:
            for child in self._children:
                child.start()
            return self._keep()
        finally:
            self._stop()

    def _keep(self) -> int:
        while True:
            if self._wait() in STOP_SIGNALS:
                log.info("received a stop signal")
                return 0
            for child in self._children:
                status = child.ended()
                if status == EX_CONFIG and child.program.name in SERVING:
                    log.critical("the %s cannot work with this configuration: everything stops", child.program.name)
                    return EX_CONFIG
                if status is not None:
                    child.plan_restart(status)
            for child in self._children:
                if child.restart_at is not None and child.restart_at <= time.monotonic():
                    child.start()

    def _wait(self) -> int | None:
        """Wait for the next signal. Returns None when a restart is due."""
        due = [child.restart_at for child in self._children if child.restart_at is not None]
        if not due:
            return signal.sigwait(WAITED_FOR)
        found = signal.sigtimedwait(WAITED_FOR, max(0.0, min(due) - time.monotonic()))
        return found.si_signo if found else None

    def _stop(self) -> None:
        for child in self._children:
            allowed_s = self._settings.drain_s + STOP_MARGIN_S if child.program.name == "worker" else OTHERS_STOP_S
            child.stop(time.monotonic() + allowed_s)


def main() -> int:
    """Validate, claim the state directory, prepare the host, run."""
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITED_FOR)
    try:
        settings = load_settings()
    except SettingsError as e:
        print(str(e).replace("; ", "\n"), file=sys.stderr)
        return EX_CONFIG
    problem = _problem(settings)
    if problem:
        print(problem, file=sys.stderr)
        return EX_CONFIG
    return _serve(settings)


def _serve(settings: Settings) -> int:
    os.umask(0o022)
    setup("supervisor", settings.log_level, secrets_in(os.environ))
    place = StatePlace(settings.state_dir.resolve())
    make_directories(place, settings)
    lock = take_lock(place)
    if lock is None:
        log.error("another supervisor runs with this STATE_DIR")
        return EX_ALREADY
    try:
        make_areas(settings.storage, settings.api_uid)
    except (StorageMisconfigured, OSError) as e:
        log.critical("%s", e)
        lock.close()
        return EX_CONFIG
    place.pid_file.write_text(f"{os.getpid()}\n")
    for name in unused_variables():
        log.warning("%s is set and has no effect: there is no shared directory", name)
    if settings.parts.has_worker:
        host.prepare()
    audit.info(
        "service.start", extra={"event": "service.start", "role": settings.role, "settings": _names_set(settings)}
    )
    try:
        return Supervisor(settings).run()
    finally:
        with suppress(FileNotFoundError):
            place.pid_file.unlink()
        audit.info("service.stop", extra={"event": "service.stop"})
        lock.close()


def make_directories(place: StatePlace, settings: Settings) -> None:
    """Create the directories of this machine's role."""
    place.make(settings.api_uid if settings.parts.has_api else None)
    if settings.parts.has_worker:
        place.make_egress(settings.egress_uid)


def _names_set(settings: Settings) -> list[str]:
    """List the names of the settings that differ from their defaults, without values, which may be secrets."""
    return sorted(name.upper() for name in settings.model_fields_set)


def _problem(settings: Settings) -> str | None:
    if os.geteuid() != 0:
        return "the service must be started as root: it creates namespaces and control groups"
    try:
        if settings.parts.has_api:
            load_plans(settings)
            load_patterns(settings)
    except SettingsError as e:
        return str(e)
    return directory_problem(settings.state_dir)


if __name__ == "__main__":
    sys.exit(main())
