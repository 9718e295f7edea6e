"""A session as it travels from api to a worker, and the bounds of its fields."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from protocol.limits import JobInvalid

#: Why a session ended.
EndReason = Literal[
    "deleted", "idle", "age", "oom", "killed", "quota", "failed", "worker_lost", "shutdown"
]  # fmt: skip
#: The states of a session that has not ended.
SessionStatus = Literal["ready", "busy"]

DEFAULT_IDLE_S, MAX_IDLE_S = 1200, 86_400
DEFAULT_AGE_S, MAX_AGE_S = 86_400, 604_800
#: Runs that may wait for those before them.
MOST_WAITING = 16
#: The limits of a session that a client may set; the others of a run are set by each run.
SESSION_LIMITS = ("memory_mb", "cpus", "pids")
DEFAULT_LIMITS: dict[str, int | float] = {"memory_mb": 512, "cpus": 1.0, "pids": 128}
SESSION_ID = re.compile(r"sess_[a-z2-7]{26}")


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
    most_sessions: int | None = None


def encode_session(spec: SessionSpec) -> dict[str, Any]:
    """Return the session as JSON-ready data."""
    return {name: getattr(spec, name) for name in SessionSpec.__slots__}


def decode_session(data: object) -> SessionSpec:
    """Return the session that `encode_session` encoded. Raises JobInvalid, which names the field."""
    if not isinstance(data, dict) or set(data) - set(SessionSpec.__slots__):
        raise JobInvalid("a session must be an object of the fields agreed on", param=None, code="invalid_type")
    values: dict[str, Any] = dict(data)
    for name in ("session_id", "language", "key", "isolation"):
        _check(isinstance(values.get(name), str), name, "must be a string")
    _check(SESSION_ID.fullmatch(values["session_id"]) is not None, "session_id", "is not an id of a session")
    _check(values["isolation"] in ("default", "container", "gvisor"), "isolation", "is not one of those agreed on")
    for name, most in (("idle_timeout_s", MAX_IDLE_S), ("max_age_s", MAX_AGE_S)):
        _check(_is_number(values.get(name), 1, most), name, f"must be a number from 1 to {most}")
    allowed = values.get("most_sessions")
    _check(allowed is None or _is_number(allowed, 0, 2**31), "most_sessions", "must be a number or null")
    for name in ("limits", "env"):
        _check(isinstance(values.get(name), dict), name, "must be an object")
    env = values["env"].items()
    _check(all(isinstance(key, str) and isinstance(value, str) for key, value in env), "env", "must be strings")
    _check(set(values["limits"]) == set(SESSION_LIMITS), "limits", "must be those of a session")
    return SessionSpec(**values)


def _is_number(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _check(is_good: bool, name: str, problem: str) -> None:  # noqa: FBT001  # the condition reads as one
    if not is_good:
        raise JobInvalid(f"{name}: {problem}", param=name, code="invalid_type")
