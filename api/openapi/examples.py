"""Examples of requests and of answers, as the document shows them. A test holds each to its schema."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from api.openapi.error_codes import EXAMPLE_RUN_ID
from config.version import VERSION
from protocol.limits import Limits

_HASH = "4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865"
_FILE_ID = "file_5Tz8nRkV2wQxJ6mCbL9dHs3E"

RUN_REQUESTS: dict[str, Any] = {
    "hello": {"language": "python", "code": "print(1+1)"},
    "files, arguments, input and limits": {
        "language": "python",
        "entrypoint": "report/main.py",
        "files": [
            {"path": "report/main.py", "content": "import sys\nprint(sys.argv[1], input())"},
            {"path": "data.bin", "content": "AAEC", "encoding": "base64"},
        ],
        "args": ["--fast"],
        "stdin": "Alice\n",
        "env": {"MODE": "x"},
        "limits": {"timeout_ms": 3000, "memory_mb": 128},
        "metadata": {"user": "42"},
    },
    "events as they happen": {"language": "bash", "code": "echo working; sleep 1; echo done", "stream": True},
    "in the background": {"language": "bash", "code": "sleep 5", "background": True},
}

ARTIFACT: dict[str, Any] = {
    "id": _FILE_ID,
    "name": "plot.png",
    "path": "plot.png",
    "size": 1234,
    "sha256": _HASH,
    "content_type": "image/png",
    "url": f"/v1/files/{_FILE_ID}/content?token=…",
    "expires_at": "2026-11-21T10:10:00.000Z",
}

RUN: dict[str, Any] = {
    "id": EXAMPLE_RUN_ID,
    "object": "run",
    "status": "succeeded",
    "language": "python",
    "exit_code": 0,
    "signal": None,
    "timed_out": False,
    "oom_killed": False,
    "cancelled": False,
    "stdout": "2\n",
    "stderr": "",
    "stdout_truncated": False,
    "stderr_truncated": False,
    "usage": {"wall_ms": 4, "cpu_ms": 3, "max_rss_mb": 9, "queue_ms": 0, "egress_bytes": 0, "shared": False},
    "compile": None,
    "artifacts": [ARTIFACT],
    "skipped_artifacts": [{"path": "link", "reason": "symlink"}],
    "skipped_artifacts_count": 1,
    "hints": [],
    "limits": asdict(Limits.resolve({})),
    "metadata": {"user": "42"},
    "code_sha256": _HASH,
    "isolation": {
        "engine": "oci",
        "runtime": "crun",
        "source": "pool",
        "network": "none",
        "seccomp": f"sha256:{_HASH}",
        "apparmor": None,
        "user_namespace": True,
        "image": f"sha256:{_HASH}",
        "platform": None,
        "relaxed": False,
    },
    "session_id": None,
    "external_id": None,
    "layer": None,
    "context": None,
    "execution_count": None,
    "state": None,
    "exception": None,
    "results": [],
    "results_dropped": 0,
    "function": None,
    "version": None,
    "output": None,
    "created_at": "2026-11-21T10:00:00.000Z",
    "started_at": "2026-11-21T10:00:00.001Z",
    "finished_at": "2026-11-21T10:00:00.005Z",
    "error": None,
}

CALL: dict[str, Any] = RUN | {"function": "add", "version": 3, "output": 6, "stdout": "", "artifacts": []}

QUEUED: dict[str, Any] = RUN | {
    "status": "queued",
    "exit_code": None,
    "stdout": "",
    "usage": {"wall_ms": 0, "cpu_ms": 0, "max_rss_mb": 0, "queue_ms": 0, "egress_bytes": 0, "shared": False},
    "artifacts": [],
    "skipped_artifacts": [],
    "skipped_artifacts_count": 0,
    "isolation": None,
    "started_at": None,
    "finished_at": None,
}

NDJSON = (
    f'{{"seq":1,"event":"info","data":{{"id":"{EXAMPLE_RUN_ID}","language":"python","status":"running",'
    '"at":"2026-11-21T10:00:00.001Z","queue_ms":0},"t_ms":0}\n'
    '{"seq":2,"event":"phase","data":{"name":"run"},"t_ms":1}\n'
    '{"seq":3,"event":"stdout","data":"2\\n","t_ms":4}\n'
)
SSE = "".join(
    f"id: {number}\nevent: {kind}\ndata: {line}\n\n"
    for number, kind, line in zip((1, 2, 3), ("info", "phase", "stdout"), NDJSON.splitlines(), strict=True)
)

FILE: dict[str, Any] = {
    "id": _FILE_ID,
    "object": "file",
    "name": "in.csv",
    "size": 1234,
    "sha256": _HASH,
    "content_type": "text/csv",
    "created_at": "2026-11-21T10:00:00.000Z",
}


def page(row: dict[str, Any]) -> dict[str, Any]:
    """Return a list of one row."""
    return {
        "object": "list",
        "data": [row],
        "first_id": row["id"],
        "last_id": row["id"],
        "has_more": False,
        "next": None,
    }


ADMIN_RUN_PAGE: dict[str, Any] = page(
    {
        "id": RUN["id"],
        "object": "run",
        "key": "key_Ab3dE5fG7hJ9kL1mN3pQ5rS7tU9v",
        "label": "alice@example.org",
        **{
            name: RUN[name]
            for name in (
                "status", "language", "exit_code", "signal", "timed_out", "oom_killed", "cancelled", "usage",
                "limits", "metadata", "created_at", "started_at", "finished_at", "error",
            )
        },
    }
)  # fmt: skip
LANGUAGES: dict[str, Any] = {
    "object": "list",
    "data": [
        {
            "id": "bash",
            "aliases": ["sh", "shell"],
            "version": "5.2",
            "entry_file": "main.sh",
            "packages": [],
            "ready": True,
            "example": "echo hello",
            "keeps": "variables",
            "kernels": ["bash"],
            "results": False,
            "package_ecosystem": None,
        }
    ],
}
DOWN: dict[str, Any] = {
    "status": "fail",
    "version": VERSION,
    "checks": {
        "worker": "fail",
        "languages": "fail",
        "sandboxes": "fail",
        "posture": "fail",
        "database": "ok",
        "storage": "ok",
        "disk": "ok",
    },
}
HEALTH: dict[str, Any] = {
    "status": "ok",
    "version": VERSION,
    "checks": {
        "worker": "ok",
        "languages": "ok",
        "sandboxes": "ok",
        "posture": "ok",
        "database": "ok",
        "storage": "ok",
        "disk": "ok",
    },
}
