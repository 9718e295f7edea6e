"""The lease of an instance, as api takes and keeps it."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from api.system.instance_lease import FILE, Lease, SecondInstance, acquire, this_instance
from config.settings import Settings, SettingsError
from records import migrate, open_records
from records.leases import Holder, Instance

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


SHARING = {
    "amqp_url": "amqp://user:password@broker/",
    "database_url": "postgresql://user@database/records",
    "storage_url": "s3://bucket/prefix",
    "ratelimit_url": "redis://limits:6379/0",
    "signing_key": f"{'n' * 48},{'o' * 48}",
}


def test_an_instance_that_shares_all_it_must_has_a_queue_and_its_keys_digests(tmp_path):
    folder = tmp_path / "api"
    shares = this_instance(folder, Settings(**SHARING))
    assert shares.queue == "runner_jobs"
    newest, oldest = shares.signing
    assert newest != oldest
    assert "n" * 8 not in newest
    assert this_instance(folder, Settings(**SHARING | {"signing_key": "o" * 48})).signing == (oldest,)
    assert this_instance(folder, Settings(**SHARING | {"storage_url": None, "storage_dir": tmp_path})).queue
    assert this_instance(folder).queue is None


@pytest.mark.parametrize("missing", SHARING)
def test_an_instance_that_lacks_a_shared_part_is_alone(tmp_path, missing):
    alone = this_instance(tmp_path / "api", Settings(**SHARING | {missing: None}))
    assert (alone.queue, alone.signing) == (None, ())


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        ({}, {"queue": None}, "that one does not share its workers"),
        ({"queue": None}, {}, "this one does not share its workers"),
        ({}, {"queue": "theirs"}, "AMQP_QUEUE=theirs, this one by AMQP_QUEUE=jobs"),
        ({}, {"signing": ("two",)}, "SIGNING_KEY is another one"),
        ({}, {"id": "inst_one"}, "the same STATE_DIR, or on a copy"),
    ],
)
def test_a_refusal_names_its_reason(one, other, reason):
    instance = Instance(**{"id": "inst_one", "host": "a", "boot": "a", "queue": "jobs", "signing": ("one",)} | one)
    fields = {"id": "inst_two", "host": "b", "heartbeat_ms": 0, "age_ms": 0, "queue": "jobs", "signing": ("one",)}
    refusal = str(SecondInstance(instance, Holder(**fields | other)))
    assert refusal.startswith("DATABASE_URL: another instance of the service")
    assert reason in refusal


def test_a_shared_lease_is_held_no_longer_than_others_believe(tmp_path):
    url = f"sqlite:///{tmp_path}/shared.sqlite"
    migrate(url)
    records = open_records(url, lease_ms=200)
    alone = Instance("inst_alone", "a", "a")
    shared = Instance("inst_shared", "b", "b", "jobs", ("key",))
    leases = {name: Lease(records.leases, instance) for name, instance in (("alone", alone), ("shared", shared))}
    assert records.leases.acquire(shared) is None
    assert all(lease.held for lease in leases.values())
    time.sleep(0.3)
    assert (leases["alone"].held, leases["shared"].held) == (True, False)
    leases["shared"].beat()
    assert leases["shared"].held
    records.close()


def test_an_earlier_start_on_the_same_state_accepts_nothing_any_more(leases, tmp_path):
    earlier = this_instance(tmp_path / "api")
    acquire(leases, earlier)
    lease = Lease(leases, earlier)
    leases.acquire(replace(earlier, start="later"))
    lease.beat()
    assert not lease.held
    alive = Lease(leases, replace(earlier, start="later"), beat_s=0.02)
    alive.start()
    with pytest.raises(SecondInstance, match="the same STATE_DIR"):
        acquire(leases, earlier, look_s=0.02)  # a process of it that is started again
    alive.stop()
    leases.release(replace(earlier, start="later"))
    lease.beat()
    assert lease.held
