"""From facts to a status. A run's facts are independent; its status is the first rule that applies."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from protocol.states import ENDED_STATUSES, Status


@dataclass(frozen=True, slots=True)
class ExitFacts:
    """The facts of a run's end, from the host; only `exit_code` and `signal_number` are from the agent.

    Those two are the agent's report, both None without one. `interrupted` means that the api that waited for
    the run crashed, which is the service's failure. `broken` means that the sandbox broke the protocol, that its
    agent was killed, or that it wrote too much where that ends it: caused by the program. `not_compiled` means that
    there was no program to run, and then the OOM kills are the compiler's.
    """

    exit_code: int | None = None
    signal_number: int | None = None
    timed_out: bool = False
    cancelled: bool = False
    interrupted: bool = False
    broken: bool = False
    oom_kills: int = 0
    not_compiled: bool = False


#: When each state is a run's, unless one that precedes it in the table of states is. Of `error` there is one cause
#: here; the service's other failures have no ending.
RULES: dict[Status, Callable[[ExitFacts], bool]] = {
    "cancelled": lambda ending: ending.cancelled,
    "error": lambda ending: ending.interrupted,
    "timeout": lambda ending: ending.timed_out,
    "oom": lambda ending: ending.oom_kills > 0 and _was_killed(ending),
    "killed": lambda ending: ending.broken,
    "failed": lambda ending: ending.not_compiled or ending.signal_number is not None or ending.exit_code != 0,
    "succeeded": lambda _: True,
}


def status_of(ending: ExitFacts) -> Status:
    """Return the status that the API derives from these facts."""
    return next(status for status in ENDED_STATUSES if RULES[status](ending))


def _was_killed(ending: ExitFacts) -> bool:
    return ending.broken or ending.not_compiled or ending.signal_number == signal.SIGKILL


def signal_name(number: int) -> str:
    """Return `SIGKILL` for 9; real-time signals, which have no name of their own, are `SIGRTMIN+n`."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}" if number > signal.SIGRTMIN else f"SIG{number}"
