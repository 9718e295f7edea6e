"""The way this machine's service runs: under its own supervisor (make up), or as systemd's units (make install).

Standard library only.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from config.roles import ALL, ROLES, Role
from ops.state import DEFAULT_STATE_DIR, StatePlace, is_running

SYSTEMD = Path("/run/systemd/system")
UNIT_FOLDER = Path("/etc/systemd/system")
SETTINGS = Path("/etc/runyard/environment")
#: In STATE_DIR: the settings to go on with after a failed `make install`, until one succeeds.
HELD = "held-settings.json"
#: In the order in which they start.
UNITS = ("runyard-prepare", "runyard-egress", "runyard-worker", "runyard-api", "runyard-images")
SERVICES = tuple(f"{name}.service" for name in UNITS)
#: The units of a part of the service; `runyard-prepare` belongs to both.
API_UNITS = ("runyard-prepare", "runyard-api")
WORKER_UNITS = ("runyard-prepare", "runyard-egress", "runyard-worker", "runyard-images")
#: DRAIN_S may be 600.
SYSTEMCTL_S = 700
GONE = frozenset({None, "inactive", "failed", "unknown"})


def has_systemd() -> bool:
    """Return whether systemd runs this machine, see sd_booted(3)."""
    return SYSTEMD.is_dir()


def is_installed() -> bool:
    """Return whether the units are installed, of any role."""
    return has_systemd() and bool(installed_units())


def installed_units() -> list[str]:
    """Return the units that are installed, in the order in which they start."""
    return [name for name in UNITS if (UNIT_FOLDER / f"{name}.service").exists()]


def services_of(role: Role) -> tuple[str, ...]:
    """Return the files of a role's units, in the order in which they start."""
    wanted = {*(API_UNITS if role.has_api else ()), *(WORKER_UNITS if role.has_worker else ())}
    return tuple(f"{name}.service" for name in UNITS if name in wanted)


def installed_role() -> Role:
    """Return the role whose units are installed."""
    units = installed_units()
    return next((role for role in ROLES.values() if services_of(role) == _files(units)), ALL)


def _files(units: list[str]) -> tuple[str, ...]:
    return tuple(f"{name}.service" for name in units)


def installed_services() -> tuple[str, ...]:
    """Return the files of the units that are installed, in the order in which they start."""
    return _files(installed_units())


def systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemctl, and leave its exit status to the caller."""
    return subprocess.run(
        ["systemctl", *arguments], capture_output=True, text=True, timeout=SYSTEMCTL_S, check=False
    )


def unit_states() -> dict[str, str]:
    """Return each unit's state as systemctl has it (`active`, `failed`, …); empty where they are not installed."""
    if not is_installed():
        return {}
    names = installed_units()
    return {name: systemctl("is-active", f"{name}.service").stdout.strip() or "unknown" for name in names}


def runs_as_units(place: StatePlace) -> bool:
    """Return whether the service of `place` is the one that systemd runs."""
    if place.state_dir != Path(DEFAULT_STATE_DIR).resolve():
        return False
    states = unit_states()
    # While systemd starts one again it is neither active nor gone.
    return any(states.get(name) not in GONE for name in ("runyard-worker", "runyard-api"))


def runs(place: StatePlace) -> bool:
    """Return whether the service of `place` runs, with or without systemd."""
    return is_running(place) or runs_as_units(place)


def read_settings(text: str) -> dict[str, str]:
    """Read the file of settings as systemd does: NAME=value, comments, quotes; see systemd.exec(5)."""
    found = {}
    for line in text.splitlines():
        name, is_setting, value = line.strip().partition("=")
        if not is_setting or name.startswith(("#", ";")):
            continue
        try:
            found[name.strip()] = " ".join(shlex.split(value))
        except ValueError:  # a quote that is not closed: systemd takes the line as it is
            found[name.strip()] = value
    return found
