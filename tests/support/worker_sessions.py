"""Sessions at a worker, without api, for the tests of engines."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dispatch.sessions import UnixSessions
from protocol.job import Job
from protocol.result import Refusal
from protocol.session import DEFAULT_DISK_MB, DEFAULT_LIMITS, SessionSpec

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
KEY = "test"


class WorkerSession:
    """One session. Each of its calls fails the test if the worker refuses."""

    def __init__(self, dispatcher: Any, language: str, **fields: Any) -> None:
        """`fields` are those of SessionSpec."""
        self.id = "sess_" + "".join(secrets.choice(ALPHABET) for _ in range(26))
        self.language = language
        self.worker = UnixSessions(dispatcher._path)
        self._dispatcher = dispatcher
        limits = DEFAULT_LIMITS | {"disk_mb": DEFAULT_DISK_MB}
        # The lines of packages come before the facts; there are none here.
        *_, made = self.worker.create(SessionSpec(self.id, language, KEY, limits, **fields))
        granted(made)

    def run(self, code: str, **fields: Any) -> dict[str, Any]:
        """Run code in it, to its end."""
        job = Job(f"run_{secrets.token_hex(12)}", self.language, code=code, key=KEY, session=self.id, **fields)
        return granted(self._dispatcher.run(job))

    def ask(self, do: str, answer: str, **fields: Any) -> Any:
        """Ask something of it."""
        return granted(self.worker.ask(do, self.id, KEY, answer, **fields))

    def start(self, *argv: str, **fields: Any) -> dict[str, Any]:
        """Start a process."""
        return self.ask("start", "process", process={"argv": list(argv), **fields})

    def bash(self, line: str) -> None:
        """Run a line of bash, which must succeed."""
        ended = self.ask("process", "process", p=self.start("bash", "-c", line)["id"], wait_s=30)
        assert ended["exit_code"] == 0, ended

    def facts(self) -> dict[str, Any]:
        """Return what the worker says of it, which wakes nothing."""
        found = self.worker.facts(self.id)
        assert found is not None
        return found

    def end(self) -> None:
        """End it."""
        self.worker.end(self.id, KEY, "deleted")


@contextmanager
def opened(dispatcher: Any, language: str = "bash", **fields: Any) -> Iterator[WorkerSession]:
    """A session for a `with` block."""
    session = WorkerSession(dispatcher, language, **fields)
    try:
        yield session
    finally:
        session.end()


def granted(found: Any) -> Any:
    """Return an answer that is no refusal."""
    assert not isinstance(found, Refusal), found
    return found
