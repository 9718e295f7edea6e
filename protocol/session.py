"""A session as it travels from api to a worker, and the bounds of its fields."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from protocol.job import outputs_problem
from protocol.limits import LIMIT_RULES, JobInvalid, LimitRule
from protocol.network import NetworkAccess, decode_network, encode_network
from protocol.package_names import decode_packages

#: Why a session ended.
EndReason = Literal[
    "deleted", "idle", "age", "oom", "killed", "quota", "failed", "worker_lost", "shutdown"
]  # fmt: skip
#: The states of a session that has not ended.
SessionStatus = Literal["ready", "busy", "frozen", "paused"]

DEFAULT_IDLE_S, MAX_IDLE_S = 1200, 86_400
DEFAULT_AGE_S, MAX_AGE_S = 86_400, 604_800
DEFAULT_FREEZE_S, MAX_FREEZE_S = 30, 86_400
#: The bounds of the times of a session, in seconds.
TIMES = {
    "idle_timeout_s": (1, MAX_IDLE_S),
    "max_age_s": (1, MAX_AGE_S),
    "expires_in_s": (1, MAX_AGE_S),
    "freeze_after_s": (0, MAX_FREEZE_S),
}
#: At the end of its idle time a session ends, or is paused.
OnIdle = Literal["end", "pause"]
ON_IDLE = ("end", "pause")
#: Runs that may wait for those before them.
MOST_WAITING = 16
#: The limits of a session that a client may set; the others of a run are set by each run.
SESSION_LIMITS = ("memory_mb", "cpus", "pids", "disk_mb")
DEFAULT_LIMITS: dict[str, int | float] = {"memory_mb": 512, "cpus": 1.0, "pids": 128}
#: The size of a terminal, each way.
MAX_TERMINAL_CELLS = 1000
#: Terminals of one session that are in use at the same time.
MOST_TERMINALS = 16
DEFAULT_DISK_MB = 256
#: The memory that /work leaves to everything else.
MEMORY_BESIDE_DISK_MB = 64
_MEMORY = LIMIT_RULES["memory_mb"]
#: The rules of SESSION_LIMITS.
SESSION_LIMIT_RULES: dict[str, LimitRule] = {
    **{name: LIMIT_RULES[name] for name in ("memory_mb", "cpus", "pids")},
    "disk_mb": LimitRule(DEFAULT_DISK_MB, 1, _MEMORY.ceiling, "MiB", "What /work may hold.", name="disk_mb"),
}
#: The limits that a run in a session has of its own, and the rules of all: its time is longer, and the processor
#: time of a session is not bounded by run.
RUN_LIMITS = ("timeout_ms", "max_output_bytes", "max_artifact_bytes", "max_artifact_files")
DEFAULT_TIMEOUT_MS = 60_000
#: The highest SESSION_TIMEOUT_MAX_MS.
MAX_TIMEOUT_MS = 86_400_000
RUN_RULES: dict[str, LimitRule] = LIMIT_RULES | {
    "timeout_ms": replace(LIMIT_RULES["timeout_ms"], default=DEFAULT_TIMEOUT_MS, ceiling=MAX_TIMEOUT_MS),
    "cpu_ms": replace(LIMIT_RULES["cpu_ms"], ceiling=2 * MAX_TIMEOUT_MS),
}
#: Further paths of a session's /work: links in every image.
WORKDIRS = ("/work", "/home/user", "/workspace", "/mnt/data")
SESSION_ID = re.compile(r"sess_[a-z2-7]{26}")


class TerminalSize(NamedTuple):
    """The size of a process's terminal, in characters."""

    cols: int
    rows: int

    def encode(self) -> bytes:
        """Return it as an agent reads it."""
        return b"%d %d" % self


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """A session as the worker receives it. `limits` holds all of SESSION_LIMITS. `key` is whose it is.

    `most_sessions` is how many the key's plan allows at the same time; None is no bound.
    """

    session_id: str
    language: str
    key: str
    limits: dict[str, int | float]
    env: dict[str, str] = field(default_factory=dict)
    isolation: Literal["default", "container", "gvisor"] = "default"
    idle_timeout_s: int = DEFAULT_IDLE_S
    max_age_s: int = DEFAULT_AGE_S
    workdir: str = "/work"
    outputs: str = "outputs"
    most_sessions: int | None = None
    #: Idle seconds after which it is frozen; 0 is never.
    freeze_after_s: int = DEFAULT_FREEZE_S
    on_idle: OnIdle = "end"
    #: Seconds to a fixed end that replaces the idle time, if it is requested.
    expires_in_s: int | None = None
    #: The hosts that its programs may reach; None: it has no network.
    network: NetworkAccess | None = None
    #: The packages that its sandbox is to have, in the order of the request.
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionChange:
    """A change of a live session; None leaves a field unchanged."""

    idle_timeout_s: int | None = None
    max_age_s: int | None = None
    expires_in_s: int | None = None
    freeze_after_s: int | None = None
    on_idle: OnIdle | None = None
    #: With nothing allowed: its programs may reach no host any more.
    network: NetworkAccess | None = None

    def fields(self) -> dict[str, Any]:
        """Return the fields that are changed."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}


def most_disk_mb(memory_mb: float) -> int:
    """Return the largest /work of a session with that memory: all but 64 MiB, and of little memory half."""
    return int(max(memory_mb - MEMORY_BESIDE_DISK_MB, memory_mb // 2))


def default_disk_mb(memory_mb: float) -> int:
    """Return the size of /work where none is asked for."""
    return min(DEFAULT_DISK_MB, most_disk_mb(memory_mb))


def encode_session(spec: SessionSpec) -> dict[str, Any]:
    """Return the session as JSON-ready data."""
    values = {name: getattr(spec, name) for name in SessionSpec.__slots__}
    return values | {"network": encode_network(spec.network), "packages": list(spec.packages)}


def decode_session(data: object) -> SessionSpec:
    """Return the session that `encode_session` encoded. Raises JobInvalid, which names the field."""
    if not isinstance(data, dict) or set(data) - set(SessionSpec.__slots__):
        raise JobInvalid("a session must be an object of the fields agreed on", param=None, code="invalid_type")
    values: dict[str, Any] = dict(data)
    for name in ("session_id", "language", "key", "isolation", "workdir", "outputs"):
        _check(isinstance(values.get(name), str), name, "must be a string")
    _check(values["workdir"] in WORKDIRS, "workdir", "is not one of those agreed on")
    _check(outputs_problem(values["outputs"]) is None, "outputs", "is no directory beneath /work")
    _check(SESSION_ID.fullmatch(values["session_id"]) is not None, "session_id", "is not an id of a session")
    _check(values["isolation"] in ("default", "container", "gvisor"), "isolation", "is not one of those agreed on")
    for name, (least, most) in TIMES.items():
        if name in values and (values[name] is not None or name != "expires_in_s"):
            _check(_is_number(values[name], least, most), name, f"must be a number from {least} to {most}")
    _check(values.get("on_idle", "end") in ON_IDLE, "on_idle", "must be end or pause")
    allowed = values.get("most_sessions")
    _check(allowed is None or _is_number(allowed, 0, 2**31), "most_sessions", "must be a number or null")
    for name in ("limits", "env"):
        _check(isinstance(values.get(name), dict), name, "must be an object")
    env = values["env"].items()
    _check(all(isinstance(key, str) and isinstance(value, str) for key, value in env), "env", "must be strings")
    _check(set(values["limits"]) == set(SESSION_LIMITS), "limits", "must be those of a session")
    decoded = {
        "network": decode_network(values.get("network")),
        "packages": decode_packages(values.get("packages", [])),
    }
    return SessionSpec(**values | decoded)


def encode_change(change: SessionChange) -> dict[str, Any]:
    """Return the change as JSON-ready data."""
    return change.fields() | ({"network": encode_network(change.network)} if change.network is not None else {})


def decode_change(data: object) -> SessionChange:
    """Return the change in the fields of a request. Raises JobInvalid, which names the field."""
    if not isinstance(data, dict) or set(data) - set(SessionChange.__slots__):
        raise JobInvalid("a change must be an object of the fields agreed on", param=None, code="invalid_type")
    for name, (least, most) in TIMES.items():
        if data.get(name) is not None:
            _check(_is_number(data[name], least, most), name, f"must be a number from {least} to {most}")
    _check(data.get("on_idle") in (None, *ON_IDLE), "on_idle", "must be end or pause")
    return SessionChange(**data | {"network": decode_network(data.get("network"))})


def _is_number(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _check(is_good: bool, name: str, problem: str) -> None:  # noqa: FBT001  # the condition reads as one
    if not is_good:
        raise JobInvalid(f"{name}: {problem}", param=name, code="invalid_type")
