"""Whether sandboxes can be made, by language: counted wherever one is made, for readiness and for operators.

A single failure may be a machine under load, and is tried again; the second in a row counts. One success ends it.
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
    """Failures in a row of one language. `words` are the engine's own of the last one: never for a client.

    `since` is when the first of them was, as RFC 3339.
    """

    words: str
    times: int
    since: str


class Availability:
    """What became of the last attempts to make sandboxes. Safe to use from several threads."""

    def __init__(self, clock: Callable[[], str] = now) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._made: set[str] = set()
        self._failures: dict[str, Failure] = {}

    def succeeded(self, language: str) -> None:
        """Note a sandbox that started and was measured."""
        if language in self._made and language not in self._failures:
            return  # the ordinary case, before each run: no lock
        with self._lock:
            self._made.add(language)
            self._failures.pop(language, None)

    def failed(self, language: str, words: str) -> None:
        """Note an attempt that came to nothing."""
        with self._lock:
            known = self._failures.get(language)
            if known is None:
                self._failures[language] = Failure(words, 1, self._clock())
            else:
                self._failures[language] = replace(known, words=words, times=known.times + 1)

    def failing(self) -> dict[str, Failure]:
        """Return the languages whose sandboxes cannot be made, each with its failures."""
        with self._lock:
            return {name: found for name, found in self._failures.items() if found.times >= FAILING_FROM}

    def is_usable(self) -> bool:
        """Whether a sandbox of some language has started, and that language's can still be made."""
        failing = self.failing()
        with self._lock:
            return bool(self._made - failing.keys())
