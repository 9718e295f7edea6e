"""The plans SQLite makes: every list and sweep walks an index; and URLs, and what an error may say."""

from __future__ import annotations

import functools
import logging
import re
import sqlite3
import threading

import pytest

from records import migrate, open_records
from records.errors import RecordsUnavailable
from records.files import NewFile
from records.runs import AcceptedRun, NewRun, RunEnd, RunFilter
from records.sql.database import parse_url
from records.sql.prepared import Prepared
from records.sql.tables import runs

BIG_INT = 2**62


@pytest.fixture
def opened(tmp_path):
    url = f"sqlite:///{tmp_path}/records.sqlite"
    migrate(url)
    records = open_records(url)
    yield records
    records.close()


@pytest.fixture
def plans(opened):
    """Runs a call and says how SQLite finds the rows of each of its statements."""
    database = opened.runs._database
    seen = []
    for transact in (database.read, database.write):
        transact(lambda connection: connection.connection.driver_connection.set_trace_callback(seen.append))

    def of(call):
        seen.clear()
        call()
        assert seen
        found = []
        # With the values in their places; what SQLite does by itself, to keep foreign keys, is told as a comment.
        for statement in [text for text in seen if re.match("SELECT|INSERT|UPDATE|DELETE|WITH", text)]:
            raw = database._reader.raw_connection()
            found += [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}")]
            raw.close()
        return found

    return of


def a_run(n):
    return NewRun(f"run_{n}", "key_a", "python", 1, b"{}", b"{}")


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({}, "ix_runs_owner"),
        ({"status": "failed"}, "ix_runs_owner_status"),
        ({"language": "python"}, "ix_runs_owner_language"),
        ({"status": "failed", "language": "python"}, "ix_runs_owner_status_language"),
    ],
)
def test_a_list_walks_the_index_of_its_filters(opened, plans, order, filters, index):
    opened.runs.accept(a_run(1))
    for after in (None, "run_1"):
        plan = plans(lambda after=after: opened.runs.list("key_a", limit=5, order=order, after=after, **filters))
        walked = [line for line in plan if re.search(rf"\b{index} ", line)]
        assert len(walked) == 1, plan
        assert_no_walk_over_a_table(plan)
        if after is not None:
            assert re.search("seq[<>]", walked[0]), plan


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ({}, "SEARCH|SCAN runs"),
        ({"owner": "key_a", "status": "failed"}, "ix_runs_owner_status"),
        ({"status": "failed"}, "ix_runs_status"),
        ({"status": "running"}, "ix_runs_live"),
        ({"language": "python"}, "ix_runs_language"),
        ({"status": "failed", "language": "python"}, "ix_runs_status_language"),
        ({"status": "succeeded", "language": "python"}, "ix_runs_language"),
        ({"metadata": {"a": "b"}}, "PRIMARY KEY"),
        ({"metadata": {"a": "b"}, "owner": "key_a", "status": "failed"}, "PRIMARY KEY"),
        ({"metadata": {"a": "b", "c": "d"}, "error": "x"}, "PRIMARY KEY"),
        ({"error": "x", "owner": "key_a"}, "ix_run_errors_owner"),
    ],
)
def test_a_search_of_all_keys_walks_an_index(opened, plans, order, wanted, index):
    for n in range(3):
        opened.runs.accept(NewRun(f"run_{n}", "key_a", "python", 1, b"{}", b"{}", metadata={"a": "b", "c": "d"}))
        opened.runs.finish(f"run_{n}", 1, RunEnd("failed", 1, b"{}", error_text="x"))
    for after in (None, "run_1"):
        search = functools.partial(opened.runs.search, RunFilter(**wanted), limit=1, order=order, after=after)
        plan = plans(search)
        assert any(re.search(rf"{index}\b", line) for line in plan), plan
        assert not any("TEMP B-TREE" in line for line in plan), plan
        assert not any(re.fullmatch("SCAN run(s|_tags|_errors)(_1)?", line) for line in plan if wanted), plan


def assert_no_walk_over_a_table(plan):
    for line in plan:
        assert "TEMP B-TREE" not in line, plan
        assert not re.match(r"SCAN (?!\w+ USING (COVERING )?INDEX|CONSTANT|\d+ CONSTANT)", line), plan


def test_a_sweep_of_one_keys_bytes_walks_the_index_of_its_runs(opened, plans):
    for n in range(3):
        opened.runs.accept(a_run(n))
        opened.runs.finish(f"run_{n}", 1, RunEnd("failed", 1, b"{}"))
    plan = plans(lambda: opened.retention.sweep_key("key_a", keep_bytes=1))
    assert any(re.search(r"\bix_runs_owner ", line) for line in plan), plan
    assert_no_walk_over_a_table(plan)


def test_sweeps_and_what_they_delete_walk_indexes(opened, plans):
    file = NewFile("file_1", "a", "a", 1, "00", "text/plain", 1, expires_at_ms=5)
    for n in range(3):
        opened.runs.accept(a_run(n))
        opened.runs.finish(f"run_{n}", 1, RunEnd("failed", 1, b"{}", artifacts=(file,) if n == 0 else ()))
    retention = opened.retention
    calls = {
        "ix_runs_ended": lambda: retention.sweep_runs(ended_before_ms=1, keep_at_most=2),
        "ix_files_expires": lambda: retention.expire_files(now_ms=9),
        "ix_idempotency_expires": lambda: retention.expire_idempotency(now_ms=9),
        "ix_runs_live": lambda: list(opened.runs.unfinished()),
        "ix_unnamed_blobs_since": lambda: opened.files.unreferenced(before_ms=BIG_INT),
    }
    for index, call in calls.items():
        plan = plans(call)
        assert any(index in line for line in plan), (index, plan)
        assert_no_walk_over_a_table(plan)
    assert len(opened.runs.list("key_a", limit=9).items) == 2


