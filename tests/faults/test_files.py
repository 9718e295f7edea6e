"""Files when storage is full, gone or damaged, when somebody is killed, and when they are large."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from config.ids import new_id
from protocol.job import Job, JobInput
from tests.api.test_http_files import form, part, send, upload
from tests.support.s3 import s3_server
from tests.support.service import make

MIB = 1024 * 1024
TEN = "printf 0123456789 > outputs/ten.txt"
#: Links that last for a second, at another address, and room for 2 MB: what two tests share.
LINKS_AND_QUOTA = {
    "LINK_TTL_S": "1",
    "PUBLIC_BASE_URL": "http://127.0.0.1/prefix",
    "STORAGE_QUOTA_MB": "2",
    "MAX_UPLOAD_MB": "5",
}


def link(service, artifact, headers=None):
    address = urlsplit(artifact["url"])
    return service.get(f"{address.path}?{address.query}", headers, token=None)


def checks(service):
    return service.get("/readyz", token=None).body["checks"]


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)
    return found


# -- a full disk -----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(state):
    path = state / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=0755", "tmpfs", str(path)], check=True)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path):
    """Take all the room that is left."""
    with path.open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(4096))
    assert os.statvfs(path).f_bavail == 0


def test_a_full_disk_costs_the_file_and_nothing_else(small_disk, start_service):
    service = start_service(STORAGE_DIR=str(small_disk), DISK_RESERVE_MB="0")
    kept = upload(service, b"kept")
    reply = send(service, form(part(content=os.urandom(8 * MIB))))
    assert (reply.status, reply.body["error"]["code"]) == (503, "storage_unavailable")
    assert reply.headers["retry-after"]
    run = service.run("bash", f"{TEN}; head -c 8M /dev/urandom > outputs/z")
    assert run["status"] == "succeeded"
    assert run["skipped_artifacts"] == [{"path": "z", "reason": "not_stored"}]
    (artifact,) = run["artifacts"]
    assert link(service, artifact).raw == b"0123456789"
    assert [list(path.iterdir()) for path in small_disk.glob("*/tmp")] == [[], []]
    fill(small_disk / "filler")
    until(lambda: checks(service)["storage"] == "fail")
    assert service.get(f"/v1/files/{kept['id']}/content").raw == b"kept"
    assert service.run("bash", TEN)["skipped_artifacts"] == [{"path": "ten.txt", "reason": "not_stored"}]
    (small_disk / "filler").unlink()
    until(lambda: checks(service)["storage"] == "ok")
    assert len(service.run("bash", TEN)["artifacts"]) == 1


# -- bytes that are gone or others -----------------------------------------------------------------


def test_lost_and_damaged_bytes_are_never_passed_off_as_the_file(service):
    blobs = service.state / "storage" / "uploads" / "blobs"
    damaged, lost = upload(service, os.urandom(8)), upload(service, os.urandom(8))
    (blobs / damaged["sha256"][:2] / damaged["sha256"]).write_bytes(b"DAMAGED!")
    (blobs / lost["sha256"][:2] / lost["sha256"]).unlink()
    for file in (damaged, lost):
        reply = service.get(f"/v1/files/{file['id']}/content")
        assert (reply.status, reply.body["error"]["code"]) == (500, "file_damaged")
        asked = {"language": "bash", "code": "touch outputs/ran", "files": [{"path": "x", "id": file["id"]}]}
        reply = service.post("/v1/runs", json=asked)
        assert (reply.status, reply.body["error"]["code"]) == (500, "file_damaged")
        run = service.ended(service.submit(**asked))
        assert (run["status"], run["error"]["code"], run["artifacts"]) == ("error", "file_damaged", [])
    assert service.run("bash", "echo on")["stdout"] == "on\n"


def test_an_upload_that_is_a_link_is_not_followed(service):
    file = upload(service, os.urandom(100))
    blob = service.state / "storage" / "uploads" / "blobs" / file["sha256"][:2] / file["sha256"]
    blob.unlink()
    blob.symlink_to("/etc/shadow")
    asked = {"language": "bash", "code": "cat inputs/x", "files": [{"path": "x", "id": file["id"]}]}
    assert service.post("/v1/runs", json=asked).body["error"]["code"] == "file_damaged"


# -- time ------------------------------------------------------------------------------------------


def test_files_are_kept_for_their_time_and_no_link_outlives_them(start_service):
    service = start_service(RETENTION_HOURS="0.002")  # 7.2 s
    run, file = service.run("bash", TEN), upload(service, b"x")
    (artifact,) = run["artifacts"]
    assert link(service, artifact).status == 200
    assert service.get(f"/v1/files/{file['id']}").status == 200
    until(lambda: link(service, artifact).status in (403, 404))
    until(lambda: service.get(f"/v1/files/{file['id']}").status == 404)
    (again,) = service.get(f"/v1/runs/{run['id']}").body["artifacts"]
    assert (again["url"], again["expires_at"], again["sha256"]) == (None, None, artifact["sha256"])


def test_a_link_that_was_good_has_expired(shared_service):
    service = shared_service(**LINKS_AND_QUOTA)
    (artifact,) = service.run("bash", TEN)["artifacts"]
    assert artifact["url"].startswith("http://127.0.0.1/prefix/v1/files/")
    time.sleep(2.1)
    address = urlsplit(artifact["url"].replace("/prefix", ""))
    reply = service.get(f"{address.path}?{address.query}", token=None)
    assert (reply.status, reply.body["error"]["code"]) == (403, "link_expired")


def test_a_key_keeps_no_more_than_its_quota(shared_service):
    service = shared_service(**LINKS_AND_QUOTA)
    first = upload(service, os.urandom(MIB))
    reply = send(service, form(part(content=os.urandom(MIB + 1))))
    assert (reply.status, reply.body["error"]["code"]) == (413, "storage_quota_exceeded")
    assert str(2 * MIB) in reply.body["error"]["message"]
    upload(service, os.urandom(MIB))
    assert send(service, form(part(content=b"x"))).status == 413
    assert upload(service, b"", token=service.other_token)["size"] == 0
    assert service.request("DELETE", f"/v1/files/{first['id']}").status == 200
    upload(service, b"x")


def test_make_gc_removes_what_has_had_its_time(start_service):
    service = start_service(RETENTION_HOURS="0.001")  # 3.6 s
    upload(service, b"x")
    service.run("bash", TEN)
    place = {"STATE_DIR": str(service.state), "UID_BASE": str(0x7900_0000)}
    make("down", **place)
    blobs = list((service.state / "storage").glob("*/blobs/*/*"))
    assert len(blobs) == 2
    for blob in blobs:
        os.utime(blob, (time.time() - 120,) * 2)
    time.sleep(3.6)
    said = make("gc", **place).stdout
    assert "2 blobs removed" in said, said
    assert list((service.state / "storage").glob("*/blobs/*/*")) == []
    owners = {path.stat().st_uid for path in (service.state / "db").iterdir()}
    assert owners == {0x7900_0000}


# -- kills -----------------------------------------------------------------------------------------


def test_a_worker_removes_what_nobody_names_but_not_what_it_still_owes(start_worker, state):
    worker = start_worker()
    job = Job(run_id=new_id("run"), language="bash", code=TEN, key="test")
    result = worker.dispatcher.run(job, keep=lambda _result: False)
    sha256 = result["artifacts"][0]["sha256"]
    path = state / "storage" / "artifacts" / "blobs" / sha256[:2] / sha256
    os.utime(path, (1, 1))
    assert worker.dispatcher.forget([sha256]) == []
    assert path.read_bytes() == b"0123456789"
    worker.dispatcher.acknowledge(job.run_id)
    assert until(lambda: worker.dispatcher.forget([sha256])) == [sha256]
    assert not path.exists()


def test_a_worker_killed_between_blob_and_record_leaves_what_can_be_removed(start_worker, state):
    first = start_worker()
    job = Job(run_id=new_id("run"), language="bash", code=TEN, key="test")
    sha256 = first.dispatcher.run(job, keep=lambda _result: False)["artifacts"][0]["sha256"]
    first.stop(signal.SIGKILL)
    tmp = state / "storage" / "artifacts" / "tmp"
    (tmp / "left").write_bytes(b"x")
    second = start_worker()
    until(lambda: not list(tmp.iterdir()))
    assert second.dispatcher.forget([sha256]) == []  # stored a moment ago
    os.utime(state / "storage" / "artifacts" / "blobs" / sha256[:2] / sha256, (1, 1))
    assert second.dispatcher.forget([sha256]) == [sha256]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (JobInput("/x", "upload", "0" * 64, 1), "relative"),
        (JobInput("inputs/../x", "upload", "0" * 64, 1), "'..'"),
        (JobInput("inputs/x", "upload", "../../etc/passwd", 1), "names no blob"),
        (JobInput("inputs/x", "elsewhere", "0" * 64, 1), "must be upload or artifact"),
        (JobInput("inputs/x", "upload", "0" * 64, -1), "must be a size"),
        (JobInput("inputs/x", "upload", "0" * 64, 1 << 40), "exceed"),
    ],
)
def test_the_worker_believes_nothing_of_an_input(shared_worker, item, words):
    refusal = shared_worker.run("bash", "true", inputs=(item,))
    assert (refusal.status, words in refusal.message) == (400, True), refusal


# -- large files -----------------------------------------------------------------------------------


def resident_mb(service, words):
    """The most that the process with these words in its command line has held."""
    found = 0
    for entry in os.listdir("/proc"):
        try:
            argv = Path(f"/proc/{entry}/cmdline").read_text()
            status = Path(f"/proc/{entry}/status").read_text()
        except OSError:
            continue
        if str(service.state) in argv and words in argv:
            found = max(found, int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) // 1024)
    assert found
    return found


def test_a_hundred_megabytes_pass_through_in_little_memory(start_service):
    service = start_service(MAX_UPLOAD_MB="100")
    upload(service, b"warm")
    service.run("bash", TEN)
    before = resident_mb(service, "gunicorn"), resident_mb(service, "-m\0worker")
    content = os.urandom(MIB) * 100
    file = upload(service, content)
    assert service.get(f"/v1/files/{file['id']}/content").raw == content
    asked = {"files": [{"path": "x", "id": file["id"]}], "limits": {"memory_mb": 512}}
    assert service.run("bash", "stat -c %s inputs/x", **asked)["stdout"] == f"{100 * MIB}\n"
    after = resident_mb(service, "gunicorn"), resident_mb(service, "-m\0worker")
    assert after[0] - before[0] < 64
    assert after[1] - before[1] < 64


# -- S3 --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3():
    """An S3 server with one bucket, `runs`."""
    with s3_server("runs") as server:
        yield server


@pytest.fixture
def in_s3(s3, start_service):
    """Start a service whose blobs are in a folder of the bucket."""

    def start(folder: str, **settings: str):
        settings |= {"STORAGE_URL": f"s3://runs/{folder}", "S3_ENDPOINT_URL": s3.url, "S3_ADDRESSING": "path"}
        return start_service(**settings)

    return start


def test_downloads_are_sent_to_s3_where_that_is_wanted(in_s3, s3):
    service = in_s3("presigned", S3_PRESIGN="1")
    (artifact,) = service.run("bash", TEN)["artifacts"]
    reply = link(service, artifact)
    assert reply.status == 302
    assert reply.headers["location"].startswith(s3.url)
    assert "X-Amz-Signature" in reply.headers["location"]
    assert reply.headers["cache-control"] == "private, no-store"
    head = service.request("HEAD", f"/v1/files/{artifact['id']}/content")
    assert (head.status, head.headers["content-length"]) == (200, "10")


def test_files_in_s3_come_and_go_as_on_a_disk(in_s3):
    service = in_s3("direct")
    content = os.urandom(9 * MIB)
    file = upload(service, content)
    assert service.get(f"/v1/files/{file['id']}/content").raw == content
    part = service.get(f"/v1/files/{file['id']}/content", {"Range": "bytes=5-9"})
    assert (part.status, part.raw) == (206, content[5:10])
    run = service.run(
        "bash", "sha256sum < inputs/x > outputs/sum; touch outputs/empty", files=[{"path": "x", "id": file["id"]}]
    )
    found = {artifact["name"]: link(service, artifact).raw for artifact in run["artifacts"]}
    assert found == {"sum": f"{file['sha256']}  -\n".encode(), "empty": b""}
    assert list((service.state / "storage").glob("*/blobs/*/*")) == []


def test_s3_out_of_reach(in_s3, s3):
    """The last test of this server: it is stopped here."""
    service = in_s3("lost")
    file = upload(service, b"x")
    s3.stop()
    reply = send(service, form(part(content=b"y")))
    assert (reply.status, reply.body["error"]["code"]) == (503, "storage_unavailable")
    assert service.get(f"/v1/files/{file['id']}/content").status == 503
    asked = {"language": "bash", "code": "true", "files": [{"path": "x", "id": file["id"]}]}
    reply = service.post("/v1/runs", json=asked)
    assert (reply.status, reply.body["error"]["code"]) == (503, "storage_unavailable")
    run = service.run("bash", f"{TEN}; cp outputs/ten.txt outputs/two")
    assert (run["status"], run["artifacts"], run["skipped_artifacts_count"]) == ("succeeded", [], 2)
    assert {skip["reason"] for skip in run["skipped_artifacts"]} == {"not_stored"}
    until(lambda: checks(service)["storage"] == "fail")
    assert [item["id"] for item in service.get("/v1/files").body["data"]] == [file["id"]]
