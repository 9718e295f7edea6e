"""Leases: one instance at a time, its own taken over at once, and whose runs are recovered by whom."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, text

from records import migrate
from records.leases import LEASE_MS, Instance
from records.sessions import NewSession
from records.sql.database import parse_url
from tests.records.builders import NOW_MS, accepted, an_end, ended

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


A_QUEUE = {"queue": "jobs", "signing": ("one",)}


def sharing(number, **fields):
    return Instance(f"inst_{number}", f"host-{number}", f"boot-{number}", **(A_QUEUE | fields))


def test_instances_of_one_queue_and_key_share_a_database(leases):
    for number in range(3):
        assert leases.acquire(sharing(number)) is None
    assert all(leases.beat(sharing(number)) for number in range(3))
    leases.release(sharing(0))
    assert not leases.beat(sharing(0))
    assert leases.beat(sharing(1))


@pytest.mark.parametrize(
    "other",
    [
        {"queue": None, "signing": ()},
        {"queue": "others"},
        {"signing": ("two",)},
        {"signing": ("two", "one")},  # the first knows no link that is signed by the newest
        {"signing": ()},
    ],
)
def test_others_are_refused_in_both_orders(leases, other):
    for first, second in (({}, other), (other, {})):
        assert leases.acquire(sharing(1, **first)) is None
        holder = leases.acquire(sharing(2, **second))
        assert (holder.id, holder.queue, holder.signing) == (
            "inst_1",
            sharing(1, **first).queue,
            sharing(1, **first).signing,
        )
        assert not leases.beat(sharing(2))
        leases.release(sharing(1))


def test_one_that_may_not_share_is_refused_beside_any_of_several(leases):
    assert leases.acquire(sharing(1)) is None
    assert leases.acquire(sharing(2)) is None
    leases.release(sharing(1))
    assert leases.acquire(FIRST).id == "inst_2"


def test_keys_are_rotated_one_instance_after_the_other(leases):
    for signing in (("one",), ("one", "two"), ("two", "one"), ("two",)):
        for number in (1, 2):
            assert leases.acquire(sharing(number, signing=signing)) is None


def test_a_copy_of_the_state_on_another_machine_does_not_share(leases):
    assert leases.acquire(sharing(1)) is None
    copy = Instance("inst_1", "host-2", "boot-2", **A_QUEUE)
    assert leases.acquire(copy).id == "inst_1"
    assert not leases.beat(copy)


@pytest.mark.parametrize("fields", [{}, A_QUEUE])
def test_of_two_starts_of_one_instance_the_later_has_the_lease(leases, fields):
    """Two containers with one volume, or a machine and its clone, of the same name."""
    first, second = (Instance("inst_1", "host", "boot", **fields, start=start) for start in ("first", "second"))
    assert leases.acquire(first) is None
    assert leases.acquire(second) is None
    assert (leases.beat(first), leases.beat(second)) == (False, True)
    assert leases.acquire(first, again=True).id == "inst_1"
    leases.release(first)
    assert leases.beat(second)
    leases.release(second)
    assert leases.acquire(first, again=True) is None
    assert leases.beat(first)


def test_an_instance_that_changes_its_transport_takes_its_own_lease(leases):
    assert leases.acquire(sharing(1)) is None
    assert leases.acquire(sharing(1, queue=None)) is None
    assert leases.acquire(sharing(2)).queue is None


def test_each_run_and_session_of_a_dead_instance_is_adopted_by_one(empty_url, open_at):
    migrate(empty_url)
    names = [f"inst_{number}" for number in range(4)]
    dead, *others = [open_at(empty_url, instance=name) for name in names]
    for number in range(4):
        dead.leases.acquire(sharing(number))
    runs = {accepted(dead) for _ in range(20)}
    ended(dead)
    sessions = [NewSession(f"sess_{number}", "key_a", None, "bash", NOW_MS, b"{}") for number in range(5)]
    assert [dead.sessions.create(session) for session in sessions] == [None] * 5
    assert [records.runs.adopt() for records in others] == [(), (), ()], "its lease is alive"
    assert [records.sessions.adopt() for records in others] == [0, 0, 0]
    assert dead.runs.adopt() == ()
    grow_old(empty_url, sharing(0))
    start = threading.Barrier(3)

    def take(records):
        start.wait()
        return records.runs.adopt(), records.sessions.adopt()

    with ThreadPoolExecutor(3) as pool:
        taken = list(pool.map(take, others))
    assert sorted(run for adopted, _ in taken for run in adopted) == sorted(runs)
    assert sum(count for _, count in taken) == len(sessions)
    for records, (adopted, count) in zip(others, taken, strict=True):
        assert {run.id for run in records.runs.unfinished()} == set(adopted)
        assert len(records.sessions.live()) == count
    assert list(dead.runs.unfinished()) == [], "one that comes back has none of them"
    assert dead.sessions.live() == ()


def test_what_belongs_to_no_instance_is_adopted_and_no_instance_adopts(empty_url, open_at):
    migrate(empty_url)
    nobody, one = open_at(empty_url), open_at(empty_url, instance="inst_1")
    one.leases.acquire(sharing(1))
    run_id = accepted(nobody)
    assert nobody.runs.adopt() == ()
    assert one.runs.adopt() == (run_id,)


def test_a_run_is_live_until_its_end_is_recorded_whoever_asks(empty_url, open_at):
    migrate(empty_url)
    one, other = open_at(empty_url, instance="inst_1"), open_at(empty_url, instance="inst_2")
    one.leases.acquire(sharing(1))
    run_id = accepted(one)
    assert other.runs.is_live(run_id)
    assert one.runs.finish(run_id, 1, an_end())
    assert not other.runs.is_live(run_id)
    assert not other.runs.is_live("run_unknown")


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
