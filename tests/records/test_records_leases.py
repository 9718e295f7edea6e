"""Leases: one instance at a time, its own taken over at once, and whose runs are recovered by whom."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import create_engine, text

from records import migrate
from records.leases import LEASE_MS, Instance
from records.sql.database import parse_url
from tests.records.builders import accepted, ended

FIRST, SECOND = Instance("inst_a", "host-a", "boot-a"), Instance("inst_b", "host-b\udcff", "boot-b")


@pytest.fixture
def leases(own_records):
    return own_records.leases


def grow_old(url, instance, by_ms=LEASE_MS + 1000):
    """As if an instance had given no heartbeat for so long."""
    engine = create_engine(parse_url(url))
    with engine.begin() as connection:
        statement = text("UPDATE instances SET heartbeat_ms = heartbeat_ms - :by WHERE id = :id")
        connection.execute(statement, {"by": by_ms, "id": instance.id})
    engine.dispose()


def test_a_second_instance_is_told_of_the_first(leases):
    assert leases.acquire(FIRST) is None
    other = leases.acquire(SECOND)
    assert (other.id, other.host) == (FIRST.id, FIRST.host)
    assert 0 <= other.age_ms < LEASE_MS
    assert leases.beat(FIRST)
    assert not leases.beat(SECOND)
    assert leases.acquire(SECOND).heartbeat_ms >= other.heartbeat_ms


def test_its_own_lease_is_taken_over_at_once(leases):
    assert leases.acquire(FIRST) is None
    assert leases.acquire(FIRST) is None
    assert leases.acquire(Instance(FIRST.id, "renamed", FIRST.boot)) is None
    assert leases.acquire(Instance(FIRST.id, "renamed", "restarted")) is None


def test_a_copy_of_the_state_on_another_machine_is_another_instance(leases):
    assert leases.acquire(FIRST) is None
    copy = Instance(FIRST.id, "host-c", "boot-c")
    assert leases.acquire(copy).host == FIRST.host
    assert not leases.beat(copy)


def test_a_dead_lease_is_taken_and_the_dead_are_told(own_records, leases, empty_url):
    leases.acquire(FIRST)
    grow_old(empty_url, FIRST)
    assert leases.acquire(SECOND) is None
    assert not leases.beat(FIRST)
    assert leases.acquire(FIRST).host == SECOND.host


def test_a_lease_that_was_released_is_free(leases):
    leases.acquire(FIRST)
    leases.release(SECOND)
    assert leases.acquire(SECOND) is not None
    leases.release(FIRST)
    assert leases.acquire(SECOND) is None


def test_of_many_that_come_together_one_gets_it(leases):
    got = []
    start = threading.Barrier(8)

    def take(number):
        start.wait()
        if leases.acquire(Instance(f"inst_{number}", f"host-{number}", f"boot-{number}")) is None:
            got.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


def test_recovery_touches_only_what_is_its_own_or_a_dead_instances(empty_url, open_at):
    migrate(empty_url)
    first, second, nobody = (open_at(empty_url, instance=name) for name in (FIRST.id, SECOND.id, ""))
    first.leases.acquire(FIRST)
    runs = {name: accepted(records) for name, records in (("a", first), ("b", second), ("nobody", nobody))}
    ended(first)

    def seen(records):
        return [run.id for run in records.runs.unfinished()]

    assert seen(first) == [runs["a"], runs["b"], runs["nobody"]]
    assert seen(second) == seen(nobody)[0:] == [runs["b"], runs["nobody"]]
    grow_old(empty_url, FIRST)
    assert seen(second) == seen(nobody) == [runs["a"], runs["b"], runs["nobody"]]
