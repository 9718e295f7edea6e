"""The settings of the units: read as root from /etc/runyard at each start of one, and handed to it by systemd.

A unit's `EnvironmentFile` is `STATE_DIR/run/UNIT.env`, root's alone, which systemd reads after `ExecStartPre` has
written it. So the api, which has no right to read the files, gets its variables and no others.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from config.environment import SETTINGS, environment_of
from config.settings import Settings, SettingsError, load_settings
from config.settings_file import LayeredSettings, apply_file
from config.variables import Reader, find_other
from ops import installed
from ops.record import ServiceRecord, read_record
from ops.state import StatePlace

#: The variables of each unit are those that these read. `prepare` stands for the supervisor.
READERS: dict[str, Reader] = {
    "prepare": "ops",
    "worker": "worker",
    "api": "api",
    "egress": "egress",
    "images": "images",
}


def write_unit_settings(unit: str) -> None:
    """Write the variables that a unit reads, and record the settings. Raises SettingsError or OSError.

    Settings that are not valid do not take the service down: it starts with those of its last start.
    """
    place = StatePlace.of_environment()
    forget_settings()
    record = read_record(place.state_dir / installed.HELD)
    if record is None:
        try:
            layered, settings = read_files(place)
            record = record_of(layered)
        except SettingsError as e:
            record = read_record(place.settings)
            if record is None:
                raise
            print(f"{e}\nThe settings are not valid: those of the last start are used", file=sys.stderr)
            forget_settings()
            settings = _use(record)
    else:
        settings = _use(record)
    place.make()
    record.write(place.settings)
    _write(place.run / f"{unit}.env", environment_of(READERS[unit], settings, record.environment))


def _use(record: ServiceRecord) -> Settings:
    """Make recorded settings those of this process."""
    os.environ.update(record.environment)
    return load_settings()


def forget_settings(*, of_builder: bool = True) -> None:
    """Remove from this process all variables that the files may give: systemd has read those of the last start.

    Without `of_builder` the settings of the access to packages stay, such as a proxy.
    """
    for name in list(os.environ):
        facts = find_other(name)
        is_other = facts is not None and (of_builder or "images" not in facts.readers)
        if (name.upper() in SETTINGS and name.upper() != "STATE_DIR") or is_other:
            del os.environ[name]


def read_files(place: StatePlace) -> tuple[LayeredSettings, Settings]:
    """Return the settings in /etc/runyard, and make them this process's: those of the file `environment` over those
    of `runyard.toml`. Raises SettingsError.
    """
    try:
        text = installed.SETTINGS.read_text()
    except FileNotFoundError:
        text = ""
    except (OSError, ValueError) as e:
        raise SettingsError(f"{installed.SETTINGS}: cannot be read: {e}") from e
    os.environ.update(installed.read_settings(text))
    os.environ.setdefault("STATE_DIR", str(place.state_dir))
    return apply_file(installed.SETTINGS.parent)


def record_of(layered: LayeredSettings) -> ServiceRecord:
    """Return the record of the settings."""
    kept = {n: v for n, v in layered.environment.items() if n in SETTINGS or find_other(n) is not None}
    file = None if layered.file is None else str(layered.file)
    return ServiceRecord(kept, file, sorted(layered.from_file), sorted(SETTINGS))


def _write(path: Path, environment: dict[str, str]) -> None:
    """Write variables as systemd reads them; see systemd.exec(5), EnvironmentFile."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.writelines(f"{name}={quoted(value)}\n" for name, value in sorted(environment.items()))
    new.replace(path)


def quoted(value: str) -> str:
    """Return a value in double quotes, where systemd reads a backslash before each of these four characters."""
    return '"' + "".join(f"\\{c}" if c in '"\\`$' else c for c in value) + '"'
