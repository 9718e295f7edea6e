"""The confinement of sandboxes here, layer by layer, for `make doctor`: from the running service, or measured now.

Standard library only: measuring is done by another process, which has the service's libraries.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from ops.environment import clean
from ops.installed import runs
from ops.state import StatePlace
from ops.worker_socket import ask

MEASURE_S = 120.0
WORDS = {"ok": "in force", "missing": "MISSING", "relaxed": "RELAXED", "without": "without", "reported": "reported"}


def show(place: StatePlace) -> bool:
    """Print the layers. False if one that is required is missing, or could not be looked at."""
    print("Confinement")
    found, why = (_of_service(place), "the service does not answer") if runs(place) else _measured(place)
    if found is None:
        print(f"  not measured: {why}\n")
        return why == NOT_YET
    good = True
    for posture in found:
        print(f"  {posture['name']}")
        for layer in posture["layers"]:
            good = good and layer["state"] != "missing"
            print(f"    {_line(layer)}")
    print()
    return good


NOT_YET = "no image is built yet (run make up), or this is not root"


def _line(layer: dict[str, Any]) -> str:
    need = "required" if layer["required"] else "not here" if layer["state"] == "without" else "-"
    mend = "" if layer["state"] in {"ok", "reported"} else f" -> {layer['mend']}"
    return f"{layer['layer']:<20}{need:<10}{WORDS[layer['state']]:<10}{layer['detail']}{mend}"


def _of_service(place: StatePlace) -> list[dict[str, Any]] | None:
    found = (ask(place, {"op": "posture"}) or {}).get("posture")
    return found if isinstance(found, list) else None


def _measured(place: StatePlace) -> tuple[list[dict[str, Any]] | None, str]:
    """Measure a canary of the first built image in a temporary sandbox."""
    built = sorted(path.stem for path in place.images.glob("*.json"))
    if not built or os.geteuid() != 0:
        return None, NOT_YET
    language = "python" if "python" in built else built[0]
    argv = [sys.executable, "-m", "ops.posture", "--show", language]
    try:
        done = subprocess.run(
            argv, env=clean(), capture_output=True, text=True, timeout=MEASURE_S, check=False, cwd=os.getcwd()
        )
        return [json.loads(done.stdout)], ""
    except subprocess.TimeoutExpired:
        return None, f"the test program did not end within {MEASURE_S:.0f} s"
    except ValueError:
        return None, done.stderr.strip()[-500:] or f"the test program ended with {done.returncode}"