def test_looking_up_and_ending_one_run_touch_only_it(opened, plans):
    file = NewFile("file_1", "a", "a", 1, "00", "text/plain", 1)
    opened.runs.accept(a_run(1))
    for call in (
        lambda: opened.runs.get("key_a", "run_1"),
        lambda: opened.runs.request("key_a", "run_1"),
        lambda: opened.runs.events("key_a", "run_1"),
        lambda: opened.runs.finish("run_1", 1, RunEnd("failed", 1, b"{}")),
        lambda: opened.runs.delete("key_a", "run_1"),
        lambda: opened.keys.find(b"\0" * 32),
        lambda: opened.files.linked("file_1"),
        lambda: opened.files.put("key_a", file),
        lambda: opened.files.delete("key_a", "file_1"),
    ):
        assert_no_walk_over_a_table(plans(call))


def test_what_fails_in_a_transaction_takes_all_of_it_back_and_the_next_is_made(opened):
    database = opened.runs._database
    opened.runs.accept(a_run(1))

    def two_then_fail(connection):
        opened.runs._insert(connection, inserted("run_2"))
        connection.execute(runs.insert().values(inserted("run_3")))
        opened.runs._insert(connection, inserted("run_1"))

    with pytest.raises(sqlite3.IntegrityError):
        database.write(two_then_fail)
    assert opened.runs.accept(a_run(4)) == AcceptedRun()
    assert {run.id for run in opened.runs.list("key_a", limit=9).items} == {"run_1", "run_4"}


def inserted(run_id):
    row = dict.fromkeys(("id", "owner", "status", "language"), "queued") | {"id": run_id, "owner": "key_a"}
    row |= dict.fromkeys(("attempt", "created_at_ms", "last_event_seq", "document_bytes"), 1)
    return row | dict.fromkeys(("period", "idempotency_key", "request")) | {"document": b"\0{}"}


def test_a_commit_that_fails_is_not_repeated_and_leaves_nothing_open(opened):
    times = []

    def deferred(connection):
        times.append(1)
        driver = connection.connection.driver_connection
        driver.execute("PRAGMA defer_foreign_keys=ON")  # so that it is the commit that finds it
        driver.execute("INSERT INTO events VALUES (4711, 1, x'00')")

    with pytest.raises(RecordsUnavailable):
        opened.runs._database.write(deferred)
    assert times == [1]
    assert opened.runs.accept(a_run(1)) == AcceptedRun()


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "mysql://u:secret@h/d", "sqlite://", "sqlite:///:memory:", "sqlite:////a?mode=ro",
        "postgresql+asyncpg2", "postgresql://u:secret@h:port/d", "file:///a",
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_used_is_refused_without_showing_it(url):
    with pytest.raises(ValueError, match=r"^(is|must)") as refused:
        parse_url(url)
    assert "secret" not in str(refused.value)


def test_both_spellings_of_postgresql_mean_psycopg():
    for url in ("postgres://u:p%40@h/d", "postgresql://u:p%40@h/d"):
        parsed = parse_url(url)
        assert (parsed.drivername, parsed.password) == ("postgresql+psycopg", "p@")


def test_an_unavailable_database_says_nothing_of_what_was_asked(tmp_path, caplog):
    url = f"sqlite:///{tmp_path}/records.sqlite"
    migrate(url)
    records = open_records(url)
    (tmp_path / "records.sqlite").write_bytes(b"overwritten" * 1000)
    with caplog.at_level(logging.DEBUG), pytest.raises(RecordsUnavailable) as raised:
        records.runs.accept(NewRun("run_1", "key_secret", "python", 1, b"secret", b"secret"))
    assert "secret" not in caplog.text + str(raised.value) + str(raised.value.__cause__)
    assert str(tmp_path) not in str(raised.value)
    records.close()


def test_a_prepared_statement_says_what_it_lacks(opened):
    database = opened.runs._database
    statement = Prepared(database._writer.dialect, runs.insert(), ["id", "owner"])
    with pytest.raises(KeyError, match="owner"):
        database.write(lambda connection: statement(connection, {"id": "x"}))


def test_a_checkpoint_brings_to_the_disk_what_was_only_in_the_log(tmp_path):
    """What a power loss can take is what came after the last one."""

    def without_its_log():
        (tmp_path / "copy.sqlite").write_bytes((tmp_path / "records.sqlite").read_bytes())
        copy = open_records(f"sqlite:///{tmp_path}/copy.sqlite")
        found = copy.runs.get("key_a", "run_1")
        copy.close()
        for path in tmp_path.glob("copy*"):
            path.unlink()
        return found

    url = f"sqlite:///{tmp_path}/records.sqlite"
    migrate(url)
    records = open_records(url)
    records.retention.checkpoint()
    records.runs.accept(a_run(1))
    assert without_its_log() is None
    records.retention.checkpoint()
    assert without_its_log() is not None
    records.close()


def test_waiting_for_the_one_writer_is_bounded(tmp_path):
    url = f"sqlite:///{tmp_path}/records.sqlite"
    migrate(url)
    records = open_records(url, wait_s=0.2)
    writing, finished = threading.Event(), threading.Event()

    def slow(_connection):
        writing.set()
        finished.wait()

    thread = threading.Thread(target=records.runs._database.write, args=(slow,))
    thread.start()
    writing.wait()
    with pytest.raises(RecordsUnavailable, match="busy"):
        records.runs.accept(a_run(1))
    assert records.runs.get("key_a", "run_1") is None
    finished.set()
    thread.join()
    assert records.runs.accept(a_run(1)) == AcceptedRun()
    records.close()
