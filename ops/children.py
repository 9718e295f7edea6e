"""A process that the supervisor keeps: how it is started, when again, and how it is ended."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from dataclasses import dataclass

log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 30.0
#: One that lived this long has not failed to start; its next exit counts as the first.
SETTLED_S = 30.0


@dataclass(frozen=True, slots=True)
class Program:
    """A program to start. `restart_on_success` is False for one that ends by design, such as a build."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    restart_on_success: bool = True
    umask: int = 0o022
    longest_backoff_s: float = LONGEST_BACKOFF_S


class Child:
    """One program through its lives."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.restart_at: float | None = None
        self._backoff_s = FIRST_BACKOFF_S
        self._started_at = 0.0

    def start(self) -> None:
        """Start it in a session of its own, without the supervisor's blocked signals."""
        program = self.program
        self.restart_at = None
        self._started_at = time.monotonic()
        self.process = subprocess.Popen(
            program.argv,
            env=program.env,
            cwd="/",
            umask=program.umask,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_unblock_signals,  # noqa: PLW1509  # the supervisor has one thread
        )
        log.info("started", extra={"child": program.name, "pid": self.process.pid})

    def ended(self) -> int | None:
        """Return the exit status if the child has exited since the last call, else None."""
        if self.process is None:
            return None
        status = self.process.poll()
        if status is not None:
            self._sweep(self.process.pid)
            self.process = None
        return status

    def plan_restart(self, status: int) -> None:
        """Plan a restart after a wait that doubles with each quick exit."""
        name = self.program.name
        if status == 0 and not self.program.restart_on_success:
            log.info("done", extra={"child": name})
            return
        if time.monotonic() - self._started_at >= SETTLED_S:
            self._backoff_s = FIRST_BACKOFF_S
        self.restart_at = time.monotonic() + self._backoff_s
        log.error("ended", extra={"child": name, "status": status, "again_in_s": round(self._backoff_s, 1)})
        self._backoff_s = min(self._backoff_s * 2, self.program.longest_backoff_s)

    def stop(self, deadline: float) -> None:
        """Send SIGTERM, wait until `deadline` on the monotonic clock, then kill all that remains of the child."""
        self.restart_at = None
        process = self.process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.error(  # noqa: TRY400  # the traceback of the wait has no information
                "killed: it did not stop in time", extra={"child": self.program.name}
            )
            self._sweep(process.pid)
            process.wait()
        self._sweep(process.pid)
        self.process = None
        log.info("stopped", extra={"child": self.program.name, "status": process.returncode})

    @staticmethod
    def _sweep(leader: int) -> None:
        """Kill what is left of the child's session; its leader's pid is still its group's name."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
