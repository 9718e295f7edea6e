"""Put an ended run into the few fields that services without stages answer with."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any

#: Of a program that ended neither by itself nor by a signal, such as one that was never started.
NO_EXIT_CODE = -1
#: Of a compiler that was killed.
_COMPILER_FAILED = 1


@dataclass(frozen=True, slots=True)
class FlatResult:
    """The outcome of a program, in which a compiler that failed counts as the program."""

    stdout: str
    stderr: str
    #: As a shell has it: 128 and the signal's number for a program that was killed.
    exit_code: int
    timed_out: bool
    #: Of the program alone.
    wall_ms: int

    @classmethod
    def of(cls, document: dict[str, Any]) -> FlatResult:
        """Return the result of a run's document."""
        timed_out = document["status"] == "timeout"
        wall_ms = document["usage"]["wall_ms"]
        compiler = document["compile"]
        if compiler is not None and compiler["exit_code"] != 0:
            said = compiler["stdout"] + compiler["stderr"] + document["stderr"]
            code = compiler["exit_code"]
            return cls(document["stdout"], said, _COMPILER_FAILED if code is None else code, timed_out, wall_ms)
        return cls(document["stdout"], document["stderr"], _exit_code(document), timed_out, wall_ms)


def _exit_code(document: dict[str, Any]) -> int:
    code, name = document["exit_code"], document["signal"]
    if code is not None:
        return int(code)
    number = getattr(signal, name, None) if name else None
    return NO_EXIT_CODE if number is None else 128 + int(number)
