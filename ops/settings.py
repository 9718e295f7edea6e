"""Find the settings that a command of `make` works with. Standard library only.

`make up` and `make install` use those of the caller's environment with the settings file beneath; the other
commands those of the running service, as it has recorded them. The file is read by the service's own interpreter
(`ops.effective`), which has the settings table and a parser of YAML.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from config.other_names import add_settings_of_other_names
from ops import install
from ops.environment import clean
from ops.install import InstallError
from ops.installed import SETTINGS, is_installed, read_settings, runs
from ops.record import ServiceRecord, parse_record, read_record
from ops.state import DEFAULT_STATE_DIR, StatePlace, running_places

FILES = ("runyard.toml", "runyard.yaml", "runyard.yml")


def say(text: str) -> None:
    """Write to stderr."""
    print(text, file=sys.stderr, flush=True)


def folder_of(place: StatePlace) -> Path:
    """Return the folder of the settings file: /etc/runyard for the service that is installed, else STATE_DIR."""
    is_default = place.state_dir == Path(DEFAULT_STATE_DIR).resolve()
    return SETTINGS.parent if is_default and is_installed() else place.state_dir


def has_file(folder: Path) -> bool:
    """Return whether the folder has a settings file."""
    return any(os.path.lexists(folder / name) for name in FILES)


def resolve(
    python: Path,
    place: StatePlace,
    *,
    check: bool = False,
    folder: Path | None = None,
    installed_files: bool = False,
) -> ServiceRecord:
    """Return the settings of this process's environment with the file of `folder` beneath, which is by default that
    of the service; with `installed_files` those of the files in /etc/runyard alone. Warnings go to stderr.

    With `check`, whether a service can start with them is tried too. Raises InstallError naming each problem.
    """
    folder = folder or folder_of(place)
    runyard_env = "production" if folder == SETTINGS.parent else "development"
    argv = [str(python), "-P", "-s", "-m", "ops.effective", str(folder), "--runyard-env", runyard_env]
    environment = {**clean(), "STATE_DIR": str(place.state_dir)}
    argv += [*(["--check"] if check else []), *(["--installed"] if installed_files else [])]
    done = subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InstallError(done.stderr.strip())
    if done.stderr and not check:
        say(done.stderr.strip())
    try:
        return parse_record(done.stdout)
    except ValueError as e:
        raise InstallError("the settings could not be read (the installed code is of another version)") from e


def choose_place() -> StatePlace:
    """Return the place that STATE_DIR names. If it is unset: the default one if a service is installed or runs
    there, else that of the only service that runs. Raises InstallError if several run elsewhere.
    """
    default = StatePlace.of_environment()
    if os.environ.get("STATE_DIR") or is_installed() or runs(default):
        return default
    found = running_places()
    if len(found) > 1:
        folders = " or ".join(f"STATE_DIR={place.state_dir}" for place in found)
        raise InstallError(f"several services run: set {folders}")
    if not found:
        return default
    say(f"STATE_DIR={found[0].state_dir} (of the running service)")
    os.environ["STATE_DIR"] = str(found[0].state_dir)
    return found[0]


def use_service_settings(*, on_problem: Callable[[str], None] | None = None) -> ServiceRecord | None:
    """Make the settings of the service those of this process, and STATE_DIR its place.

    They are those of the running service; where none runs, the caller's environment over the settings file. Returns
    them, or None if nothing but the environment gives any. Raises InstallError; a file that cannot be used goes to
    `on_problem`, if given.
    """
    place = choose_place()
    os.environ["STATE_DIR"] = str(place.state_dir)
    if runs(place):
        record = read_record(place.settings)
        if record is not None:
            record.adopt()
            os.environ["STATE_DIR"] = str(place.state_dir)
            return record
    use_environment_file(place)
    try:
        take_other_names()
    except InstallError as e:
        if on_problem is None:
            raise
        on_problem(str(e))
        return None
    if not has_file(folder_of(place)):
        return None
    try:
        resolved = resolve(_interpreter(place), place)
    except InstallError as e:
        if on_problem is None:
            raise
        on_problem(str(e))
        return None
    resolved.adopt()
    return resolved


def take_other_names() -> None:
    """Add to this process's environment the settings that it has by other names. Raises InstallError."""
    try:
        add_settings_of_other_names(os.environ)
    except ValueError as e:
        raise InstallError(str(e)) from e


def use_environment_file(place: StatePlace) -> None:
    """Put /etc/runyard/environment beneath this process's environment, for the service that is installed."""
    if folder_of(place) != SETTINGS.parent:
        return
    try:
        text = SETTINGS.read_text()
    except OSError:
        return
    for name, value in read_settings(text).items():
        os.environ.setdefault(name, value)


def _interpreter(place: StatePlace) -> Path:
    """Return one that has the settings table: the installed service's, or that of `make check`."""
    for python in (place.python, install.ROOT / ".venv/bin/python"):
        if python.exists():
            return python
    raise InstallError(f"the settings file in {folder_of(place)} cannot be read before the first make up")
