"""`make doctor`: the effective settings, the machine's requirements, the confinement, the built images."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from config.roles import ROLES, role_of
from config.version import VERSION
from ops import confinement, install
from ops.checks import Check, all_checks
from ops.environment import clean
from ops.images.store import Store
from ops.install import InstallError
from ops.installed import runs, unit_states
from ops.record import ServiceRecord
from ops.settings import FILES, choose_place, folder_of, use_service_settings
from ops.state import StatePlace, is_running
from ops.version import asked
from ops.worker_socket import failing

#: Set for the second attempt, by an interpreter that has the libraries of the settings table.
TRIED = "RUNYARD_DOCTOR_TRIED"


def main() -> int:
    """Print all checks. Returns 1 if a requirement is missing or a setting is invalid."""
    if asked():
        return 0
    try:
        choose_place()
    except InstallError as e:
        print(f"make doctor: {e}", file=sys.stderr)
        return 1
    _find_libraries()
    print(f"Runyard {VERSION}\n")
    shell = {name.upper(): value for name, value in os.environ.items() if value}
    invalid: list[str] = []
    record = use_service_settings(on_problem=invalid.append)
    place = StatePlace.of_environment()
    given = {name: "file" if name in record.from_file else "set" for name in record.environment} if record else {}
    given |= {name.upper(): "set" for name, value in os.environ.items() if value and name.upper() not in given}
    os.environ.setdefault("RUNYARD_ENV", "development")  # as make up does
    if runs(place) and record is not None:
        print(f"Settings of the running service (STATE_DIR={place.state_dir})")
    else:
        print("Settings")
    good = _show_settings(given, invalid)
    if runs(place) and record is not None:
        good = _show_pending(record, place, shell) and good
    if os.environ.get("ROLE") not in ROLES:
        os.environ.pop("ROLE", None)  # unset, or shown as invalid
    good = _show_checks(list(all_checks(place))) and good
    runs_programs = role_of(os.environ).has_worker
    if runs_programs:
        good = confinement.show(place) and good
        good = _show_sandboxes(place) and good
    _show_service(place, images=runs_programs)
    return 0 if good else 1


def _find_libraries() -> None:
    """Go on in an interpreter that can read the settings table: the service's, or that of `make check`."""
    if importlib.util.find_spec("pydantic_settings") or os.environ.get(TRIED):
        return
    for python in (StatePlace.of_environment().python, install.ROOT / ".venv/bin/python"):
        if python.exists():
            os.chdir(install.ROOT)
            os.execve(python, [str(python), "-m", "ops.doctor"], {**clean(), TRIED: "1"})  # noqa: S606


def _show_settings(given: dict[str, str], invalid: list[str]) -> bool:
    """Print each setting with the place its value comes from: the environment, the settings file, the default."""
    if invalid:
        print("".join(f"  invalid: {line}\n" for line in "\n".join(invalid).splitlines()))
        return False
    try:
        from config.environment import is_secret
        from config.settings import Settings, SettingsError, load_settings  # absent before the first make up
        from config.shared_parts import sharing_warnings
    except ImportError:
        print("  (available after the first make up, which installs the libraries to read them)\n")
        return True
    try:
        settings = load_settings()
    except SettingsError as e:
        print("".join(f"  invalid: {line}\n" for line in str(e).split("; ")))
        return False
    for warning in sharing_warnings(settings):
        print(f"  warning: {warning}")
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        shown = "***" if is_secret(name) and value else "-" if value is None else str(value)
        mark = given.get(name.upper(), "default")
        print(f"  {name.upper():<26}{mark:<7} {shown:<24} {field.description}")
    print()
    return True


def _show_pending(record: ServiceRecord, place: StatePlace, shell: dict[str, str]) -> bool:
    """Print what the settings file and the caller's shell hold, and the running service does not use yet."""
    from config.settings import SettingsError
    from config.settings_file import load

    folder = folder_of(place)
    try:
        now = load({"STATE_DIR": str(place.state_dir)}, folder, file=_named_file(record, folder))
    except SettingsError as e:
        print("".join(f"  invalid: {line}\n" for line in str(e).splitlines()))
        return False
    for warning in now.warnings:
        print(f"  warning: {warning}")
    known = record.environment
    in_file = {name for name in now.from_file if name in record.from_file or not known.get(name)}
    changed = {name for name in in_file if known.get(name) != now.environment[name]}
    changed |= set(record.from_file) - now.from_file
    if changed:
        print(f"  changed in {folder} since the start: {', '.join(sorted(changed))} (not in force yet)")
    others = sorted(
        name for name in record.names if name != "STATE_DIR" and name in shell and shell[name] != known.get(name)
    )
    if others:
        print(f"  other values in this shell: {', '.join(others)} (not in force)")
    if changed or others:
        print()
    return True


def _named_file(record: ServiceRecord, folder: Path) -> Path | None:
    """Return the file of a service that was started with `--config`; None if it is that of its folder."""
    if record.file is None or (Path(record.file).parent == folder and Path(record.file).name in FILES):
        return None
    return Path(record.file)


def _show_checks(checks: list[Check]) -> bool:
    print("Machine")
    for check in checks:
        state = "ok" if check.ok else "MISSING" if check.required else "without"
        print(f"  {check.name:<26}{state:<8}{check.detail}{'' if check.ok else f' -> {check.mend}'}")
    print()
    return all(check.ok for check in checks if check.required)


def _show_sandboxes(place: StatePlace) -> bool:
    """Print the languages whose sandboxes the running service cannot make, with the engine's message."""
    found = failing(place) if runs(place) else {}
    if not found:
        return True
    print("Sandboxes")
    for name, one in found.items():
        print(f"  {name:<26}FAILING since {one['since']}, {one['times']} times: {one['words']} -> {one['remedy']}")
    print()
    return False


def _show_service(place: StatePlace, *, images: bool) -> None:
    print("Service")
    print(f"  {'supervisor':<26}{'running' if is_running(place) else 'not running'}")
    units = unit_states()
    print(f"  {'installed':<26}{'systemd units' if units else 'no systemd units (make install creates them)'}")
    for name, state in units.items():
        print(f"  {name:<26}{state}")
    if not images:
        return
    store = Store(place.images)
    for path in sorted((install.ROOT / "runners").glob("*/runner.toml")):
        print(f"  {path.parent.name:<26}{_image(store, path.parent)}")


def _image(store: Store, runner: Path) -> str:
    pointer = store.pointer(runner.name)
    if pointer is None:
        return "not built (run make up or make images)"
    return f"built {pointer['built_at']}, version {pointer['version']}, {pointer['size_bytes'] / 1e6:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
