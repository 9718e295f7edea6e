"""Track whether sandboxes can be made, by language: for readiness and for operators.

A single failure may be a machine under load, and is tried again; the second in a row counts. One success ends it.
The counters are named by language, or `LANGUAGE/WAY` if sandboxes are also made in another way: each way has its
own counter, because one may work where another does not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from config.clock import now

#: Failures in a row, from which on a language's sandboxes cannot be made.
FAILING_FROM = 2


@dataclass(frozen=True, slots=True)
class Failure:
    """Failures in a row under one name. `words` is the engine's message of the last one: never sent to a client.

    `since` is when the first of them was, as RFC 3339.
    """

    words: str
    times: int
    since: str


class Availability:
    """The outcome of recent attempts to make sandboxes. Safe to use from several threads."""

    def __init__(self, clock: Callable[[], str] = now) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._made: set[str] = set()
        self._failures: dict[str, Failure] = {}

    def succeeded(self, name: str) -> int:
        """Note a sandbox that started and was measured. Returns how many failures in a row it ends."""
        if name in self._made and name not in self._failures:
            return 0  # the ordinary case, before each run: no lock
        with self._lock:
            self._made.add(name)
            ended = self._failures.pop(name, None)
        return ended.times if ended is not None else 0

    def failed(self, name: str, words: str) -> None:
        """Note an attempt that came to nothing."""
        with self._lock:
            known = self._failures.get(name)
            if known is None:
                self._failures[name] = Failure(words, 1, self._clock())
            else:
                self._failures[name] = replace(known, words=words, times=known.times + 1)

    def is_doubtful(self, name: str) -> bool:
        """Return whether to make a sandbox as a test: the last attempt failed, or the language has had none."""
        return name in self._failures or (name not in self._made and not _is_way(name))

    def failing(self) -> dict[str, Failure]:
        """Return what cannot be made, each with its failures. A language that fails stands for all of its ways."""
        with self._lock:
            found = {name: one for name, one in self._failures.items() if one.times >= FAILING_FROM}
        return {name: one for name, one in found.items() if not (_is_way(name) and language_of(name) in found)}

    def is_usable(self) -> bool:
        """Return whether a sandbox of some language has started and can still be made."""
        failing = self.failing()
        with self._lock:
            return any(name not in failing for name in self._made if not _is_way(name))


def language_of(name: str) -> str:
    """Return the language of what is counted under a name."""
    return name.partition("/")[0]


def _is_way(name: str) -> bool:
    return "/" in name
