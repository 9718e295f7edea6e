"""Builds of layers under way: one for all simultaneous requests of a layer, and a few at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from sandbox.layers.facts import LayerFacts

BUILDS_AT_A_TIME = 2
#: The most lines of a build that a request gets which joins it late: the last ones.
MAX_LINES_HELD = 200

OnOutput = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BuildName:
    """A layer that is wanted. The key is part of it: before the end nobody knows if the layer can be shared."""

    key: str
    image: str
    request: tuple[str, ...]


class BuildTooLate(Exception):
    """The build has not ended in the time of the request; it may go on for another."""


@dataclass(slots=True, eq=False)
class _Build:
    end: Future[LayerFacts] = field(default_factory=Future)
    lines: list[str] = field(default_factory=list)
    listeners: list[OnOutput] = field(default_factory=list)


class LayerBuilds:
    """Starts builds and lets requests join them. Safe for threads; a build runs on the thread that asked first."""

    def __init__(self, at_a_time: int = BUILDS_AT_A_TIME) -> None:
        self._turns = threading.BoundedSemaphore(at_a_time)
        self._lock = threading.Lock()
        self._builds: dict[BuildName, _Build] = {}

    def build(
        self, name: BuildName, make: Callable[[OnOutput], LayerFacts], on_output: OnOutput, patience_s: float
    ) -> LayerFacts:
        """Return the layer that `make` builds, or that the same build under way does.

        A failed build fails every request that waits for it, with its own exception. A later request
        builds again. `on_output` must neither raise nor block: it is called for every request in turn.
        Raises BuildTooLate when there is no turn, or no end of another's build, in `patience_s`.
        """
        with self._lock:
            under_way = self._builds.get(name)
            if under_way is None:
                build = self._builds[name] = _Build(listeners=[on_output])
            else:
                # Within the lock, so that no line is lost or comes twice.
                for line in under_way.lines:
                    on_output(line)
                under_way.listeners.append(on_output)
        if under_way is None:
            return self._lead(name, build, make, patience_s)
        try:
            return under_way.end.result(patience_s)
        except TimeoutError as e:
            if under_way.end.done():
                raise
            raise BuildTooLate(f"the packages were not ready within {patience_s:g} s") from e
        finally:
            with self._lock:
                under_way.listeners.remove(on_output)

    def _lead(
        self, name: BuildName, build: _Build, make: Callable[[OnOutput], LayerFacts], patience_s: float
    ) -> LayerFacts:
        try:
            self._take_turn(patience_s)
            try:
                made = make(lambda line: self._tell(build, line))
            finally:
                self._turns.release()
        except BaseException as e:
            self._forget(name)
            build.end.set_exception(e)
            raise
        self._forget(name)
        build.end.set_result(made)
        return made

    def _take_turn(self, patience_s: float) -> None:
        if not self._turns.acquire(timeout=patience_s):
            raise BuildTooLate(f"no build of packages could start within {patience_s:g} s")

    def _tell(self, build: _Build, line: str) -> None:
        with self._lock:
            build.lines = [*build.lines, line][-MAX_LINES_HELD:]
            for listener in build.listeners:
                listener(line)

    def _forget(self, name: BuildName) -> None:
        with self._lock:
            del self._builds[name]
