"""What survives what: kill -9, a database that goes away, a disk that is full, locks that are held."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import update

from records import migrate, open_records
from records.errors import RecordsUnavailable
from records.sql.tables import runs
from records.usage import Quota
from tests.records.builders import a_file, accepted, an_end, ended, events, new_run, unique

ENV = {"PYTHONPATH": str(Path(__file__).parents[2])}

LOOP = """
import sys
from tests.records.builders import a_file, an_end, events, new_run
from records import open_records
from records.sql.tables import runs
from records.usage import Quota, RunUsage
records = open_records(sys.argv[1])
while True:
    run = new_run(sys.argv[2], document=b"x" * 3000, quota=Quota("all", 10**6))
    records.runs.accept(run)
    print("accepted", run.id, flush=True)
    end = an_end(events=events(1, 2), artifacts=(a_file(size=10),), usage=RunUsage(cpu_ms=1))
    assert records.runs.finish(run.id, 1, end)
    print("finished", run.id, flush=True)
"""


@pytest.mark.parametrize("round_", range(3))
def test_what_was_acknowledged_survives_kill_9(empty_url, round_, open_at):
    migrate(empty_url)
    owner = "key_a"
    argv = [sys.executable, "-c", LOOP, empty_url, owner]
    with subprocess.Popen(argv, env=ENV, stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline()]
        threading.Timer(random.uniform(0.05, 0.6), process.kill).start()
        lines += process.stdout.readlines()

    said = [line.split() for line in lines if line.endswith("\n")]
    accepted_ids = {run_id for what, run_id in said if what == "accepted"}
    finished_ids = {run_id for what, run_id in said if what == "finished"}
    records = open_at(empty_url)
    kept = {run.id: run for run in all_runs(records, owner)}
    assert accepted_ids <= set(kept)
    # One more may have been kept whose acknowledgement was cut off; never a part of one.
    assert len(kept) - len(accepted_ids) in {0, 1}
    done = {run_id for run_id, run in kept.items() if run.ended}
    assert finished_ids <= done
    assert len(done) - len(finished_ids) in {0, 1}
    assert records.usage.counted(owner, "all") == len(kept)
    assert records.files.stored_bytes(owner) == 10 * len(done)
    assert all(len(records.runs.events(owner, run_id).events) == 2 for run_id in done)
    unfinished = {run.id for run in records.runs.unfinished()}
    assert unfinished == set(kept) - done


def all_runs(records, owner):
    after = None
    while True:
        page = records.runs.list(owner, limit=100, after=after)
        yield from page.items
        if not page.has_more:
            return
        after = page.items[-1].id


@pytest.fixture
def server():
    """A PostgreSQL server that this test may stop."""
    from tests.support.postgres import Postgres

    own = Postgres()
    yield own
    own.remove()


def unavailable(call):
    """How long a call takes to say that the database is gone."""
    start = time.monotonic()
    with pytest.raises(RecordsUnavailable) as raised:
        call()
    assert raised.value.retry_after_s >= 1
    assert "postgres" not in str(raised.value)
    return time.monotonic() - start


def test_a_server_that_goes_away_is_said_so_and_found_again(server, open_at):
    url = server.new_database()
    migrate(url)
    records = open_at(url)
    kept = accepted(records)
    threads = [threading.Thread(target=records.ping) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    server.stop()
    for call in (
        records.ping,
        lambda: records.runs.accept(new_run()),
        lambda: records.runs.finish(kept, 1, an_end()),
        lambda: records.runs.list("key_a", limit=1),
        lambda: records.files.put("key_a", a_file()),
    ):
        assert unavailable(call) < 5

    server.start()
    # Connections of before are still in the pool: none of these calls may see that.
    assert records.runs.finish(kept, 1, an_end())
    assert records.runs.get("key_a", kept).ended
    records.ping()


def test_a_restart_between_two_calls_is_not_noticed(server, open_at):
    url = server.new_database()
    migrate(url)
    records = open_at(url)
    run_id = accepted(records)
    server.stop()
    server.start()
    assert records.runs.finish(run_id, 1, an_end())
    server.stop()
    server.start()
    assert records.runs.get("key_a", run_id).ended


def test_waiting_for_a_held_lock_is_bounded(empty_url, open_at):
    migrate(empty_url)
    records = open_at(empty_url, wait_s=0.5)
    run_id = accepted(records)
    with locked(empty_url):
        start = time.monotonic()
        with pytest.raises(RecordsUnavailable):
            records.runs.finish(run_id, 1, an_end())
        assert time.monotonic() - start < 3
        assert records.runs.get("key_a", run_id).status == "queued"
    assert records.runs.finish(run_id, 1, an_end())


def test_of_two_transactions_that_wait_for_each_other_both_come_through(server, open_at):
    url = server.new_database()
    migrate(url)
    records = open_at(url)
    rows = [accepted(records), accepted(records)]
    both_hold_one = threading.Barrier(2)
    repeated = []

    def change(order):
        tries = []

        def work(connection):
            tries.append(order)
            for run_id in order:
                connection.execute(update(runs).where(runs.c.id == run_id).values(attempt=runs.c.attempt + 1))
                if len(tries) == 1 and run_id == order[0]:
                    both_hold_one.wait()

        records.runs._database.write(work)
        repeated.append(len(tries))

    threads = [threading.Thread(target=change, args=(order,)) for order in (rows, rows[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(repeated) == [1, 2]
    assert [records.runs.get("key_a", run_id).attempt for run_id in rows] == [3, 3]


@contextlib.contextmanager
def locked(url):
    """Somebody else's transaction that holds what a run's end needs."""
    if url.startswith("sqlite"):
        other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
    else:
        import psycopg

        other = psycopg.connect(url)
        other.execute("SELECT * FROM runs FOR UPDATE")
    yield
    other.rollback()
    other.close()


def test_more_threads_than_connections_wait_their_turn(empty_url, open_at):
    migrate(empty_url)
    records = open_at(empty_url, connections=2)
    errors = []

    def work():
        try:
            for _ in range(5):
                run_id = ended(records, end=an_end(events=events(1)))
                assert records.runs.get("key_a", run_id).ended
        except (RecordsUnavailable, AssertionError) as e:
            errors.append(e)

    threads = [threading.Thread(target=work) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(list(all_runs(records, "key_a"))) == 300


def test_no_thread_and_no_descriptor_is_left(empty_url):
    migrate(empty_url)
    before = set(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(3):
        records = open_records(empty_url)
        ended(records)
        records.ping()
        records.close()
    assert (set(os.listdir("/proc/self/fd")), threading.active_count()) == before


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB."""
    if os.geteuid() != 0:
        pytest.fail("mounting a small file system needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def writes(records, run_id):
    """Each call that writes, by name."""
    big = os.urandom(300_000)
    return {
        "accept": lambda: records.runs.accept(new_run(request=big, quota=Quota("all", 10**6))),
        "begin": lambda: records.runs.begin(run_id, 1, big),
        "append": lambda: records.runs.append_events(run_id, 1, events(1, size=1000)),
        "finish": lambda: records.runs.finish(run_id, 1, an_end(document=big)),
        "put": lambda: records.files.put("key_a", a_file(name="x" * 300_000)),
    }


@pytest.mark.parametrize("name", ["accept", "begin", "append", "finish", "put"])
def test_a_full_disk_is_unavailable_and_nothing_is_half_kept(small_disk, name, open_at):
    url = f"sqlite:///{small_disk}/records.sqlite"
    migrate(url)
    records = open_at(url)
    run_id = accepted(records)
    before = records.usage.counted("key_a", "all")
    # To the last byte: even what needs one page more must fail.
    ballast = os.open(small_disk / "ballast", os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(ballast, b"\0" * 4096)
    os.close(ballast)
    for _ in range(3):
        with pytest.raises(RecordsUnavailable):
            writes(records, run_id)[name]()
    assert [(run.id, run.status) for run in records.runs.list("key_a", limit=9).items] == [(run_id, "queued")]
    assert records.usage.counted("key_a", "all") == before
    assert records.files.stored_bytes("key_a") == 0
    (small_disk / "ballast").unlink()
    assert writes(records, run_id)[name]()
    assert records.runs.get("key_a", run_id) is not None


def test_a_directory_that_cannot_be_written_is_said_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordsUnavailable):
        migrate(f"sqlite:///{tmp_path}/file/records.sqlite")


def test_a_file_that_is_no_database_is_said_so(tmp_path):
    (tmp_path / "records.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(RecordsUnavailable):
        migrate(f"sqlite:///{tmp_path}/records.sqlite")


def test_a_process_that_is_killed_holds_no_lock(tmp_path, open_at):
    url = f"sqlite:///{tmp_path}/records.sqlite"
    migrate(url)
    hold = "import sqlite3,sys,time; c=sqlite3.connect(sys.argv[1],isolation_level=None)\n"
    hold += "c.execute('BEGIN IMMEDIATE'); c.execute('DELETE FROM runs'); print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", hold, f"{tmp_path}/records.sqlite"], stdout=subprocess.PIPE)
    process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    records = open_at(url, wait_s=1)
    run_id = accepted(records, unique("key"))
    assert records.runs.discard(run_id)
