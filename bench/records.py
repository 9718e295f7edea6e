"""`python -m bench.records`: what records cost a run, and lists and sweeps over a million of them.

Two tables: accepting and finishing a run (CPU, latency, throughput of many threads) on an empty database and on a
full one; then every list and sweep on the full one, with the slowest of some calls. SQLite in a scratch directory,
or any database that `--url` names and that is thrown away after. If that is PostgreSQL, what a run costs it is
shown too. The service is not needed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, delete, event, func, insert, select, text

from bench.clocks import MS, cpu_ns
from records import Records, migrate, open_records
from records.packing import pack
from records.runs import IdempotencyKey, NewRun, RunEnd, RunFilter, StoredEvent
from records.sql import tables
from records.sql.database import parse_url
from records.sql.search import folded, tags
from records.usage import RunUsage

BATCH = 20_000
TRACEBACK = 'Traceback (most recent call last):\n  File "/work/main.py", line 1, in <module>\n'
#: What a run of the full database counts as.
KEPT_BYTES = 1024
OWNERS = 50
#: One key has half of all runs: its lists are the hardest.
BIG_OWNER = "key_0"
LANGUAGES = ("python", "node", "bash", "go")
STATUSES = ("succeeded",) * 17 + ("failed", "timeout", "error")
NOW_MS = 1_800_000_000_000
DOCUMENT = (
    b'{"id":"run_","object":"run","status":"succeeded","language":"python","exit_code":0,"stdout":"%s","limits":'
    b'{"timeout_ms":10000,"cpu_ms":10000,"memory_mb":256,"cpus":1.0,"pids":64,"max_output_bytes":1048576},'
    b'"usage":{"wall_ms":4,"cpu_ms":3,"max_rss_mb":7,"queue_ms":0},"isolation":{"engine":"oci","runtime":"crun"}}'
) % (b"x" * 600)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000, help="runs in the full database")
    parser.add_argument("--count", type=int, default=2000, help="runs for each row of the first table")
    parser.add_argument("--url", help="a database to fill; SQLite in a scratch directory if not given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runyard-bench-") as scratch:
        url = options.url or f"sqlite:///{scratch}/records.sqlite"
        migrate(url)
        records = open_records(url)
        cost(records, "empty", options.count)
        if url.startswith("postgresql"):
            carried(records, url, options.count)
        fill(url, options.runs)
        cost(records, f"{options.runs:,} runs", options.count)
        queries(records, options.runs)
        records.close()


def one_run(records: Records, *, key: bool = False) -> None:
    """What a short run costs: accepted, finished, with its events and usage."""
    run_id = f"run_{os.urandom(14).hex()}"
    owner = f"key_{random.randrange(OWNERS)}"
    idempotency = IdempotencyKey(run_id, b"0" * 32) if key else None
    request = b'{"language":"python","code":"print(1+1)"}'
    records.runs.accept(NewRun(run_id, owner, "python", NOW_MS, DOCUMENT, request, "running"), idempotency)
    events = tuple(
        StoredEvent(seq, b'{"seq":%d,"event":"stdout","data":"2\\n","t_ms":4}' % seq) for seq in (1, 2, 3)
    )
    used = RunUsage(3, 4, 1024, 41, 2)
    assert records.runs.finish(run_id, 1, RunEnd("succeeded", NOW_MS, DOCUMENT, events, usage=used))


def cost(records: Records, name: str, count: int) -> None:
    """The first table's rows for a database of that name."""
    for key in (False, True):
        for _ in range(100):
            one_run(records, key=key)
        cpu, took = time.process_time(), []
        for _ in range(count):
            start = time.perf_counter()
            one_run(records, key=key)
            took.append((time.perf_counter() - start) * 1000)
        cpu_ms = (time.process_time() - cpu) * 1000 / count
        cuts = statistics.quantiles(took, n=100)
        label = f"{name}, with a key" if key else name
        print(f"{label:<28} {cpu_ms:6.2f} ms CPU  p50 {cuts[49]:6.2f}  p99 {cuts[98]:6.2f} ms", flush=True)
    for threads in (8, 64):
        start = time.perf_counter()
        each = count // threads
        crowd = [threading.Thread(target=several, args=(records, each)) for _ in range(threads)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        rate = each * threads / (time.perf_counter() - start)
        print(f"{f'{name}, {threads} threads':<28} {rate:6.0f} runs/s", flush=True)


def carried(records: Records, url: str, count: int) -> None:
    """What PostgreSQL does for a run, by its own counters; its CPU only where it runs on this machine."""
    statements = 0

    def counted(*_: object) -> None:
        nonlocal statements
        statements += 1

    engine = create_engine(parse_url(url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        asked = "select pg_current_wal_insert_lsn() - '0/0', pg_database_size(current_database())"
        backends = connection.execute(
            text("select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
        ).scalars()
        pids = list(backends)
        event.listen(Engine, "before_cursor_execute", counted)
        before, cpu, began = connection.execute(text(asked)).one(), cpu_ns(pids), statements
        several(records, count)
        ran, used = statements - began, cpu_ns(pids) - cpu
        after = connection.execute(text(asked)).one()
        event.remove(Engine, "before_cursor_execute", counted)
    engine.dispose()
    wal, size = ((new - old) / count for old, new in zip(before, after, strict=True))
    print(
        f"a run at PostgreSQL: {ran / count:.1f} statements, {wal:.0f} bytes of log, {size:.0f} bytes of tables, "
        f"{used / MS / count:.2f} ms CPU",
        flush=True,
    )


def several(records: Records, count: int) -> None:
    """One thread's share."""
    for _ in range(count):
        one_run(records)


def fill(url: str, count: int) -> None:
    """That many ended runs, each a second after the one before, and a hundred that live."""
    start = time.perf_counter()
    engine = create_engine(parse_url(url))
    document, numbers = pack(DOCUMENT), iter(range(count + 100))
    picked = random.Random(1)
    while batch := list(itertools.islice(numbers, BATCH)):
        rows = [
            {
                "id": f"run_{picked.randbytes(14).hex()}",
                "owner": BIG_OWNER if picked.random() < 0.5 else f"key_{picked.randrange(OWNERS)}",
                "status": picked.choice(STATUSES) if number < count else "running",
                "language": picked.choice(LANGUAGES),
                "attempt": 1,
                "created_at_ms": NOW_MS - (count - number) * 1000,
                "ended_at_ms": NOW_MS - (count - number) * 1000 if number < count else None,
                "last_event_seq": 0,
                "request": b"\0{}",
                "document_bytes": len(DOCUMENT),
                "document": document,
                "kept_bytes": KEPT_BYTES if number < count else None,
            }
            for number in batch
        ]
        with engine.begin() as connection:
            connection.execute(insert(tables.runs), rows)
            first = batch[0] + connection.execute(select(func.max(tables.runs.c.seq))).scalar_one() - batch[-1]
            found_by(connection, rows, range(first, first + len(rows)), batch[0])
    with engine.begin() as connection:
        connection.execute(delete(tables.record_bytes))
        runs = tables.runs.c
        sums = (
            select(runs.owner, func.sum(runs.kept_bytes)).where(runs.kept_bytes.is_not(None)).group_by(runs.owner)
        )
        connection.execute(insert(tables.record_bytes).from_select(["owner", "bytes"], sums))
    engine.dispose()
    print(f"\nfilled with {count:,} runs in {time.perf_counter() - start:.0f} s", flush=True)


def found_by(connection: Connection, rows: list[dict[str, Any]], seqs: Iterable[int], first: int) -> None:
    """What the runs are found by: two pairs of metadata each, and the error text of those that failed."""
    named, failed = [], []
    for number, (seq, row) in enumerate(zip(seqs, rows, strict=True), start=first):
        metadata = {"env": "prod", "user": f"user {number % 1000}"}
        named += [{"digest": digest, "run_seq": seq} for digest in tags(row["owner"], metadata)]
        if row["status"] not in ("succeeded", "running"):
            text = f"{TRACEBACK}{'NameError' if number % 5000 == 0 else 'ValueError'}: number {number}"
            failed.append({"run_seq": seq, "owner": row["owner"], "text": folded(text)})
    connection.execute(insert(tables.run_tags), named)
    if failed:
        connection.execute(insert(tables.run_errors), failed)


def searches(records: Records) -> dict[str, Callable[[], object]]:
    """The operator's searches, and a key's own by metadata."""

    def of(**wanted: Any) -> Callable[[], object]:  # fields of the filter
        return lambda: records.runs.search(RunFilter(**wanted), limit=100)

    user, rare = {"user": "user 7"}, {"user": "user 7", "env": "prod"}
    return {
        "search, newest 100": of(),
        "search, a key": of(owner="key_7"),
        "search, a status": of(status="timeout"),
        "search, a status that is none": of(status="oom"),
        "search, queued": of(status="queued"),
        "search, a language": of(language="go"),
        "search, a language that is none": of(language="php"),
        "search, status and language": of(status="error", language="go"),
        "search, both, none such": of(status="failed", language="php"),
        "search, key and status": of(owner="key_7", status="error"),
        "search, metadata of all": of(metadata={"env": "prod"}),
        "search, metadata of few": of(metadata=user),
        "search, two pairs": of(metadata=rare),
        "search, a pair that is none": of(metadata={"user": "nobody"}),
        "search, metadata and status": of(metadata=user, status="timeout"),
        "search, metadata, no such status": of(metadata={"env": "prod"}, status="oom"),
        "search, an error of all": of(error="valueerror"),
        "search, an error of few": of(error="NameError: number"),
        "search, an error that is none": of(error="KeyError"),
        "search, error and key": of(error="NameError", owner=BIG_OWNER),
        "search, error and status": of(error="NameError", status="timeout"),
        "search, error and metadata": of(error="Error", metadata=user),
        "list, metadata": lambda: records.runs.list(BIG_OWNER, limit=100, metadata=user),
        "list, metadata of all": lambda: records.runs.list(BIG_OWNER, limit=100, metadata={"env": "prod"}),
    }


def queries(records: Records, count: int) -> None:
    """The second table."""
    runs, retention = records.runs, records.retention
    page = runs.list(BIG_OWNER, limit=100, order="asc")
    some = page.items[50].id
    for _ in range(200):
        page = runs.list(BIG_OWNER, limit=100, order="asc", after=page.items[-1].id)
    deep = page.items[-1].id
    oldest_ms = NOW_MS - count * 1000
    print("\nslowest of 20 calls, ms")
    table: dict[str, Callable[[], object]] = {
        "get": lambda: runs.get(BIG_OWNER, some),
        "list, newest 20": lambda: runs.list(BIG_OWNER, limit=20),
        "list, newest 100": lambda: runs.list(BIG_OWNER, limit=100),
        "list, 100 from deep inside": lambda: runs.list(BIG_OWNER, limit=100, after=deep),
        "list, by status": lambda: runs.list(BIG_OWNER, limit=100, status="timeout"),
        "list, by language": lambda: runs.list(BIG_OWNER, limit=100, language="go"),
        "list, by both": lambda: runs.list(BIG_OWNER, limit=100, status="error", language="go"),
        "list, a status that is none": lambda: runs.list(BIG_OWNER, limit=100, status="oom"),
        "list, both, none such": lambda: runs.list(BIG_OWNER, limit=100, status="failed", language="php"),
        "bytes of all keys": records.retention.kept_bytes,
        "sweep of 200 of one key": lambda: records.retention.sweep_key(BIG_OWNER, keep_bytes=_less_200(records)),
        "the keys that keep the most": lambda: records.retention.largest_keys(above=0, most=100),
        "unfinished": lambda: list(runs.unfinished()),
        "sweep, nothing too old": lambda: retention.sweep_runs(ended_before_ms=0, keep_at_most=10**9),
        "sweep by age, 200 runs": lambda: retention.sweep_runs(ended_before_ms=NOW_MS, keep_at_most=10**9),
        "sweep by count, 200 runs": lambda: retention.sweep_runs(ended_before_ms=0, keep_at_most=count // 2),
        "sweep, idempotency keys": lambda: retention.expire_idempotency(now_ms=oldest_ms),
    }
    for name, call in (table | searches(records)).items():
        took = []
        for _ in range(20):
            start = time.perf_counter()
            call()
            took.append((time.perf_counter() - start) * 1000)
        print(f"{name:<34} {max(took):8.2f}   (median {statistics.median(took):.2f})", flush=True)


def _less_200(records: Records) -> int:
    """What the largest key keeps, less 200 runs."""
    return records.retention.largest_keys(above=0, most=1)[0][1] - 200 * KEPT_BYTES


if __name__ == "__main__":
    main()
