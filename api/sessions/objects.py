"""The session object: what was asked for, as it is recorded, and what the worker says of it now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson

from api.errors import ApiError
from config.clock import rfc3339
from protocol.job import DEFAULT_OUTPUTS
from protocol.session import WORKDIRS

if TYPE_CHECKING:
    from api.sessions.requests import SessionRequest
    from api.system.languages import OfferedLanguage
    from protocol.network import NetworkAccess
    from protocol.session import SessionChange
    from records.sessions import StoredSession

#: The facts of a session whose worker has ended.
WORKER_LOST: dict[str, Any] = {"status": "ended", "end_reason": "worker_lost"}
CREATING: dict[str, Any] = {"status": "creating", "end_reason": None}
NO_USAGE = {"memory_mb": 0, "disk_mb": 0, "cpu_ms": 0, "processes": 0, "egress_bytes": 0}
#: The fields of a request that are recorded and shown; a PATCH changes the second part, and the network.
_KEPT = ("name", "external_id", "limits", "env", "workdir", "outputs", "isolation", "network", "packages", "keeps")
_CHANGED = (
    "idle_timeout_s", "max_age_s", "expires_in_s", "freeze_after_s", "on_idle", "metadata",
)  # fmt: skip
NO_NETWORK: dict[str, Any] = {"allow": [], "deny": []}
#: Fields that sessions created by an earlier version have not recorded.
LATER: dict[str, Any] = {
    "external_id": None, "expires_in_s": None, "freeze_after_s": 30, "on_idle": "end", "network": NO_NETWORK,
    "workdir": WORKDIRS[0], "outputs": DEFAULT_OUTPUTS, "keeps": "files", "packages": [],
}  # fmt: skip


def document_of(request: SessionRequest, language: OfferedLanguage) -> dict[str, Any]:
    """Return what is recorded of a request, and of what its language keeps from run to run."""
    asked = {name: getattr(request, name) for name in (*_KEPT, *_CHANGED) if name != "keeps"}
    found = {"language": language.id, **asked, "keeps": language.public["keeps"]}
    return found | {"network": _hosts(request.network)}


def changed_fields(change: SessionChange) -> dict[str, Any]:
    """Return what is recorded of a change: its fields with their new values."""
    return change.fields() | ({} if change.network is None else {"network": _hosts(change.network)})


def _hosts(access: NetworkAccess | None) -> dict[str, Any]:
    return NO_NETWORK if access is None else {"allow": access.allow, "deny": access.deny}


def session_object(record: StoredSession, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the session object."""
    asked = LATER | orjson.loads(record.document)
    has_ended = facts.get("end_reason") is not None
    ended_at = facts.get("ended_at") or (rfc3339(record.ended_at_ms) if record.ended_at_ms is not None else None)
    expires_in_ms = facts.get("expires_in_ms", asked["idle_timeout_s"] * 1000)
    return {
        "id": record.id,
        "object": "session",
        "status": facts["status"],
        "language": record.language,
        "keeps": asked["keeps"],
        "runs": facts.get("runs", 0),
        "usage": facts.get("usage", NO_USAGE),
        **{name: asked[name] for name in (*_KEPT, *_CHANGED) if name != "keeps"},
        "limits": facts.get("limits", asked["limits"]),
        "layer": facts.get("layer"),
        "created_at": rfc3339(record.created_at_ms),
        "last_active_at": facts.get("last_active_at") or rfc3339(record.created_at_ms),
        "expires_at": None if has_ended else rfc3339(round(time.time() * 1000) + expires_in_ms),
        "ended_at": ended_at if has_ended else None,
        "end_reason": facts.get("end_reason"),
        "error": facts.get("error"),
    }


def ended(facts: dict[str, Any]) -> ApiError:
    """Return the error for a call on a session that has ended."""
    at = facts.get("ended_at")
    when = f" at {at}" if at else ""
    return ApiError(
        410, f"This session has ended{when}: {facts.get('end_reason')}.", code="session_ended", param="id"
    )
