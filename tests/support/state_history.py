"""A short history of a service, and the check that it is all there again: for backups and upgrades.

    python -m tests.support.state_history tests/faults/data/state-0.1.0.tar.xz

makes a state directory on the images of the tests' state directory (`make test-setup` builds them), and packs it with
a description of its history. It is to be called before a release, with that version's name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tarfile
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from config.settings import Settings
from storage.links import Links
from storage.signing import kept_key
from tests.support.own_service import OwnService
from tests.support.place import PORT, STATE
from tests.support.service import ADMIN_TOKEN, Service
from tests.support.workers import until

#: Settings of the services that make it and keep it: it stays for as long as the tests are likely to be run, and they
#: have the languages of its programs.
LASTING = {
    "RETENTION_HOURS": "876000",
    "RUNS_RETENTION_DAYS": "36500",
    "LINK_TTL_S": "604800",
    "LANGUAGES": "python,bash",
    "WARM_POOL": "python=1,bash=1",
}
HISTORY = "history.json"
#: Of a state directory, what a service keeps and cannot make again.
KEPT = ("db", "api/signing.key", "api/instance", "storage")
PLAN = "free"
UPLOAD = b"1,2\n3,4\n"
PROGRAMS = (
    ("python", "import sys; print(sum(map(int, sys.stdin)))", {"stdin": "1\n2\n"}),
    ("bash", "echo lost >&2; exit 3", {}),
    ("python", "print('x' * 300_000)", {}),  # longer than a record: its output is a blob
    (
        "python",
        "open('outputs/table.csv', 'w').write(open('inputs/in.csv').read() * 2)",
        {"metadata": {"part": "files"}},
    ),
)


def make_history(service: Service) -> dict[str, Any]:
    """Have a service create a key, an upload, runs and an artifact; a description of them, as JSON."""
    made = service.post("/v1/admin/keys", {"plan": PLAN, "label": "history"}, token=ADMIN_TOKEN)
    assert made.status in (200, 201), made.body
    key = made.body["key"]
    form = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="in.csv"\r\n\r\n' + UPLOAD + b"\r\n--b--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    sent = service.post("/v1/files", data=form, headers=headers, token=key)
    assert sent.status == 200, sent.body
    runs = {}
    for language, code, fields in PROGRAMS:
        inputs = {"files": [{"path": "in.csv", "id": sent.body["id"]}]} if "in.csv" in code else {}
        reply = service.post("/v1/runs", {"language": language, "code": code, **fields, **inputs}, token=key)
        assert reply.status == 200, reply.body
        runs[reply.body["id"]] = _lasting(reply.body)
    files = {file["id"]: _contents(service, file["id"], key) for file in _listed(service, "/v1/files", key)}
    assert len(files) == 2, files
    today = datetime.now(UTC).date()
    span = f"from={today - timedelta(days=1)}&to={today + timedelta(days=1)}"
    until(lambda: _usage(service, span, key)["runs"] == len(PROGRAMS), 60)
    return {"key": key, "runs": runs, "files": files, "span": span, "usage": _usage(service, span, key)}


def check_history(service: Service, history: dict[str, Any], *links: str) -> None:
    """Assert that all of it is there: runs, events, files by key and by `links`, the key, its usage."""
    key = history["key"]
    assert {run["id"] for run in _listed(service, "/v1/runs", key)} == set(history["runs"])
    for run_id, run in history["runs"].items():
        assert _lasting(service.get(f"/v1/runs/{run_id}", token=key).body) == run
        with service.events(f"/v1/runs/{run_id}/events", token=key) as events:
            told = "".join(event["data"] for _, event in events if event["event"] == "stdout")
        assert told == run["stdout"]
    for file_id, digest in history["files"].items():
        assert _contents(service, file_id, key) == digest
    for link in links:
        address = urlsplit(link)
        reply = service.get(f"{address.path}?{address.query}", token=None)
        assert reply.status == 200
        assert hashlib.sha256(reply.raw).hexdigest() in history["files"].values()
    assert _usage(service, history["span"], key) == history["usage"]


def link_of_kept_key(state: Path, file_id: str) -> str:
    """Return a link that the key kept in a state directory has signed."""
    return Links((kept_key(Settings(state_dir=state).api_home),), base_url="http://x", ttl_s=600).make(file_id).url


def _usage(service: Service, span: str, key: str) -> dict[str, Any]:
    body = service.get(f"/v1/usage?{span}", token=key).body
    return {name: body[name] for name in ("plan", "runs", "cpu_seconds", "wall_seconds", "bytes_in", "bytes_out")}


def _listed(service: Service, path: str, key: str) -> list[dict[str, Any]]:
    reply = service.get(f"{path}?limit=100", token=key)
    assert reply.status == 200, reply.body
    found: list[dict[str, Any]] = reply.body["data"]
    return found


def _lasting(run: dict[str, Any]) -> dict[str, Any]:
    """Return what of a run's document must not change: links are signed anew for each reader."""
    kept = {name: run[name] for name in ("id", "status", "language", "stdout", "stderr", "exit_code", "created_at")}
    return kept | {
        "artifacts": [[a["path"], a["sha256"]] for a in run["artifacts"]],
        "metadata": run.get("metadata"),
    }


def _contents(service: Service, file_id: str, key: str) -> str:
    reply = service.get(f"/v1/files/{file_id}/content", token=key)
    assert reply.status == 200, reply.body
    return hashlib.sha256(reply.raw).hexdigest()


def pack(target: Path) -> None:
    """Make a state directory with a history, and pack what a service keeps of it."""
    state = Path(tempfile.mkdtemp(prefix="runyard-test-", dir="/var/lib"))
    state.chmod(0o755)
    own = OwnService(Service("127.0.0.1", PORT, STATE), state, 0x7900_0000, **LASTING)
    try:
        history = make_history(own.up())
        own.down()
        (state / HISTORY).write_text(json.dumps(history, indent=1))
        with tarfile.open(target, "w:xz", preset=9) as tar:
            for name in (*KEPT, HISTORY):
                tar.add(state / name, name, filter=_packed)
    finally:
        own.down()
        shutil.rmtree(state)
    print(f"{target}: {target.stat().st_size} bytes")


def _packed(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out what belongs to nobody, and the account numbers of this machine."""
    if info.name.endswith((".lock", "/tmp")):
        return None
    info.uid = info.gid = 0
    return info


def unpack(source: Path, state: Path, api_uid: int) -> dict[str, Any]:
    """Unpack a state directory for api's account `api_uid`; the description of its history."""
    with tarfile.open(source) as tar:
        tar.extractall(state)  # made by pack()
    for path in (state / name for name in KEPT):
        artifacts = path / "artifacts"
        for each in (path, *path.rglob("*")):
            owner = 0 if each == state / "storage" or each == artifacts or artifacts in each.parents else api_uid
            os.chown(each, owner, api_uid if each != state / "storage" else 0)
            if artifacts in (each, *each.parents) and each.is_dir():
                each.chmod(0o2750)
    os.chown(state / "api", api_uid, api_uid)
    (state / "api").chmod(0o700)
    history: dict[str, Any] = json.loads((state / HISTORY).read_text())
    return history


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
