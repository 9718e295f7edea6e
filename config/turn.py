"""The turn of a thread to use the interpreter, and how it is given up around a wait.

The HTTP server bounds how many of its threads work at the same time. A thread that is about to wait, for another
process or for a client, calls `waiting()`: its turn goes to another request meanwhile. Without a turn the call
has no effect.
"""

from __future__ import annotations

import threading
from typing import Protocol


class Turn(Protocol):
    """The right of a thread to work. Both calls are idempotent."""

    def leave(self) -> None:
        """Give the turn to the next waiting request."""
        ...

    def enter(self) -> None:
        """Wait until it is this thread's turn again."""
        ...


class _Held(threading.local):
    turn: Turn | None = None


class _Waiting:
    """The context manager of `waiting`; it keeps nothing of its own, so one serves every thread."""

    __slots__ = ()

    def __enter__(self) -> None:
        if (turn := _held.turn) is not None:
            turn.leave()

    def __exit__(self, *_: object) -> None:
        if (turn := _held.turn) is not None:
            turn.enter()


_held = _Held()
_waiting = _Waiting()


def hold(turn: Turn | None) -> None:
    """Note the turn of this thread; None when it has none any more."""
    _held.turn = turn


def waiting() -> _Waiting:
    """Return a context manager that gives up this thread's turn inside, and takes it again at its end."""
    return _waiting
