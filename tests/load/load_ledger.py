"""What became of every client's turns."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle

from tests.load.load_http import Refused, Target

Turn = Callable[[Target], None]
#: Wrong answers that are remembered word by word.
KEPT = 20
#: A refused client comes again no later than this: it is a test and has no hour to wait.
PATIENCE_S = 2.0


@dataclass
class Ledger:
    """Counts by kind of client. Safe for many threads."""

    right: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, turn: Turn, target: Target) -> float:
        """Let a client have its turn and write down how it went; the seconds it should then wait."""
        kind = turn.__name__
        try:
            turn(target)
        except Refused as e:
            with self._lock:
                self.refused[kind] += 1
            return min(e.after_s, PATIENCE_S)
        except Exception as e:  # noqa: BLE001  # a client that stumbles over an answer has found something as well
            with self._lock:
                if len(self.wrong) < KEPT:
                    self.wrong.append(f"{kind}: {e!r}")
            return 0.1
        with self._lock:
            self.right[kind] += 1
        return 0.0

    def share(self, kinds: tuple[Turn, ...]) -> float:
        """Of these clients' turns, how many were not refused."""
        right = sum(self.right[kind.__name__] for kind in kinds)
        return right / max(1, right + sum(self.refused[kind.__name__] for kind in kinds))

    def table(self) -> str:
        """Kind, turns that went right, turns refused."""
        kinds = sorted(self.right | self.refused)
        return "\n".join(f"{kind:20}{self.right[kind]:>8}{self.refused[kind]:>8}" for kind in kinds)


class Load:
    """Threads that let clients have their turns, over and over."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, turns: tuple[Turn, ...], target: Target, pause_s: float) -> None:
        """One more thread: its clients in turn, in an order of its own, with a pause between them."""
        order = cycle(target.rng.sample(turns, len(turns)))

        def go() -> None:
            while not self._stop.is_set():
                wait_s = self._ledger.take(next(order), target)
                self._stop.wait(pause_s + wait_s)

        self._threads.append(threading.Thread(target=go))

    def run(self, seconds: float) -> None:
        """Let them go for a time, or until something is badly wrong; then wait for the turns under way."""
        for thread in self._threads:
            thread.start()
        deadline = time.monotonic() + seconds
        try:
            while time.monotonic() < deadline and len(self._ledger.wrong) < KEPT:
                time.sleep(0.5)
        finally:
            self._stop.set()
        for thread in self._threads:
            thread.join()
