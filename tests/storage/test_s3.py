"""What is S3's own: addresses, parts, presigned links, and servers that refuse, vanish, stall and lie."""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.awsrequest import AWSResponse
from urllib3 import HTTPResponse

from storage import Blob, s3
from storage.download import headers
from storage.errors import StorageFull, StorageMisconfigured, StorageUnavailable
from storage.s3 import S3Location, S3Store, connect
from tests.storage.conftest import S3Rig, free_port

MIB = 1024 * 1024
REPO = Path(__file__).resolve().parents[2]
DATA = b"some bytes"
BLOB = Blob(hashlib.sha256(DATA).hexdigest(), len(DATA))


def store_at(url, spool, bucket="some-bucket"):
    return S3Store(S3Location(connect(url, "path"), bucket, "p/"), spool)


def every_use(store):
    return {
        "put": lambda: store.put([DATA], MIB),
        "put in parts": lambda: store.put([b"x" * MIB] * 9, 100 * MIB),
        "open": lambda: store.open(BLOB),
        "stat": lambda: store.stat(BLOB.sha256),
        "stored": lambda: list(store.stored()),
        "delete": lambda: store.delete(BLOB.sha256),
        "clean": store.clean,
        "check": store.check,
    }


@pytest.mark.parametrize("addressing", ["path", "virtual"])
def test_both_ways_to_name_a_bucket(s3_server, tmp_path, addressing):
    asked = []
    rig = S3Rig(s3_server, tmp_path, addressing)
    rig.place.client.meta.events.register("before-send.s3", lambda request, **_: asked.append(request.url))
    blob = rig.store.put([DATA], MIB)
    with rig.reader.open(blob) as content:
        assert b"".join(content) == DATA
    port = s3_server.port
    begins = {
        "path": f"http://localhost:{port}/{rig.bucket}/up/",
        "virtual": f"http://{rig.bucket}.localhost:{port}/up/",
    }
    assert asked
    assert all(url.startswith(begins[addressing]) for url in asked)
    assert rig.everything() == [blob.sha256]


@pytest.mark.parametrize(("size", "parts"), [(8 * MIB - 1, None), (8 * MIB, 1), (8 * MIB + 1, 2), (20 * MIB, 3)])
def test_large_blobs_are_sent_in_parts(s3, size, parts):
    blob = s3.store.put([b"x" * size], size)
    found = s3.admin.head_object(**s3.key(blob.sha256))
    assert found["ContentLength"] == size
    assert found["ETag"].strip('"').partition("-")[2] == ("" if parts is None else str(parts))


def test_what_is_sent_is_signed_with_its_hash_under_tls_too(tmp_path, s3_server):
    sent = []

    def answer(request, **_):
        sent.append(request.headers)
        return AWSResponse(request.url, 200, {}, HTTPResponse(BytesIO()))

    store = store_at("https://s3.example.test", tmp_path)
    store._client.meta.events.register("before-send.s3", answer)
    blob = store.put([DATA], MIB)
    (put,) = sent
    assert put["x-amz-content-sha256"] == blob.sha256.encode()


def test_areas_of_a_bucket_do_not_see_each_other(s3):
    other = S3Store(S3Location(s3.place.client, s3.bucket, "up/artifacts/"), s3.spool)
    blob = other.put([DATA], MIB)
    assert s3.reader.stat(blob.sha256) is None
    assert list(s3.reader.stored()) == []
    s3.admin.put_object(Bucket=s3.bucket, Key=s3.place.prefix + "notes.txt", Body=b"x")
    s3.admin.put_object(Bucket=s3.bucket, Key=s3.place.prefix + f"x/{blob.sha256}", Body=b"x")
    assert list(s3.reader.stored()) == []


def test_listing_turns_the_page(s3, monkeypatch):
    monkeypatch.setattr("storage.s3.PAGE_KEYS", 3)
    for n in range(7):
        s3.admin.put_object(Bucket=s3.bucket, Key=f"{s3.place.prefix}{n:064x}", Body=b"x")
    assert sorted(found.blob.sha256 for found in s3.reader.stored()) == [f"{n:064x}" for n in range(7)]


def test_uploads_in_parts_that_nobody_finished_are_removed_when_they_are_old(s3, monkeypatch):
    key = {"Bucket": s3.bucket, "Key": s3.place.prefix + BLOB.sha256}
    begun = s3.admin.create_multipart_upload(**key)
    s3.admin.upload_part(**key, UploadId=begun["UploadId"], PartNumber=1, Body=b"x" * 100)
    # moto's server says of every such upload that it was begun in 2010.
    monkeypatch.setattr("storage.s3.ABANDONED", timedelta(days=365 * 100))
    assert s3.store.clean() == 0
    assert s3.everything() == [key["Key"]]
    monkeypatch.undo()
    other_area = S3Store(S3Location(s3.place.client, s3.bucket, "up/artifacts/"), s3.spool)
    assert other_area.clean() == 0
    assert s3.store.clean() == 1
    assert s3.everything() == []


def test_no_presigned_link_unless_it_is_asked_for(s3):
    blob = s3.store.put([DATA], MIB)
    assert s3.store.presigned(blob, headers("a.txt", "text/plain"), 60) is None


