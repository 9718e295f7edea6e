"""The end of a run as an exit code and as a sentence."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runyard.models import Run

#: As of timeout(1), of a shell for what a signal ended, and of docker for what it could not do itself.
TIMED_OUT = 124
SERVICE_FAILED = 125
CANCELLED = 130
KILLED = 137


def exit_code(run: Run) -> int:
    """Return the program's exit code, or a code of this command for the reason that there is none."""
    if run.status == "succeeded":
        return 0
    if run.status == "failed":
        return _failed(run)
    codes = {"timeout": TIMED_OUT, "oom": KILLED, "killed": KILLED, "cancelled": CANCELLED}
    return codes.get(run.status, SERVICE_FAILED)


def sentence(run: Run) -> str | None:
    """Explain an end that the exit code alone does not explain; None where there is nothing to add."""
    match run.status:
        case "timeout":
            return (
                f"timed out: the limits were {_limit(run, 'timeout_ms')} ms and {_limit(run, 'cpu_ms')} ms of CPU"
            )
        case "oom":
            return f"ran out of memory: the limit was {_limit(run, 'memory_mb')} MiB"
        case "killed":
            return "killed by the service"
        case "cancelled":
            return "cancelled"
        case "error":
            return (
                f"the service failed: {run.error.message} ({run.error.code})" if run.error else "the service failed"
            )
        case "failed" if run.signal is not None:
            return f"ended by {run.signal}"
        case "failed" if run.exit_code is None:
            return "compilation failed"
        case _:
            return None


def _failed(run: Run) -> int:
    if run.exit_code is not None:
        return run.exit_code
    if run.signal is not None:
        number = getattr(signal, run.signal, None)
        return 128 + number if isinstance(number, signal.Signals) else KILLED
    return (run.compile.exit_code if run.compile else None) or 1


def _limit(run: Run, name: str) -> object:
    return run.limits.get(name, "?")
