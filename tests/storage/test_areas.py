"""Which process has which store, as the settings say."""

from __future__ import annotations

import hashlib
import os

import pytest

from config.settings import Settings
from storage import Blob, areas
from storage.errors import StorageUnavailable
from storage.layout import make_areas
from storage.local import LocalReader, LocalStore

DATA = b"some bytes"
BLOB = Blob(hashlib.sha256(DATA).hexdigest(), len(DATA))


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Settings of a service whose api has the account that runs the tests."""
    for name in list(os.environ):
        if name.lower() in Settings.model_fields:
            monkeypatch.delenv(name)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    make_areas(tmp_path / "storage", os.geteuid())
    return Settings(state_dir=tmp_path)


def read(reader, blob):
    with reader.open(blob) as content:
        return b"".join(content)


def hand_over(api, worker):
    """An upload goes one way, an artifact the other."""
    assert api.uploads.put([DATA], 100) == BLOB
    assert read(worker.uploads, BLOB) == DATA
    assert worker.artifacts.stat(BLOB.sha256) is None
    assert worker.artifacts.put([DATA], 100) == BLOB
    assert read(api.artifacts, BLOB) == DATA


def test_uploads_and_artifacts_pass_through_a_directory(settings):
    api, worker = areas.for_api(settings), areas.for_worker(settings)
    hand_over(api, worker)
    assert (type(api.uploads), type(api.artifacts)) == (LocalStore, LocalReader)
    assert (type(worker.uploads), type(worker.artifacts)) == (LocalReader, LocalStore)
    assert api.artifacts.presigned(BLOB, {}, 60) is None


def test_uploads_and_artifacts_pass_through_a_bucket(settings, s3_server):
    s3_server.admin.create_bucket(Bucket="passing")
    told = {"storage_url": "s3://passing/there", "s3_endpoint_url": s3_server.url, "s3_presign": True}
    there = settings.model_copy(update=told)
    api, worker = areas.for_api(there), areas.for_worker(there)
    hand_over(api, worker)
    keys = [entry["Key"] for entry in s3_server.admin.list_objects_v2(Bucket="passing")["Contents"]]
    assert keys == [f"there/artifacts/{BLOB.sha256}", f"there/uploads/{BLOB.sha256}"]
    download = {"Content-Type": "text/csv", "Content-Disposition": "attachment"}
    for reader in (api.uploads, api.artifacts):
        assert reader.presigned(BLOB, download, 60).startswith(f"{s3_server.url}/passing/there/")
    for reader in (api.artifacts, worker.uploads):
        assert not hasattr(reader, "writer")


def test_without_a_prefix_areas_stand_at_the_top_of_the_bucket(settings, s3_server):
    s3_server.admin.create_bucket(Bucket="at-the-top")
    told = {"storage_url": "s3://at-the-top", "s3_endpoint_url": s3_server.url}
    areas.for_api(settings.model_copy(update=told)).uploads.put([DATA], 100)
    keys = [entry["Key"] for entry in s3_server.admin.list_objects_v2(Bucket="at-the-top")["Contents"]]
    assert keys == [f"uploads/{BLOB.sha256}"]


def test_areas_that_nobody_made(tmp_path):
    settings = Settings(state_dir=tmp_path)
    for open_them in (areas.for_api, areas.for_worker):
        with pytest.raises(StorageUnavailable):
            open_them(settings)
