"""Runs steps on a machine, keeps each one's output, and prints a table."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.vm.machine import Machine
from tests.vm.steps import Step

OK, FAILED = "ok", "FAILED"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step went. `reason` is empty for one that went well."""

    step: str
    seconds: float
    reason: str

    @property
    def is_good(self) -> bool:
        """Whether the step did and showed all that it must."""
        return not self.reason


class Report:
    """The steps of one machine, in order. `factor` is how much slower it is than this one.

    Limits of time are multiplied by `factor`, and by `patience`: the host may be busier later than it was at the start.
    """

    def __init__(self, folder: Path, patience: float, factor: float = 1.0) -> None:
        """`folder` takes a log for each step."""
        self._folder = folder
        self.patience = patience
        self.factor = factor
        self.outcomes: list[Outcome] = []

    @property
    def is_good(self) -> bool:
        """Whether every step so far went well."""
        return all(outcome.is_good for outcome in self.outcomes)

    def run(self, machine: Machine, step: Step) -> bool:
        """Run one step, and return whether it went well."""
        _say(f"{step.name} …")
        log = self._folder / f"{len(self.outcomes):02}-{re.sub(r'[^a-z0-9]+', '-', step.name.lower())}.log"
        began = time.monotonic()
        with log.open("wb") as out:
            done = machine.run(step.command, timeout_s=step.seconds * self.factor * self.patience, out=out)
        text = log.read_text(errors="replace")
        return self._note(step.name, began, _reason(step, done.returncode, text, log))

    def attempt(self, name: str, action: Callable[[], object]) -> bool:
        """Run what is not a line of shell, and return whether it went well. `action` raises Exception if not."""
        _say(f"{name} …")
        began = time.monotonic()
        try:
            action()
        except Exception as e:  # noqa: BLE001  # the table says what it was, the other steps are still tried
            return self._note(name, began, f"{type(e).__name__}: {e}")
        return self._note(name, began, "")

    def _note(self, name: str, began: float, reason: str) -> bool:
        outcome = Outcome(name, time.monotonic() - began, reason)
        self.outcomes.append(outcome)
        _say(f"{name}: {reason or OK} ({outcome.seconds:.0f} s)")
        return outcome.is_good

    def table(self) -> str:
        """Return the table, one line a step."""
        width = max((len(outcome.step) for outcome in self.outcomes), default=0)
        lines = [
            f"{outcome.step:<{width}}  {outcome.seconds:7.0f} s  {OK if outcome.is_good else FAILED} {outcome.reason}"
            for outcome in self.outcomes
        ]
        return "\n".join(lines)


def _reason(step: Step, code: int, text: str, log: Path) -> str:
    """Return why a step did not go well, empty if it did."""
    if code == 124:
        return f"took longer than its bound: {log}"
    if step.code is not None and code != step.code:
        return f"ended with {code} instead of {step.code}: {log}"
    missing = [words for words in step.shows if not re.search(words, text)]
    if missing:
        return f"does not show {missing}: {log}"
    unwanted = [words for words in step.hides if re.search(words, text)]
    return f"shows {unwanted}: {log}" if unwanted else ""


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)
