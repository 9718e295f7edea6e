"""`make doctor`: the settings in force, what this machine must have, what confines sandboxes, what is built."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from config.version import VERSION
from ops import confinement, install
from ops.checks import Check, all_checks
from ops.environment import clean
from ops.images.store import Store
from ops.installed import runs, unit_states, use_its_settings
from ops.state import StatePlace, is_running
from ops.version import asked
from ops.worker_socket import failing

#: Set for the second attempt, by an interpreter that has the libraries of the settings table.
TRIED = "RUNYARD_DOCTOR_TRIED"


def main() -> int:
    """1 if something required is missing or a setting is wrong."""
    if asked():
        return 0
    use_its_settings()
    _find_libraries()
    print(f"Runyard {VERSION}\n")
    given = {name.upper() for name, value in os.environ.items() if value}
    os.environ.setdefault("RUNYARD_ENV", "development")  # as make up does
    place = StatePlace.of_environment()
    good = _show_settings(given)
    good = _show_checks(list(all_checks(place))) and good
    good = confinement.show(place) and good
    good = _show_sandboxes(place) and good
    _show_service(place)
    return 0 if good else 1


def _find_libraries() -> None:
    """Go on in an interpreter that can read the settings table: the service's, or that of `make check`."""
    if importlib.util.find_spec("pydantic_settings") or os.environ.get(TRIED):
        return
    for python in (StatePlace.of_environment().python, install.ROOT / ".venv/bin/python"):
        if python.exists():
            os.chdir(install.ROOT)
            os.execve(python, [str(python), "-m", "ops.doctor"], {**clean(), TRIED: "1"})  # noqa: S606


def _show_settings(given: set[str]) -> bool:
    print("Settings")
    try:
        from config.environment import is_secret
        from config.settings import Settings, SettingsError, load_settings  # absent before the first make up
    except ImportError:
        print("  (available after the first make up, which installs the libraries to read them)\n")
        return True
    try:
        settings = load_settings()
    except SettingsError as e:
        print("".join(f"  invalid: {line}\n" for line in str(e).split("; ")))
        return False
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        shown = "***" if is_secret(name) and value else "-" if value is None else str(value)
        mark = "set    " if name.upper() in given else "default"
        print(f"  {name.upper():<26}{mark} {shown:<24} {field.description}")
    print()
    return True


def _show_checks(checks: list[Check]) -> bool:
    print("Machine")
    for check in checks:
        state = "ok" if check.ok else "MISSING" if check.required else "without"
        print(f"  {check.name:<26}{state:<8}{check.detail}{'' if check.ok else f' -> {check.mend}'}")
    print()
    return all(check.ok for check in checks if check.required)


def _show_sandboxes(place: StatePlace) -> bool:
    """Print the languages whose sandboxes the running service cannot make, with the engine's own words."""
    found = failing(place) if runs(place) else {}
    if not found:
        return True
    print("Sandboxes")
    for name, one in found.items():
        print(f"  {name:<26}FAILING since {one['since']}, {one['times']} times: {one['words']} -> {one['remedy']}")
    print()
    return False


def _show_service(place: StatePlace) -> None:
    print("Service")
    print(f"  {'supervisor':<26}{'running' if is_running(place) else 'not running'}")
    units = unit_states()
    print(f"  {'installed':<26}{'systemd units' if units else 'no systemd units (make install creates them)'}")
    for name, state in units.items():
        print(f"  {name:<26}{state}")
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
