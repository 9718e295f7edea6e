"""Loops that take samples, and what is said of the samples."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException

#: A call that is timed; it returns the seconds it took.
Step = Callable[[], float]
#: Calls of a step before its samples, and of each block of `alternated`.
ALTERNATED_WARM_UP, ALTERNATED_BLOCK = 2, 5
#: What a step may fail with: refused, broken off, not understood. Counted, never hidden.
FAILURES = (RuntimeError, OSError, HTTPException, ValueError)


@dataclass(slots=True)
class Samples:
    """Seconds of each call that succeeded, and how many did not."""

    seconds: list[float] = field(default_factory=list)
    errors: int = 0

    def take(self, step: Step) -> None:
        """One more."""
        try:
            self.seconds.append(step())
        except FAILURES:
            self.errors += 1

    def ms(self, share: float) -> float | None:
        """The value in milliseconds below which `share` of the samples lie; None without any."""
        return round(percentile(self.seconds, share) * 1000, 2) if self.seconds else None


@dataclass(frozen=True, slots=True)
class Rate:
    """Calls a second of several loops together, how long each call took, and the calls that failed."""

    per_s: float
    samples: Samples


def percentile(samples: list[float], share: float) -> float:
    """The value below which `share` of the samples lie."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def ratio(ours: float | None, yardstick: float | None, digits: int = 2) -> float | None:
    """`ours` in units of the yardstick; None where one of them was not measured."""
    return round(ours / yardstick, digits) if ours is not None and yardstick else None


def paced(into: Samples, count: int, gap_s: float, step: Step) -> None:
    """`count` calls of `step`, each after an idle time of `gap_s`."""
    for _ in range(count):
        if gap_s:
            time.sleep(gap_s)
        into.take(step)


def alternated(
    steps: Mapping[str, Step], count: int, gap_s: float, settle: Callable[[], None]
) -> dict[str, Samples]:
    """About `count` samples of each step after an idle time, in blocks that alternate, `settle` before each."""
    found = {name: Samples() for name in steps}
    for step in steps.values():
        paced(Samples(), ALTERNATED_WARM_UP, gap_s, step)
    for _ in range(-(-count // ALTERNATED_BLOCK)):
        for name, step in steps.items():
            settle()
            paced(found[name], ALTERNATED_BLOCK, gap_s, step)
    return found


def sustained(clients: int, seconds: float, step_of: Callable[[], Step]) -> Rate:
    """`clients` loops without a pause, each over a `step_of()` of its own, for a time.

    A loop's first call is not counted: it connects. The clock runs until the last loop has its answer.
    """
    found = [Samples() for _ in range(clients)]
    ready = threading.Barrier(clients + 1)

    def loop(samples: Samples) -> None:
        step = step_of()
        Samples().take(step)
        ready.wait()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            samples.take(step)

    threads = [threading.Thread(target=loop, args=(samples,)) for samples in found]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    whole = Samples([second for samples in found for second in samples.seconds], sum(s.errors for s in found))
    return Rate(round(len(whole.seconds) / took, 1), whole)
