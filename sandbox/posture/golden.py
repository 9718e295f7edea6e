"""The posture files, and how what was measured is held against them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sandbox.engines import EngineUnusable
from sandbox.posture.facts import Facts
from sandbox.posture.layers import LAYERS, Layer

FOLDER = Path(__file__).resolve().parent

#: `relaxed`: by DISABLE_SANDBOX_SECURITY. `without`: not in force, and not required here. `reported`: the kernel
#: has it, but the host cannot see whether it is in force.
State = Literal["ok", "missing", "relaxed", "without", "reported"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of one layer. `detail` names the measured and, if it differs, the expected value."""

    layer: str
    state: State
    required: bool
    detail: str
    mend: str = ""


def golden_path(engine: str, runtime: str) -> Path:
    """Return the posture file of an engine with a runtime; a daemon may have several of gVisor, named `runsc…`."""
    return FOLDER / f"{engine}-{'runsc' if runtime.startswith('runsc') else runtime}.json"


def load_golden(engine: str, runtime: str) -> Facts:
    """Return the expected posture. Raises EngineUnusable if none was reviewed for that engine and runtime."""
    path = golden_path(engine, runtime)
    try:
        found: Facts = json.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise EngineUnusable(
            f"RUNTIME={runtime}: there is no posture file for {engine} with {runtime} ({path.name}): take crun, "
            "runc or runsc, or write one with make posture and review it"
        ) from e
    return found


def compare(measured: Facts, golden: Facts, *, apparmor: str | None, relaxed: bool) -> list[Finding]:
    """Return every layer in order. `apparmor` is the required profile, None on a kernel without AppArmor."""
    if apparmor is not None:
        golden = golden | {"apparmor": {"label": f"{apparmor} (enforce)"}}
    return [
        _judge(layer, measured[layer.name], golden, apparmor is not None, relaxed)
        for layer in LAYERS
        # A place for what is compiled is there for compiled languages alone.
        if layer.name in measured
    ]


def _judge(layer: Layer, found: dict[str, Any], golden: Facts, has_apparmor: bool, relaxed: bool) -> Finding:  # noqa: FBT001
    if layer.need == "no":
        return Finding(
            layer.name, "reported" if any(found.values()) else "without", False, _told(found), layer.mend
        )
    if layer.need == "kernel" and not has_apparmor:
        return Finding(layer.name, "without", False, _told(found), "boot with apparmor=1 security=apparmor")
    wrong = differences(layer.name, found, golden.get(layer.name, {}))
    if not wrong:
        return Finding(layer.name, "ok", True, _told(found))
    if relaxed and layer.relaxable:
        return Finding(layer.name, "relaxed", False, "; ".join(wrong), "unset DISABLE_SANDBOX_SECURITY")
    return Finding(layer.name, "missing", True, "; ".join(wrong), layer.mend)


def differences(layer: str, found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Describe each fact of a layer that differs from the expected one."""
    holds = _HOLDS.get(layer, _equal)
    return [
        f"{name} is {_shown(found.get(name))} and must be {_shown(wanted.get(name))}"
        for name in sorted(found.keys() | wanted.keys())
        if not holds(name, found.get(name), wanted.get(name))
    ]


def _equal(_name: str, found: Any, wanted: Any) -> bool:  # noqa: ANN401  # JSON
    return bool(found == wanted)


def _own(_name: str, found: Any, wanted: Any) -> bool:  # noqa: ANN401
    return bool(found in {wanted, "own"})


def _no_more(_name: str, found: Any, wanted: Any) -> bool:  # noqa: ANN401
    """Compare sets of capabilities: the measured one must be within the expected one."""
    if not isinstance(found, str) or not isinstance(wanted, str):
        return False
    return wanted == "all" or found == "none" or set(found.split()) <= set(wanted.split())


def _at_most(_name: str, found: Any, wanted: Any) -> bool:  # noqa: ANN401
    return isinstance(found, int) and isinstance(wanted, int) and found <= wanted


def _at_least(_name: str, found: Any, wanted: Any) -> bool:  # noqa: ANN401
    return isinstance(found, int) and isinstance(wanted, int) and found >= wanted


def _filters(name: str, found: Any, wanted: Any) -> bool:  # noqa: ANN401
    """Compare the number of filters: a worker under a filter passes it on, so more than one is fine."""
    return (_at_least if name == "filters" else _equal)(name, found, wanted)


def _cgroup(name: str, found: Any, wanted: Any) -> bool:  # noqa: ANN401
    """Compare limits: a lower one is fine, since a hybrid kernel rounds it to pages."""
    if name in {"memory_mb", "cpus"}:
        return isinstance(found, int | float) and found <= wanted
    return bool(found == wanted)


_HOLDS: dict[str, Callable[[str, Any, Any], bool]] = {
    "namespaces": _own,
    "capabilities": _no_more,
    "rlimits": _at_most,
    "oom": _at_least,
    "seccomp": _filters,
    "cgroup": _cgroup,
}


def _told(found: dict[str, Any]) -> str:
    """Summarise a layer that is as expected."""
    if len(found) > 4:
        return f"{len(found)} facts"
    return ", ".join(f"{name} {_shown(value)}" for name, value in found.items())


def _shown(value: Any) -> str:  # noqa: ANN401
    if value is None:
        return "not there"
    return (" ".join(map(str, value)) if isinstance(value, list) else str(value)) or "nothing"
