"""The lease of an instance, as api takes and keeps it."""

from __future__ import annotations

import threading

import pytest

from api.system.instance_lease import FILE, Lease, SecondInstance, acquire, this_instance
from config.settings import Settings, SettingsError
from records import migrate, open_records
from records.leases import Instance

OTHER = Instance("inst_of_another", "elsewhere", "boot")


@pytest.fixture
def leases(tmp_path):
    url = f"sqlite:///{tmp_path}/records.sqlite"
    migrate(url)
    records = open_records(url)
    yield records.leases
    records.close()


def test_the_id_is_made_once_and_kept(tmp_path):
    folder = tmp_path / "api"
    made = []
    threads = [threading.Thread(target=lambda: made.append(this_instance(folder))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({instance.id for instance in made}) == 1
    assert [path.name for path in folder.iterdir()] == [FILE]
    assert this_instance(folder) == made[0]
    assert this_instance(tmp_path / "another").id != made[0].id


@pytest.mark.parametrize("content", ["", "x", "inst_" + "0" * 24 + "\ninst_"])
def test_a_damaged_id_is_said(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(SettingsError, match="damaged"):
        this_instance(tmp_path)


def test_one_that_lives_is_not_waited_out(leases, tmp_path):
    leases.acquire(OTHER)
    lives = Lease(leases, OTHER, beat_s=0.02)
    lives.start()
    with pytest.raises(SecondInstance, match="this one does not share its workers"):
        acquire(leases, this_instance(tmp_path / "api"), look_s=0.02)
    lives.stop()
    assert lives.held


def test_the_time_of_a_lease_is_set_and_a_third_of_it_passes_between_heartbeats(tmp_path):
    url = f"sqlite:///{tmp_path}/short.sqlite"
    migrate(url)
    lease_ms = Settings(lease_s=1).lease_ms
    short, as_ever = open_records(url, lease_ms=lease_ms), open_records(url)
    short.leases.acquire(OTHER)
    kept = Lease(short.leases, OTHER)
    kept.start()
    instance = this_instance(tmp_path / "api")
    with pytest.raises(SecondInstance):
        acquire(short.leases, instance, look_s=0.02)
    kept.stop()
    assert as_ever.leases.acquire(instance) is not None
    acquire(short.leases, instance, look_s=0.02)
    short.close()
    as_ever.close()


def test_one_that_is_killed_is_waited_out(leases, tmp_path):
    leases.acquire(OTHER)
    threading.Timer(0.2, leases.release, (OTHER,)).start()
    acquire(leases, this_instance(tmp_path / "api"), look_s=0.02)
    assert leases.acquire(OTHER) is not None


def test_a_lease_that_was_lost_is_known_and_taken_again_when_it_is_free(leases, tmp_path):
    mine = this_instance(tmp_path / "api")
    leases.acquire(mine)
    lease = Lease(leases, mine)
    lease.beat()
    assert lease.held
    leases.release(mine)
    leases.acquire(OTHER)
    lease.beat()
    assert not lease.held
    leases.release(OTHER)
    lease.beat()
    assert lease.held
    assert leases.acquire(OTHER) is not None
