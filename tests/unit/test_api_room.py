"""The disk reserve: asked of the kernel, on every disk that work fills."""

from __future__ import annotations

import os

import pytest

from api.errors import ApiError
from api.system.disk_space import DiskReserve
from config.settings import load_settings


def free(path):
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def test_below_the_reserve_new_work_is_refused(tmp_path):
    DiskReserve((tmp_path,), 0).require()
    DiskReserve((tmp_path,), free(tmp_path) // 2).require()
    low = DiskReserve((tmp_path / "not-there", tmp_path), free(tmp_path) * 2)
    assert not low.is_there()
    with pytest.raises(ApiError) as e:
        low.require()
    assert (e.value.status, e.value.error.code) == (503, "storage_low")
    assert int(e.value.headers["Retry-After"]) >= 1


@pytest.mark.parametrize(
    ("url", "places"),
    [
        (None, ["{state}/storage", "{state}/db"]),
        ("sqlite:////data/x.sqlite", ["{state}/storage", "/data"]),
        ("postgresql://host/db", ["{state}/storage"]),
    ],
)
def test_the_disks_are_those_that_this_service_writes_to(monkeypatch, tmp_path, url, places):
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    if url is not None:
        monkeypatch.setenv("DATABASE_URL", url)
    reserve = DiskReserve.of(load_settings())
    assert list(reserve._places) == [place.format(state=tmp_path) for place in places]
    assert reserve._reserve_bytes == 1024 * 1024 * 1024
