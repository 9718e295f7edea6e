"""How much is kept: counted by key, the oldest ended runs first, never a live one, and the file shrinks again."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from records import migrate
from records.retention import Policy, Retention, sweep_bytes
from records.sql.database import parse_url
from records.sql.migrate import INCREMENTAL, alembic_config
from records.sql.sizes import ROW_BYTES
from tests.records.builders import accepted, an_end, ended, events

DAYS = 10_000.0
KIB = 1024


def policy(**fields):
    return Policy(DAYS, 10**9, **fields)


def large(records, owner, kib=64):
    return ended(records, owner, an_end(document=os.urandom(kib * KIB)), request=os.urandom(10 * KIB))


def ids(records, owner):
    return [run.id for run in records.runs.list(owner, limit=100, order="asc").items]


def test_a_run_counts_when_it_has_ended_and_until_it_is_forgotten(own_records):
    records, sizes = own_records, own_records.retention
    assert sizes.kept_bytes() == 0
    accepted(records, "a", request=os.urandom(100 * KIB))
    assert sizes.kept_bytes() == 0
    run_id = ended(records, "a", an_end(document=os.urandom(1000), events=events(1, 2)), request=os.urandom(3000))
    small = sizes.kept_bytes()
    assert ROW_BYTES + 4000 < small < ROW_BYTES + 4200
    large(records, "b")
    assert small + 74 * KIB < sizes.kept_bytes() < small + 75 * KIB
    assert [owner for owner, _ in sizes.largest_keys(above=small, most=5)] == ["b"]
    assert records.runs.delete("a", run_id) == "deleted"
    assert sizes.largest_keys(above=0, most=5) == [("b", sizes.kept_bytes())]


def test_a_keys_oldest_ended_runs_go_first_and_no_live_one(own_records):
    records = own_records
    live = accepted(records, "a")
    runs = [large(records, "a") for _ in range(6)]
    others = [large(records, "b") for _ in range(6)]
    bounds = {"a": 250 * KIB}
    removed = sweep_bytes(records.retention, policy(least_key_bytes=250 * KIB, key_bytes=bounds.get))
    assert removed == 3
    assert ids(records, "a") == [live, *runs[3:]]
    assert ids(records, "b") == others, "its plan has no bound"
    assert sweep_bytes(records.retention, policy(least_key_bytes=250 * KIB, key_bytes=bounds.get)) == 0


def test_beyond_the_bound_of_all_those_lose_who_keep_the_most(own_records):
    records = own_records
    small = [large(records, "small") for _ in range(2)]
    flood = [large(records, "flood") for _ in range(12)]
    middle = [large(records, "middle") for _ in range(4)]
    live = [accepted(records, owner) for owner in ("flood", "small")]
    assert sweep_bytes(records.retention, policy(records_bytes=8 * 75 * KIB)) == 10
    assert ids(records, "small") == [*small, live[1]]
    assert ids(records, "flood") == [*flood[9:], live[0]]
    assert ids(records, "middle") == middle[1:]
    assert records.retention.kept_bytes() <= 8 * 75 * KIB
    assert sweep_bytes(records.retention, policy(records_bytes=1)) == 8
    assert records.retention.kept_bytes() == 0
    assert [ids(records, owner) for owner in ("small", "flood", "middle")] == [[live[1]], [live[0]], []]


def test_the_thread_bounds_within_seconds(own_records):
    retention = Retention(own_records.retention, lambda: policy(records_bytes=300 * KIB))
    retention.start()
    for _ in range(20):
        large(own_records, "a")
    deadline = time.monotonic() + 20
    while own_records.retention.kept_bytes() > 300 * KIB:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    retention.stop()
    assert len(ids(own_records, "a")) == 4


def test_sqlites_file_shrinks_again(own_records, empty_url):
    if not empty_url.startswith("sqlite"):
        pytest.skip("PostgreSQL vacuums by itself")
    path = Path(empty_url.removeprefix("sqlite:///"))
    for _ in range(60):
        large(own_records, "a", 500)
    own_records.retention.checkpoint()
    full = path.stat().st_size
    assert full > 30_000 * KIB
    retention = Retention(own_records.retention, lambda: policy(records_bytes=KIB))
    retention.start()
    deadline = time.monotonic() + 30
    while path.stat().st_size > 8_000 * KIB:
        assert time.monotonic() < deadline, path.stat().st_size
        time.sleep(0.1)
    retention.stop()


def test_a_file_from_before_is_made_shrinkable_at_the_next_start(tmp_path, open_at):
    url, path = f"sqlite:///{tmp_path}/records.sqlite", tmp_path / "records.sqlite"

    def mode(change=""):
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            if change:
                connection.execute(f"PRAGMA auto_vacuum={change}")
                connection.execute("VACUUM")
            return connection.execute("PRAGMA auto_vacuum").fetchone()[0]

    migrate(url)
    records = open_at(url)
    run_id = large(records, "a")
    records.close()
    assert mode() == INCREMENTAL
    assert mode(change="0") == 0
    assert not migrate(url)
    assert mode() == INCREMENTAL
    assert open_at(url).runs.get("a", run_id) is not None


def test_what_was_kept_before_is_counted_by_the_migration(empty_url, open_at):
    from alembic import command

    migrate(empty_url)
    records = open_at(empty_url)
    for owner in "aab":
        large(records, owner)
    accepted(records, "c")
    counted = records.retention.largest_keys(above=0, most=5)
    engine = create_engine(parse_url(empty_url))
    with engine.begin() as connection:  # back to before, and on again
        connection.execute(text("DROP TABLE record_bytes"))
        connection.execute(text("ALTER TABLE runs DROP COLUMN kept_bytes"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0002'"))
        command.upgrade(alembic_config(connection), "0003")
    engine.dispose()
    assert records.retention.largest_keys(above=0, most=5) == counted
    assert [owner for owner, _ in counted] == ["a", "b"]
