"""Sessions: one of a name, found by what they are given, counted once, and forgotten in time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from records.errors import UnknownCursor
from records.runs import OverQuota
from records.sessions import ExternalIdInUse, NewSession, SessionFilter, SessionUse
from records.usage import Quota, SessionUsed
from tests.records.builders import NOW_MS

DAY = datetime.fromtimestamp(NOW_MS / 1000, UTC).date()


@pytest.fixture
def records(own_records):
    """A database of each test's own, as the ids are the same in all."""
    return own_records


def new(short_id, owner="key_a", **fields):
    return NewSession(
        **{"id": f"sess_{short_id}", "owner": owner, "name": None, "language": "bash", "created_at_ms": NOW_MS}
        | {"document": b"{}"}
        | fields
    )


def ids(records, owner="key_a", **wanted):
    return [one.id for one in records.sessions.list(owner, limit=100, wanted=SessionFilter(**wanted)).items]


def test_of_one_name_one_session_lives(records):
    assert records.sessions.create(new("one", name="n")) is None
    assert records.sessions.create(new("two", name="n")).id == "sess_one"
    assert records.sessions.create(new("three", name="n", owner="key_b")) is None
    assert records.sessions.end("sess_one", NOW_MS + 1, b"{}")
    assert records.sessions.create(new("two", name="n")) is None


def test_an_external_id_is_of_one_session_also_after_its_end(records):
    assert records.sessions.create(new("one", external_id="x")) is None
    records.sessions.end("sess_one", NOW_MS + 1, b"{}")
    assert records.sessions.create(new("two", external_id="x")) == ExternalIdInUse()
    assert records.sessions.create(new("two", external_id="x", owner="key_b")) is None
    assert ids(records, external_id="x") == ["sess_one"]


def test_a_session_counts_as_a_run_unless_it_is_discarded(records):
    quota = Quota("all", 2)
    for name in ("one", "two"):
        assert records.sessions.create(new(name, quota=quota)) is None
    assert records.sessions.create(new("three", quota=quota)) == OverQuota(2, 2)
    assert records.sessions.get("key_a", "sess_three") is None
    records.sessions.discard("sess_two")
    assert records.usage.counted("key_a", "all") == 1
    assert records.sessions.create(new("three", quota=quota)) is None


def test_lists_filter_by_everything_together(records):
    for name, metadata in (("a", {"of": "1"}), ("b", {"of": "2"}), ("c", {"of": "1", "at": "x"})):
        records.sessions.create(new(name, metadata=metadata))
    records.sessions.create(new("d", metadata={"of": "1"}, owner="key_b"))
    records.sessions.end("sess_a", NOW_MS + 1, b"{}")
    assert ids(records, metadata={"of": "1"}) == ["sess_c", "sess_a"]
    assert ids(records, metadata={"of": "1"}, live=True) == ["sess_c"]
    assert ids(records, metadata={"of": "1", "at": "y"}) == []
    assert ids(records, ids=("sess_b", "sess_d")) == ["sess_b"]
    assert ids(records, other_than=("sess_b",)) == ["sess_c", "sess_a"]
    with pytest.raises(UnknownCursor):
        records.sessions.list("key_a", limit=1, after="sess_d")


def test_a_change_is_found_by_its_new_metadata(records):
    records.sessions.create(new("one", metadata={"a": "1"}))
    assert records.sessions.change("sess_one", b'{"new":1}', {"b": "2"})
    assert (ids(records, metadata={"a": "1"}), ids(records, metadata={"b": "2"})) == ([], ["sess_one"])
    assert records.sessions.change("sess_one", b'{"new":2}', None)
    assert ids(records, metadata={"b": "2"}) == ["sess_one"]
    assert records.sessions.find("sess_one").document == b'{"new":2}'
    records.sessions.end("sess_one", NOW_MS + 1, b"{}")
    assert not records.sessions.change("sess_one", b"{}", None)


def test_what_is_used_is_added_once_however_often_it_is_told(records):
    records.sessions.create(new("one"))
    for used in ((100, 10, 7, 1), (100, 10, 7, 1), (250, 30, 9, 1), (200, 20, 8, 5)):
        records.sessions.count((SessionUse("sess_one", SessionUsed(*used), b"{}"),), NOW_MS)
    assert records.usage.session_usage("key_a", None) == (250, 30)
    assert records.sessions.end("sess_one", NOW_MS, b'{"over":1}', SessionUsed(300, 35, 11, 6))
    assert not records.sessions.end("sess_one", NOW_MS, b"{}", SessionUsed(900, 90))
    records.sessions.count((SessionUse("sess_one", SessionUsed(900, 90), b"{}"),), NOW_MS)
    assert records.usage.session_usage("key_a", DAY) == (300, 35)
    row = records.usage.usage("key_a", DAY, DAY)[0]
    assert (row.language, row.runs, row.sessions, row.session_ms, row.session_cpu_ms) == ("bash", 0, 1, 300, 35)
    assert (row.memory_mb_ms, row.session_memory_mb_ms, row.egress_bytes) == (0, 11, 6)
    assert records.sessions.find("sess_one").facts == b'{"over":1}'


def test_ended_sessions_are_forgotten_in_time(records):
    for name in ("old", "young", "live"):
        records.sessions.create(new(name, metadata={"a": "1"}))
    records.sessions.end("sess_old", NOW_MS, b"{}")
    records.sessions.end("sess_young", NOW_MS + 10, b"{}")
    assert records.retention.sweep_sessions(ended_before_ms=NOW_MS + 5) == 1
    assert ids(records) == ["sess_live", "sess_young"]
