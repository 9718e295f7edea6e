"""Little room on the disk: new work is refused in time, what runs ends well, and health says so."""

from __future__ import annotations

import subprocess

import pytest
from workers import until

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
    boundary = "----x"
    form = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--{boundary}--\r\n'
    ).encode()
    upload = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    for reply in (
        service.post("/v1/runs", json=HELLO),
        service.post("/v1/runs", json={**HELLO, "background": True}),
        service.post("/v1/runs", json={**HELLO, "stream": True}),
        service.request("POST", "/v1/files", form, upload),
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


def test_random_outputs_of_one_key_stay_within_the_quota(start_service, state):
    """The attack that grew a database by a gigabyte a minute; another key's run is still there."""
    service = start_service(RECORDS_QUOTA_MB="24", API_KEYS="dev_123:dev:1000:1000,other_456:other:1000:1000")
    kept = service.run("bash", "echo kept", token=service.other_token)
    code = "head -c 3000000 /dev/urandom | base64 -w 0"
    limits = {"max_output_bytes": 8 * MIB}
    runs = [service.run("bash", code, limits=limits)["id"] for _ in range(25)]

    def size():
        places = [*(state / "db").iterdir(), *(state / "storage").rglob("*")]
        return sum(path.stat().st_size for path in places if path.is_file())

    until(lambda: service.get(f"/v1/runs/{runs[0]}").status == 404, 30)
    assert service.get(f"/v1/runs/{kept['id']}", token=service.other_token).body == kept
    newest = service.get(f"/v1/runs/{runs[-1]}").body
    assert len(newest["stdout"]) == 4_000_000
    listed = service.get("/v1/runs?limit=100").body["data"]
    assert 2 <= len(listed) <= 8
    # Removed blobs stay for a grace of minutes; the database itself is small at once.
    assert sum(path.stat().st_size for path in (state / "db").iterdir()) < size()
