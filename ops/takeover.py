"""The service that runs while another is to take its place: stopped, and started again if the other one fails."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from config.roles import role_of
from ops.down import stop
from ops.health import readiness
from ops.install import InstallError
from ops.record import ServiceRecord, read_record, record_of_process
from ops.staging import StagedCode
from ops.state import StatePlace, address

AGAIN = "The service runs again with its earlier settings and code."


class Starter(Protocol):
    """An object that starts a service: `ops.up.Up`."""

    def say(self, text: str) -> None: ...

    def start_supervisor(self, record: ServiceRecord) -> subprocess.Popen[bytes]: ...

    def wait_until_healthy(self, process: subprocess.Popen[bytes] | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Earlier:
    """The running service: its settings, the text of its `started.json`, and whether it is ready."""

    place: StatePlace
    record: ServiceRecord | None
    started: str
    was_ready: bool

    @classmethod
    def of(cls, place: StatePlace, following: ServiceRecord) -> Earlier:
        """Return the service that runs at `place` while `following` are the settings to come."""
        record = read_record(place.settings) or record_of_process(place, following.names)
        given = record.environment if record is not None else {}
        url = address(given.get("BIND") or "127.0.0.1", given.get("PORT") or "8080")
        was_ready = readiness(place, url, role_of(given))[0]
        with contextlib.suppress(OSError):
            return cls(place, record, place.started.read_text(), was_ready)
        return cls(place, record, "", was_ready)

    def stop(self, say: Callable[[str], None]) -> None:
        """Stop it by its own settings. Raises InstallError if something of it is left."""
        with self.record.adopted() if self.record is not None else contextlib.nullcontext():
            left = stop(self.place, say)
        if left:
            raise InstallError(f"the running service could not be stopped: {', '.join(left)}")

    @contextlib.contextmanager
    def brought_back(self, code: StagedCode, starter: Starter) -> Iterator[None]:
        """Start this service again if what is done meanwhile fails or is interrupted.

        Raises InstallError that names both.
        """
        try:
            yield
        except BaseException as e:
            if self.record is None:
                raise
            starter.say("the new service did not start: starting the earlier one again")
            failure = str(e) or "interrupted"
            try:
                self._start_again(code, starter)
            except InstallError as second:
                raise InstallError(f"{failure}\nThe earlier service could not be started again: {second}") from e
            raise InstallError(f"{failure}\n{AGAIN}") from e
        code.discard()

    def _start_again(self, code: StagedCode, starter: Starter) -> None:
        assert self.record is not None
        stop(self.place, starter.say)
        code.revert()
        self.record.adopt()
        os.environ["STATE_DIR"] = str(self.place.state_dir)
        process = starter.start_supervisor(self.record)
        self.place.started.write_text(self.started)
        if self.was_ready:
            starter.wait_until_healthy(process)
