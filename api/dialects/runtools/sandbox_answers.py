"""Put sessions, and commands that ran in them, into the shapes of RunTools' sandboxes."""

from __future__ import annotations

import signal
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from api.dialects.answers import exact_json
from api.dialects.flat_result import NO_EXIT_CODE
from api.dialects.runtools.answers import add_rate_headers, request_id
from api.dialects.runtools.sandbox_requests import TAGS_KEY, TEMPLATE_KEY

if TYPE_CHECKING:
    from flask import Response

_SESSION, _SANDBOX = "sess_", "sandbox-"
_STATUSES = {
    "creating": "creating",
    "ready": "running",
    "busy": "running",
    "frozen": "running",
    "ended": "destroyed",
}
#: Ends that are no wish of the client's.
_FAILED = frozenset({"failed", "killed", "oom", "worker_lost"})


def sandbox_id(session_id: str) -> str:
    """Return the name of a session as a sandbox."""
    return _SANDBOX + session_id.removeprefix(_SESSION)


def session_id(sandbox: str) -> str | None:
    """Return the id of the session that a sandbox's id names; None for what is no such id."""
    return _SESSION + sandbox.removeprefix(_SANDBOX) if sandbox.startswith(_SANDBOX) else None


def answer(data: object, status: int = 200) -> Response:
    """Return an answer with these data in RunTools' envelope."""
    return add_rate_headers(exact_json({"data": data, "meta": {"requestId": request_id()}}, status))


def page(rows: list[dict[str, Any]], cursor: str | None) -> Response:
    """Return a page of sandboxes; `cursor` begins the next one."""
    return add_rate_headers(
        exact_json({"data": rows, "meta": {"hasMore": cursor is not None, "nextCursor": cursor}})
    )


def sandbox(session: dict[str, Any]) -> dict[str, Any]:
    """Return a session as a sandbox."""
    metadata, limits = session["metadata"], session["limits"]
    status = _STATUSES.get(session["status"], session["status"])
    if status == "destroyed" and session["end_reason"] in _FAILED:
        status = "failed"
    template = metadata.get(TEMPLATE_KEY)
    return {
        "id": sandbox_id(session["id"]),
        "name": session["name"],
        "status": status,
        "template": session["language"] if template is None else template,
        "tags": _tags(metadata.get(TAGS_KEY)),
        # Clients wait for it before they send commands.
        "sshReady": status == "running",
        "vncReady": False,
        "resources": {"vcpus": limits["cpus"], "memory": f"{limits['memory_mb']}MB"},
        "createdAt": session["created_at"],
    }


def executed(process: dict[str, Any]) -> dict[str, Any]:
    """Return a process that has ended as the result of a command."""
    began, ended = (datetime.fromisoformat(process[name]) for name in ("started_at", "ended_at"))
    took_ms = max(0, round((ended - began).total_seconds() * 1000))
    return {
        "stdout": process["stdout"],
        "stderr": process["stderr"],
        "exitCode": _exit_code(process),
        # The one by its first pages, the other by its later ones.
        "executionTime": took_ms,
        "durationMs": took_ms,
    }


def _exit_code(process: dict[str, Any]) -> int:
    if process["exit_code"] is not None:
        return int(process["exit_code"])
    number = getattr(signal, process["signal"] or "", None)
    return NO_EXIT_CODE if number is None else 128 + int(number)


def _tags(kept: str | None) -> Any:  # noqa: ANN401  # a list or an object, as it was sent
    try:
        return orjson.loads(kept) if kept else []
    except ValueError:  # the metadata of a session that was not made here
        return []
