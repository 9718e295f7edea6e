"""`make status`: whether the service runs, how healthy it is, which languages are ready."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from typing import Any

from config.version import VERSION
from ops.installed import runs_as_units, unit_states, use_its_settings
from ops.state import StatePlace, address, supervisor_pid
from ops.version import asked
from ops.worker_socket import failing

TIMEOUT_S = 5


def main() -> int:
    """0 when the service is ready, 1 when it is not, 3 when it is not running (as systemctl has it)."""
    if asked():
        return 0
    use_its_settings()
    place = StatePlace.of_environment()
    pid = supervisor_pid(place)
    if pid is None and not runs_as_units(place):
        print(f"not running (STATE_DIR={place.state_dir})")
        return 3
    url = json.loads(place.started.read_text())["url"] if place.started.exists() else None
    if url is None and pid is None:
        url = address(os.environ.get("BIND") or "127.0.0.1", os.environ.get("PORT") or "8080")
    how = f"supervisor {pid}" if pid is not None else ", ".join(f"{n} {s}" for n, s in unit_states().items())
    print(f"running: {how}, STATE_DIR={place.state_dir}, {url or 'address unknown'}")
    if url is None:
        return 1
    ready = _get(f"{url}/readyz")
    checks = ", ".join(f"{name} {state}" for name, state in ready.get("checks", {}).items())
    print(f"version: {ready.get('version', 'unknown')}; of this folder: {VERSION}")
    print(f"health: {ready.get('status', 'no answer')}{f' ({checks})' if checks else ''}")
    for name, found in failing(place).items():
        print(f"{name}: no sandbox can be created: {found['words']} -> {found['remedy']}")
    for language in _get(f"{url}/v1/languages").get("data", []):
        print(f"{language['id']}: {'ready' if language['ready'] else 'not built yet'} {language['version']}")
    return 0 if ready.get("status") == "ok" else 1


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
