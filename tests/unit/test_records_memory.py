"""The in-memory store keeps its bounds, its owners apart, and live runs always."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from records.memory import ARTIFACT_BYTES, RECORD_BYTES, MemoryRunStore
from records.store import ArtifactRecord, RunRecord


def record(run_id, *, owner="a", ended=True, size=10, artifacts=()):
    return RunRecord(
        id=run_id,
        owner=owner,
        status="succeeded" if ended else "running",
        language="python",
        created_at="2026-01-01T00:00:00.000Z",
        document=b"x" * size,
        ended=ended,
        artifacts=artifacts,
    )


def test_a_run_is_its_owners():
    store = MemoryRunStore(max_runs=10, max_bytes=10**6)
    store.put(record("r1", owner="a"))
    assert store.get("a", "r1").id == "r1"
    assert store.get("b", "r1") is None
    assert store.get("a", "r2") is None


def test_a_live_run_is_replaced_by_its_end_and_an_ended_one_by_nothing():
    store = MemoryRunStore(max_runs=10, max_bytes=10**6)
    store.put(record("r1", ended=False))
    store.put(record("r1", size=20))
    store.put(record("r1", ended=False))
    store.put(record("r1", size=30))
    assert store.get("a", "r1").ended
    assert len(store.get("a", "r1").document) == 20
    assert len(store) == 1


def test_the_oldest_ended_run_goes_first_and_a_live_one_never():
    store = MemoryRunStore(max_runs=2, max_bytes=10**6)
    store.put(record("live", ended=False))
    for name in ("r1", "r2", "r3"):
        store.put(record(name))
    assert store.get("a", "r1") is None
    assert store.get("a", "r2")
    assert store.get("a", "r3")
    assert store.get("a", "live")


def test_age_counts_from_the_end_not_the_start():
    store = MemoryRunStore(max_runs=1, max_bytes=10**6)
    store.put(record("long", ended=False))
    store.put(record("short"))
    store.put(record("long"))
    assert store.get("a", "short") is None
    assert store.get("a", "long")


def test_bytes_bound_the_store():
    store = MemoryRunStore(max_runs=100, max_bytes=3 * (1000 + RECORD_BYTES))
    for number in range(10):
        store.put(record(f"r{number}", size=1000))
    assert len(store) == 3
    store.put(record("huge", size=10**6))
    assert store.get("a", "huge") is None
    assert len(store) == 0


def test_artifacts_count():
    artifact = ArtifactRecord("file_1", "a", "a", 1, "00", "text/plain")
    store = MemoryRunStore(max_runs=100, max_bytes=10 * (10 + RECORD_BYTES))
    store.put(record("many", artifacts=(artifact,) * (10 * RECORD_BYTES // ARTIFACT_BYTES)))
    assert store.get("a", "many") is None


def test_discard_forgets_live_runs_only():
    store = MemoryRunStore(max_runs=10, max_bytes=10**6)
    store.put(record("live", ended=False))
    store.put(record("ended"))
    for name in ("live", "ended", "unknown"):
        store.discard(name)
    assert store.get("a", "live") is None
    assert store.get("a", "ended")


@given(
    st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.integers(0, 5000)), max_size=60),
    st.integers(1, 5),
    st.integers(1, 20_000),
)
def test_whatever_comes_the_bounds_hold(steps, max_runs, max_bytes):
    store = MemoryRunStore(max_runs=max_runs, max_bytes=max_bytes)
    live = set()
    ended = set()
    for number, ends, size in steps:
        name = f"r{number}"
        if name in ended:
            continue
        store.put(record(name, ended=ends, size=size))
        if ends:
            live.discard(name)
            ended.add(name)
        else:
            live.add(name)
        kept = [found for name in ended if (found := store.get("a", name)) is not None]
        assert len(kept) <= max_runs
        assert sum(len(found.document) + RECORD_BYTES for found in kept) <= max_bytes
        assert all(store.get("a", name) is not None for name in live)


def test_threads():
    store = MemoryRunStore(max_runs=50, max_bytes=10**6)

    def work(owner):
        for number in range(200):
            name = f"{owner}{number}"
            store.put(record(name, owner=owner, ended=False))
            assert store.get(owner, name)
            store.put(record(name, owner=owner))

    threads = [threading.Thread(target=work, args=(owner,)) for owner in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store) == 50
    assert store._bytes == 50 * (10 + RECORD_BYTES)
