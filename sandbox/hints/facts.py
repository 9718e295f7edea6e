"""The facts of an ended run that hints are derived from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.limits import Limits
    from protocol.states import Status
    from sandbox.images import Image


def _unknown() -> None:
    return None


@dataclass(frozen=True, slots=True)
class HintFacts:
    """The facts of one run. Those that cost something are functions: most runs need none of them."""

    language: str
    status: Status
    limits: Limits
    stderr: str = ""
    #: The output of a compiler that failed; None if there was none, or it succeeded.
    compiler_output: str | None = None
    timed_out: bool = False
    oom_killed: bool = False
    wall_ms: int = 0
    has_network: bool = False
    in_session: bool = False
    #: The paths of the run's files beneath /work: those that came with it, and its artifacts.
    files: Callable[[], list[str]] = list
    image: Image | None = None
    #: The number of processes and threads that the kernel refused to the run; None where it is not known.
    refused_processes: Callable[[], int | None] = _unknown

    @property
    def needs_none(self) -> bool:
        """Return whether there is certainly no hint: the program succeeded and reported no error."""
        return self.status == "succeeded" and not self.stderr and not self.oom_killed
