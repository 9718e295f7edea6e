"""`make status`: whether the service runs, how healthy it is, which languages are ready."""

from __future__ import annotations

import argparse
import json
import os
import sys
import urllib.error
import urllib.request
from typing import Any

from config.roles import WORKER, role_of
from config.version import VERSION
from ops.health import readiness
from ops.hints import first_token
from ops.install import InstallError
from ops.installed import installed_role, runs, runs_as_units, unit_states
from ops.record import read_record
from ops.settings import say, use_service_settings
from ops.state import StatePlace, address, supervisor_pid
from ops.version import asked
from ops.worker_socket import ask, failing

TIMEOUT_S = 5


def main() -> int:
    """Print the state of the service. Returns 0 if it is ready, 1 if not, 3 if it is not running (as systemctl)."""
    if asked():
        return 0
    parser = argparse.ArgumentParser(prog="make status", description=__doc__)
    parser.add_argument("--token", action="store_true", help="print the first static token instead")
    options = parser.parse_args()
    try:
        use_service_settings(on_problem=lambda problem: say(f"the settings file is not valid: {problem}"))
    except InstallError as e:
        say(f"make status: {e}")
        return 3
    if options.token:
        return _show_token()
    place = StatePlace.of_environment()
    pid = supervisor_pid(place)
    if pid is None and not runs_as_units(place):
        print(f"not running (STATE_DIR={place.state_dir})")
        return 3
    started = json.loads(place.started.read_text()) if place.started.exists() else {}
    url = started.get("url")
    if url is None and pid is None:
        url = address(os.environ.get("BIND") or "127.0.0.1", os.environ.get("PORT") or "8080")
    role = role_of(started_role(started)) if pid is not None else installed_role()
    how = f"supervisor {pid}" if pid is not None else ", ".join(f"{n} {s}" for n, s in unit_states().items())
    if not role.has_api:
        print(f"running: {how}, STATE_DIR={place.state_dir}, role worker")
        return _show_worker(place)
    part = "" if role.has_worker else ", role api"
    print(f"running: {how}, STATE_DIR={place.state_dir}{part}, {url or 'address unknown'}")
    return 1 if url is None else _show_service(place, url)


def started_role(started: dict[str, Any]) -> dict[str, str]:
    """Return the role that the record of a start names, as a variable; that of this process where it has none."""
    return {"ROLE": started["role"]} if "role" in started else dict(os.environ)


def _show_service(place: StatePlace, url: str) -> int:
    ready = _get(f"{url}/readyz")
    checks = ", ".join(f"{name} {state}" for name, state in ready.get("checks", {}).items())
    print(f"version: {ready.get('version', 'unknown')}; of this folder: {VERSION}")
    print(f"health: {ready.get('status', 'no answer')}{f' ({checks})' if checks else ''}")
    for name, found in failing(place).items():
        print(f"{name}: no sandbox can be created: {found['words']} -> {found['remedy']}")
    for language in _get(f"{url}/v1/languages").get("data", []):
        print(f"{language['id']}: {'ready' if language['ready'] else 'not built yet'} {language['version']}")
    return 0 if ready.get("status") == "ok" else 1


def _show_worker(place: StatePlace) -> int:
    """Print the state of a worker that other machines' apis use. Returns 0 if it is ready."""
    ready, said = readiness(place, "", WORKER)
    print(f"health: {'ok' if ready else f'not ready: {said}'}")
    for name, found in failing(place).items():
        print(f"{name}: no sandbox can be created: {found['words']} -> {found['remedy']}")
    status = (ask(place, {"op": "status"}) or {}).get("status") or {}
    for language in status.get("languages", ()):
        print(f"{language['id']}: {'ready' if language['ready'] else 'not built yet'} {language['version']}")
    return 0 if ready else 1


def _show_token() -> int:
    """Print the first static token; 1 if there is none that this caller may see."""
    place = StatePlace.of_environment()
    if runs(place) and read_record(place.settings) is None:
        say("make token: the settings of the running service can be read by root only")
        return 1
    token = first_token()
    if token is None:
        say("make token: API_KEYS is unset, so there is no static token; make keys creates a key")
        return 1
    print(token)
    return 0


def _get(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310
            body = answer.read()
    except urllib.error.HTTPError as e:
        body = e.read()
    except OSError:
        return {}
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    sys.exit(main())
