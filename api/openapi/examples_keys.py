"""Answers about keys and usage as the document shows them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from api.openapi.examples import page
from protocol.limits import Limits

_ID, _AT = "key_Ab3dE5fG7hJ9kL1mN3pQ5rS7tU9v", "2026-11-21T10:00:00.000Z"

NEW_KEY: dict[str, Any] = {
    "id": _ID,
    "object": "key",
    "key": "ry_EXAMPLEexampleEXAMPLEexampleEXAMPLE000",
    "plan": "free",
    "created_at": _AT,
}
ROTATED_KEY: dict[str, Any] = {**NEW_KEY, "previous_valid_until": "2026-11-22T10:00:00.000Z"}
KEY: dict[str, Any] = {
    "id": _ID,
    "object": "key",
    "plan": "free",
    "created_at": _AT,
    "prefix": "ry_EXAMP",
    "label": "laptop",
    "limits": asdict(Limits.resolve({"memory_mb": 512, "pids": 256})),
    "runs_left": 49,
    "runs_reset_at": None,
    "disabled": False,
}
ADMIN_KEY: dict[str, Any] = {**KEY, "static": False, "revoked_at": None, "previous_valid_until": None}
KEY_PAGE = page(ADMIN_KEY)
AUDIT_PAGE = page(
    {
        "id": "17",
        "object": "audit_entry",
        "created_at": _AT,
        "actor": "admin",
        "action": "key.update",
        "subject": _ID,
        "detail": {"plan": "pro"},
    }
)
_USED = {
    "runs": 3,
    "cpu_seconds": 0.5,
    "wall_seconds": 1.25,
    "gb_seconds": 0.3125,
    "bytes_in": 300,
    "bytes_out": 12,
    "sessions": 1,
    "session_seconds": 12.5,
    "session_cpu_seconds": 0.25,
    "session_gb_seconds": 6.25,
    "egress_bytes": 2048,
}
ADMIN_USAGE: dict[str, Any] = {
    "object": "usage_report",
    "from": "2026-11-01",
    "to": "2026-11-21",
    "group_by": ["key", "language"],
    "data": [{"key": _ID, "label": "alice", "plan": None, "language": "python", "day": None, **_USED}],
    "total": _USED,
}
KEYS_CSV = "label,plan\nalice@example.org,pro\nteam one,free\n"
PLANS: dict[str, Any] = {
    "object": "plans",
    "loaded_at": _AT,
    "error": None,
    "plans": {
        "free": {
            "runs": 50,
            "period": "all",
            "rate_per_minute": 10.0,
            "burst": 10,
            "concurrency": 2,
            "queue": 4,
            "storage_bytes": 104_857_600,
            "records_bytes": 67_108_864,
            "limits": asdict(Limits.resolve({"memory_mb": 512, "pids": 256})),
        }
    },
}
BULK_KEYS: dict[str, Any] = {
    "object": "list",
    "data": [{**NEW_KEY, "label": "alice@example.org"}],
}
USAGE: dict[str, Any] = {
    "object": "usage",
    "from": "2026-11-01",
    "to": "2026-11-21",
    "plan": "free",
    "runs": 3,
    "runs_limit": 50,
    **{name: value for name, value in _USED.items() if name != "runs"},
    "by_language": {"python": _USED},
}
