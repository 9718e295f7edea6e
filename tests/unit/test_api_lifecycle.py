"""What a process of api starts is stopped: in reverse, within a bound, whatever fails."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from api.lifecycle import Lifecycle
from api.runs.reconciler import ResultReconciler
from dispatch.unix import UnixDispatcher
from records import migrate, open_records
from records.errors import RecordsUnavailable


def test_pairs_are_stopped_in_reverse_and_once():
    calls = []
    lifecycle = Lifecycle()
    for name in "abc":
        lifecycle.add(name, lambda name=name: calls.append(f"+{name}"), lambda name=name: calls.append(f"-{name}"))
    lifecycle.start()
    lifecycle.stop()
    lifecycle.stop()
    assert calls == ["+a", "+b", "+c", "-c", "-b", "-a"]


def test_what_was_started_is_stopped_when_a_later_start_fails():
    stopped = []
    lifecycle = Lifecycle()
    lifecycle.add("a", lambda: None, lambda: stopped.append("a"))
    lifecycle.add("b", lambda: 1 / 0, lambda: stopped.append("b"))
    with pytest.raises(ZeroDivisionError):
        lifecycle.start()
    assert stopped == ["a"]


def test_one_that_hangs_or_fails_keeps_no_other_from_being_stopped(caplog):
    release, stopped = threading.Event(), threading.Event()
    lifecycle = Lifecycle()
    lifecycle.add("first", lambda: None, stopped.set)
    lifecycle.add("failing", lambda: None, lambda: 1 / 0)
    lifecycle.add("hanging", lambda: None, lambda: release.wait(60))
    lifecycle.start()
    began = time.monotonic()
    lifecycle.stop(0.2)
    assert stopped.wait(10)
    assert time.monotonic() - began < 10
    assert "hanging did not stop in time" in caplog.text
    release.set()


@pytest.fixture
def store(tmp_path):
    url = f"sqlite:///{tmp_path}/db.sqlite"
    migrate(url)
    records = open_records(url)
    yield records.runs
    records.close()


def collecting(others):
    """The threads of reconcilers that are not those of other tests."""
    return [one for one in threading.enumerate() if one.name.startswith("collector") and one not in others]


def test_one_that_listens_to_a_silent_worker_is_stopped_at_once(store, tmp_path):
    others = threading.enumerate()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "worker"))
        listener.listen()
        collector = ResultReconciler(UnixDispatcher(tmp_path / "worker"), store, keep_files_ms=1000, siblings=True)
        collector.start()
        worker, _ = listener.accept()
        with worker:
            assert worker.recv(100) == b'{"op":"collect"}\n'
            assert len(collecting(others)) == 2
            collector.stop()
            collector.stop()
            assert collecting(others) == []
            assert worker.recv(100) == b'{"op":"leave"}\n'


def test_one_that_waits_for_the_database_is_stopped(store, tmp_path, monkeypatch):
    others = threading.enumerate()
    asked = threading.Event()

    def unfinished():
        asked.set()
        raise RecordsUnavailable

    monkeypatch.setattr(store, "unfinished", unfinished)
    collector = ResultReconciler(UnixDispatcher(tmp_path / "none"), store, keep_files_ms=1000)
    collector.start()
    assert asked.wait(10)
    collector.stop()
    assert collecting(others) == []
