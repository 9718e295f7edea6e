"""Little room on the disk: new work is refused in time, what runs ends well, and health says so."""

from __future__ import annotations

import subprocess

import pytest

from tests.support.workers import until

MIB = 1024 * 1024
HELLO = {"language": "bash", "code": "echo hi"}


@pytest.fixture
def small_disk(state):
    """A file system of 96 MiB for records and files."""
    for name in ("db", "storage"):
        (state / name).mkdir()
        options = f"size=96m,mode={'0700' if name == 'db' else '0755'}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(state / name)], check=True)
    yield state
    for name in ("db", "storage"):
        subprocess.run(["umount", "-l", str(state / name)], check=True)


@pytest.mark.parametrize("place", ["db", "storage"])
def test_below_the_reserve_new_work_is_refused_and_the_rest_goes_on(start_service, small_disk, place):
    service = start_service(DISK_RESERVE_MB="48")
    kept = service.run("bash", "echo kept")
    running = service.submit("bash", "sleep 3; echo done; head -c 400000 /dev/zero | tr '\\0' x")
    until(lambda: service.get(f"/v1/runs/{running}").body["status"] == "running")
    filler = small_disk / place / "filler"
    filler.write_bytes(bytes(60 * MIB))
    for reply in (
        service.post("/v1/runs", json=HELLO),
        service.post("/v1/runs", json={**HELLO, "background": True}),
        service.post("/v1/runs", json={**HELLO, "stream": True}),
        service.upload(b"x"),
    ):
        assert (reply.status, reply.body["error"]["code"]) == (503, "storage_low"), reply.body
        assert int(reply.headers["retry-after"]) >= 1
    health = service.get("/v1/health", token=None).body
    assert (health["status"], health["checks"]["disk"], health["checks"]["worker"]) == ("degraded", "fail", "ok")
    assert service.get("/readyz", token=None).status == 503
    assert service.get(f"/v1/runs/{kept['id']}").body == kept
    done = service.ended(running)
    assert (done["status"], done["stdout"][:5], len(done["stdout"])) == ("succeeded", "done\n", 400_005)
    filler.unlink()
    assert service.post("/v1/runs", json=HELLO).status == 200
    until(lambda: service.get("/v1/health", token=None).body["status"] == "ok")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request):
    """Settings of a database."""
    if request.param == "sqlite":
        return {}
    return {"DATABASE_URL": request.getfixturevalue("postgres").new_database()}


def test_random_outputs_of_one_key_stay_within_the_quota(start_service, state, database):
    """The attack that grew a database by a gigabyte a minute; another key's run is still there."""
    service = start_service(RECORDS_QUOTA_MB="24", **database)
    kept = service.run("bash", "echo kept", token=service.other_token)
    code = "head -c 3000000 /dev/urandom | base64 -w 0"
    runs = [service.run("bash", code, limits={"max_output_bytes": 8 * MIB}) for _ in range(25)]
    until(lambda: len(service.get("/v1/runs?limit=100").body["data"]) <= 6, 30)
    assert service.get(f"/v1/runs/{kept['id']}", token=service.other_token).body == kept
    assert service.get(f"/v1/runs/{runs[-1]['id']}").body == runs[-1]
    listed = service.get("/v1/runs?limit=100").body["data"]
    assert listed == runs[: -len(listed) - 1 : -1], "the newest are there, and whole"
    assert len(listed) >= 2
    blobs = [path.stat().st_size for path in (state / "storage/artifacts/blobs").rglob("*") if path.is_file()]
    assert blobs == [4_000_000] * 25, "those of forgotten runs go after a grace"
    if not database:
        assert sum(path.stat().st_size for path in (state / "db").iterdir()) < 8 * MIB


def test_a_large_request_is_a_blob_of_apis(start_service, state, database):
    service = start_service(**database)
    request = {"language": "bash", "code": "wc -c <big", "files": [{"path": "big", "content": "x" * MIB}]}
    run = service.post("/v1/runs", json=request).body
    assert run["stdout"] == f"{MIB}\n"
    told = service.get(f"/v1/runs/{run['id']}?include=request").body
    assert told.pop("request") == request
    assert told == run
    (blob,) = [path for path in (state / "storage/uploads/blobs").rglob("*") if path.is_file()]
    assert blob.stat().st_size > MIB
    assert service.request("DELETE", f"/v1/runs/{run['id']}").status == 200
    assert service.get("/v1/files").body["data"] == []
