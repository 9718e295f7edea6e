"""The versions of OCI runtimes that this service's tests have run on, and how an installed one compares.

Standard library only: `make doctor` reads it before anything is installed.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

#: Oldest and newest version that the whole suite, or the suite on stock machines, has run on (docs/testing.md).
TESTED: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "crun": ((1, 8), (1, 28)),
    "runc": ((1, 1), (1, 3)),
}
VERSION = re.compile(r"version (\d+)\.(\d+)(?:\.(\d+))?")
ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class RuntimeVersion:
    """A runtime's version. `text` is the first line of its --version, `problem` is empty for a tested version.

    `number` has three parts, or none where the version is not known. `features` are those that crun lists.
    """

    text: str
    problem: str
    number: tuple[int, ...] = ()
    features: frozenset[str] = frozenset()

    @property
    def is_tested(self) -> bool:
        """Return whether the version is between the oldest and the newest tested one."""
        return not self.problem


def read_version(name: str, path: str) -> RuntimeVersion:
    """Ask the binary at `path` for its version, and compare it with those that were tested."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        return RuntimeVersion("no answer", f"{path} --version does not answer: {e}")
    return compare(name, done.stdout)


def compare(name: str, answer: str) -> RuntimeVersion:
    """Compare the answer to --version with the tested versions of the runtime `name`."""
    first = answer.partition("\n")[0].strip()
    features = frozenset(word for line in answer.splitlines() if line.startswith("+") for word in line.split())
    if name not in TESTED:
        return RuntimeVersion(first, "", features=features)
    found = VERSION.search(first)
    if found is None:
        return RuntimeVersion(first or "nothing", f"{name} --version does not name a version", features=features)
    oldest, newest = TESTED[name]
    number = tuple(int(part or 0) for part in found.groups())
    span = f"tested are {'.'.join(map(str, oldest))} to {'.'.join(map(str, newest))}"
    problem = ""
    if number[:2] < oldest:
        problem = f"older than every tested version: {span}"
    elif number[:2] > newest:
        problem = f"newer than every tested version: {span}"
    return RuntimeVersion(first, problem, number, features)
