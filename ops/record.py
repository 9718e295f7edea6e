"""The settings of a running service, recorded at its start for the commands of `make`. Standard library only.

The file is root's alone (0600), because it holds secrets. It is there from the start to the stop of a service, and
survives the supervisor that was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from config.variables import find_other
from ops.state import StatePlace, supervisor_pid


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """The variables of a service: its settings, and what libraries read."""

    environment: dict[str, str]
    #: The settings file, and the names that were read from it.
    file: str | None
    from_file: list[str]
    #: The names of all settings that the service knows.
    names: list[str]

    def write(self, path: Path) -> None:
        """Write for root alone, in one step."""
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            json.dump(asdict(self), file)
        new.replace(path)

    def adopt(self) -> None:
        """Make these variables those of this process, and remove other settings from its environment."""
        for name in list(os.environ):
            if name.upper() in self.names or find_other(name) is not None:
                del os.environ[name]
        os.environ.update(self.environment)

    @contextlib.contextmanager
    def adopted(self) -> Iterator[None]:
        """Have these variables in this process for a while."""
        before = dict(os.environ)
        self.adopt()
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def read_record(path: Path) -> ServiceRecord | None:
    """Return what was recorded; None if nothing was, or this process may not read it."""
    try:
        return parse_record(path.read_text())
    except (OSError, ValueError):
        return None


def parse_record(text: str) -> ServiceRecord:
    """Parse what `ServiceRecord.write` and `ops.effective` write. Raises ValueError."""
    found = json.loads(text)
    try:
        return ServiceRecord(**{name: found[name] for name in ServiceRecord.__slots__})
    except (KeyError, TypeError) as e:
        raise ValueError("not a record of settings") from e


def record_of_process(place: StatePlace, names: list[str]) -> ServiceRecord | None:
    """Return the settings of a supervisor that has recorded none, from its environment; None if none runs."""
    pid = supervisor_pid(place)
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="surrogateescape")
    except OSError:
        return None
    given = dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)
    kept = {name: value for name, value in given.items() if name.upper() in names or find_other(name) is not None}
    return ServiceRecord(kept, None, [], names)