def test_a_presigned_link_hands_over_the_blob_as_a_download(s3):
    blob = s3.store.put([DATA], MIB)
    store = S3Store(s3.place, s3.spool, presign=True)
    link = store.presigned(blob, headers("résumé.html", "text/html"), 60)
    address = urlsplit(link)
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=30)
    connection.request("GET", f"{address.path}?{address.query}", headers={"Host": address.netloc})
    reply = connection.getresponse()
    assert (reply.status, reply.read()) == (200, DATA)
    assert reply.headers["Content-Disposition"].startswith("attachment;")
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    connection.close()
    assert "X-Amz-Expires=60" in link
    assert "X-Amz-Signature=" in link


def test_a_server_that_is_not_there(tmp_path, s3_server):
    store = store_at(f"http://127.0.0.1:{free_port()}", tmp_path)
    for name, use in every_use(store).items():
        began = time.monotonic()
        with pytest.raises(StorageUnavailable, match=r"^storage does not answer$"):
            use()
        assert time.monotonic() - began < 15, name
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_is_not_there(tmp_path, s3_server):
    store = store_at(s3_server.url, tmp_path, "no-such-bucket")
    uses = every_use(store)
    del uses["stat"], uses["delete"]  # a HEAD has no body: S3 says nothing of what is missing
    for use in uses.values():
        with pytest.raises(StorageUnavailable, match=r"^storage refused the request$") as refused:
            use()
        assert "no-such-bucket" not in str(refused.value)


def test_no_credentials(tmp_path, s3_server, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StorageUnavailable):
        store_at(s3_server.url, tmp_path).put([DATA], MIB)


def test_an_address_that_is_none(tmp_path):
    with pytest.raises(StorageMisconfigured, match="S3_ENDPOINT_URL"):
        connect("nonsense", "path")


@pytest.fixture
def fake_server(monkeypatch):
    """A server that answers each connection with what it is told to, and counts them."""
    monkeypatch.setattr(s3, "READ_TIMEOUT_S", 1)
    listening = socket.create_server(("127.0.0.1", 0))
    connections = []

    def start(answer):
        def serve():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                connections.append(connection)
                connection.recv(65536)
                connection.sendall(answer)
                if answer.endswith(b"CUT"):
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}", connections

    yield start
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    for connection in connections:
        connection.close()


def reply(status, body=b"", **fields):
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_a_server_that_never_answers_is_given_up(tmp_path, fake_server, s3_server):
    url, connections = fake_server(b"")
    began = time.monotonic()
    with pytest.raises(StorageUnavailable):
        store_at(url, tmp_path).stat(BLOB.sha256)
    assert time.monotonic() - began < 15
    assert len(connections) == s3.ATTEMPTS


def test_a_server_that_fails_is_asked_again_and_not_for_ever(tmp_path, fake_server, s3_server):
    url, connections = fake_server(reply("503 Slow Down", Content_Length=0, Connection="close"))
    with pytest.raises(StorageUnavailable):
        store_at(url, tmp_path).put([DATA], MIB)
    assert len(connections) == s3.ATTEMPTS


def test_a_full_server_is_full(tmp_path, fake_server, s3_server):
    body = b"<Error><Code>QuotaExceeded</Code><Message>secret-bucket is full</Message></Error>"
    url, _ = fake_server(reply("403 Forbidden", body, Content_Length=len(body), Connection="close"))
    with pytest.raises(StorageFull, match=r"^storage is full$"):
        store_at(url, tmp_path).put([DATA], MIB)


@pytest.mark.parametrize("ending", [b"CUT", b"wait"])
def test_a_server_that_stops_in_the_middle(tmp_path, fake_server, s3_server, ending):
    range_header = f"bytes 0-{BLOB.size - 1}/{BLOB.size}"
    url, _ = fake_server(reply("206 Partial Content", ending, Content_Length=BLOB.size, Content_Range=range_header))
    with pytest.raises(StorageUnavailable):
        store_at(url, tmp_path).open(BLOB)


def test_a_full_spool_leaves_nothing(tmp_path, s3):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=True)
    try:
        store = S3Store(s3.place, disk)
        with pytest.raises(StorageFull):
            store.put([b"x" * MIB] * 5, 100 * MIB)
        assert list(disk.iterdir()) == []
        assert s3.everything() == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


KILLED = """
import sys, time
from pathlib import Path
from storage.s3 import S3Location, S3Store, connect
url, bucket, spool = sys.argv[1:]
writer = S3Store(S3Location(connect(url, "path"), bucket, "up/uploads/"), Path(spool)).writer(1 << 30)
for _ in range(5):
    writer.write(b"x" * (1 << 20))
print("here", flush=True)
time.sleep(60)
"""


def test_a_killed_writer_leaves_nothing(s3, s3_server):
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, s3_server.url, s3.bucket, str(s3.spool)],
        cwd=REPO,
        stdout=subprocess.PIPE,
        env=os.environ,
        text=True,
    )
    assert child.stdout.readline() == "here\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert s3.everything() == []
