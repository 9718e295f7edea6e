"""Objects by name: written whole or not at all, replaced, listed with their age, and never outside of their prefix."""

from __future__ import annotations

import uuid

import pytest

from storage.errors import BlobMissing, StorageUnavailable
from storage.s3 import S3Location, connect
from storage.s3_objects import MAX_NAME_LENGTH, S3Objects
from tests.storage.conftest import free_port

MIB = 1024 * 1024


@pytest.fixture
def bucket(s3_server):
    name = f"o-{uuid.uuid4().hex[:12]}"
    s3_server.admin.create_bucket(Bucket=name)
    return name


@pytest.fixture
def objects(s3_server, bucket):
    return S3Objects(S3Location(s3_server.connection("path"), bucket, "up/layers/"))


def read(objects, name):
    with objects.open(name) as pieces:
        return b"".join(pieces)


@pytest.mark.parametrize("sizes", [(), (0,), (10,), (3, 0, 5), (8 * MIB,), (5 * MIB, 5 * MIB, 1), (1,) * 1000])
def test_pieces_become_one_object(objects, sizes):
    pieces = [bytes([at % 251]) * size for at, size in enumerate(sizes)]
    objects.put("ab/own-1", iter(pieces))
    assert read(objects, "ab/own-1") == b"".join(pieces)


def test_an_object_is_replaced_listed_and_deleted(objects, s3_server, bucket):
    objects.put("a/x", [b"first"])
    objects.put("a/x", [b"second"])
    objects.put("a/y", [])
    objects.put("b", [b"1"])
    assert read(objects, "a/x") == b"second"
    found = list(objects.listed())
    assert [(one.name, one.size) for one in found] == [("a/x", 6), ("a/y", 0), ("b", 1)]
    assert all(0 <= one.age_s < 60 for one in found)
    assert [one.name for one in objects.listed("a/")] == ["a/x", "a/y"]
    assert [one.name for one in objects.listed("a/", 1)] == ["a/x"]
    objects.delete("a/x")
    objects.delete("a/x")
    assert [one.name for one in objects.listed()] == ["a/y", "b"]
    assert s3_server.admin.list_objects_v2(Bucket=bucket)["Contents"][0]["Key"] == "up/layers/a/y"


@pytest.mark.parametrize("before", [0, 20 * MIB])
def test_an_object_whose_making_fails_is_as_it_was(objects, s3_server, bucket, before):
    def broken():
        yield bytes(before)
        raise OSError("no more")

    objects.put("a", [b"old"])
    with pytest.raises(OSError, match="no more"):
        objects.put("a", broken())
    assert read(objects, "a") == b"old"
    assert s3_server.admin.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_one_that_is_not_there_is_missing(objects):
    with pytest.raises(BlobMissing), objects.open("a"):
        pass


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "../a", "a/../b", "a//b", "A", "a\n", "é", "a" * (MAX_NAME_LENGTH + 1)]
)
def test_what_is_no_name_reaches_no_server(objects, name):
    for use in (
        lambda: objects.put(name, [b"1"]),
        lambda: objects.delete(name),
        lambda: objects.open(name).__enter__(),
    ):
        with pytest.raises(ValueError, match="name of an object"):
            use()
    assert list(objects.listed()) == []


def test_a_server_that_is_gone_is_unavailable(s3_server, monkeypatch):
    monkeypatch.setattr("storage.s3.ATTEMPTS", 1)
    gone = S3Objects(S3Location(connect(f"http://127.0.0.1:{free_port()}", "path"), "b", "layers/"))
    uses = {
        "put": lambda: gone.put("a", [b"1"]),
        "open": lambda: gone.open("a").__enter__(),
        "listed": lambda: list(gone.listed()),
        "delete": lambda: gone.delete("a"),
    }
    for use in uses.values():
        with pytest.raises(StorageUnavailable):
            use()
