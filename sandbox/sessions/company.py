"""Find out if a run in a session had its sandbox to itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.sessions.stream import SessionStream


class RunCompany:
    """Watches from a run's beginning whether anything but its own processes runs in the sandbox."""

    def __init__(self, stream: SessionStream) -> None:
        self._stream = stream
        self._started_before = stream.started_processes
        self._own = 0
        self._is_shared = False

    def about_to_start(self) -> None:
        """Note that the run is about to start a process of its own: anything else that lives now is company."""
        if self._own == 0:
            self._is_shared = self._stream.has_processes
        self._own += 1

    def look(self, *, others: bool) -> None:
        """Note what lives beside a cell, whose kernel counts as its own; `others`: cells of other contexts run."""
        self._is_shared = self._is_shared or others or self._stream.has_processes

    @property
    def is_shared(self) -> bool:
        """Return whether something else ran, at the start or since then."""
        return self._is_shared or self._stream.started_processes - self._started_before > self._own
