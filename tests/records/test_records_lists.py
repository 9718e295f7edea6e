"""Lists and events, a page at a time: complete, stable, bounded."""

from __future__ import annotations

import itertools

import pytest

from records.errors import UnknownCursor
from records.runs import StoredEvent
from records.sql.listing import PAGE_BYTES
from tests.records.builders import a_file, accepted, an_end, ended, events, unique

MIB = 1024 * 1024


def ids(page):
    return [run.id for run in page.items]


def all_pages(records, owner, limit, **asked):
    """Every id, page after page."""
    found, after = [], None
    while True:
        page = records.runs.list(owner, limit=limit, after=after, **asked)
        found += ids(page)
        if not page.has_more:
            return found
        assert page.items
        after = page.items[-1].id


def test_newest_first_and_oldest_first(records):
    owner = unique("key")
    made = [accepted(records, owner, created_at_ms=1) for _ in range(7)]
    for limit in (1, 2, 3, 7, 100):
        assert all_pages(records, owner, limit, order="asc") == made
        assert all_pages(records, owner, limit) == made[::-1]
    assert not records.runs.list(owner, limit=7).has_more
    assert records.runs.list(owner, limit=6).has_more
    assert records.runs.list(unique("key"), limit=5).items == ()


def test_a_page_does_not_move_when_newer_runs_come_or_older_ones_go(records):
    owner = unique("key")
    made = [ended(records, owner) for _ in range(6)]
    first = records.runs.list(owner, limit=2)
    accepted(records, owner)
    records.runs.delete(owner, made[0])
    second = records.runs.list(owner, limit=3, after=first.items[-1].id)
    assert ids(first) + ids(second) == [made[n] for n in (5, 4, 3, 2, 1)]
    assert not second.has_more


def test_filters_alone_and_together(records):
    owner = unique("key")
    made = {}
    for status, language in itertools.product(("succeeded", "failed"), ("python", "node")):
        made[status, language] = [ended(records, owner, an_end(status), language=language) for _ in range(3)]
    live = accepted(records, owner)
    failed = made["failed", "python"] + made["failed", "node"]
    assert all_pages(records, owner, 2, status="failed", order="asc") == failed
    node = made["succeeded", "node"] + made["failed", "node"]
    assert all_pages(records, owner, 2, language="node", order="asc") == node
    both = made["failed", "node"]
    assert all_pages(records, owner, 2, status="failed", language="node", order="asc") == both
    assert all_pages(records, owner, 2, status="queued") == [live]
    for nothing in ("", "FAILED", "fail\0ed", "\ud800"):
        assert records.runs.list(owner, limit=5, status=nothing).items == ()


def test_a_cursor_is_one_of_the_owners_runs(records):
    owner, other = unique("key"), unique("key")
    theirs = accepted(records, other)
    accepted(records, owner)
    for after in (theirs, "run_unknown", ""):
        with pytest.raises(UnknownCursor):
            records.runs.list(owner, limit=5, after=after)


def test_a_cursor_need_not_match_the_filter(records):
    owner = unique("key")
    first, second = ended(records, owner), accepted(records, owner)
    page = records.runs.list(owner, limit=5, after=second, status="succeeded")
    assert ids(page) == [first]


def test_a_page_is_bounded_in_bytes_and_never_empty(records):
    owner = unique("key")
    huge = b"x" * (PAGE_BYTES // 2)
    made = [accepted(records, owner, document=huge + b"x" * n) for n in (0, 0, 1, PAGE_BYTES)]
    page = records.runs.list(owner, limit=10, order="asc")
    assert (ids(page), page.has_more) == (made[:2], True)
    assert all_pages(records, owner, 10, order="asc") == made


def seqs(page):
    return [event.seq for event in page.events]


def test_events_are_read_from_any_point_while_live_and_after(records):
    run_id = accepted(records, status="running")
    assert records.runs.events("key_a", run_id).events == ()
    assert records.runs.append_events(run_id, 1, events(1, 2))
    assert records.runs.append_events(run_id, 1, events(3, 7))
    page = records.runs.events("key_a", run_id, after=1)
    assert (seqs(page), page.ended, page.has_more) == ([2, 3, 7], False, False)
    assert page.events[0] == events(2)[0]
    records.runs.finish(run_id, 1, an_end(events=events(8, 9)))
    page = records.runs.events("key_a", run_id)
    assert (seqs(page), page.ended, page.has_more) == ([1, 2, 3, 7, 8, 9], True, False)
    for after, rest in ((0, 6), (7, 2), (9, 0), (10**30, 0), (-5, 6)):
        assert len(records.runs.events("key_a", run_id, after=after).events) == rest


def test_a_batch_that_is_sent_twice_is_kept_once(records):
    run_id = accepted(records, status="running")
    for batch in (events(1, 2), events(1, 2), events(1, 2, 3), events(2, 3, 4), ()):
        assert records.runs.append_events(run_id, 1, batch)
    records.runs.finish(run_id, 1, an_end(events=events(1, 2, 3, 4, 5)))
    assert seqs(records.runs.events("key_a", run_id)) == [1, 2, 3, 4, 5]


def test_events_out_of_order_or_on_two_lines_are_refused(records):
    run_id = accepted(records, status="running")
    for bad in (events(2, 1), events(1, 1), (StoredEvent(1, b"{\n}"),), events(0)):
        with pytest.raises(ValueError, match="events"):
            records.runs.append_events(run_id, 1, bad)
    assert records.runs.events("key_a", run_id).events == ()


def test_many_large_events_come_in_bounded_pages(records):
    run_id = ended(records, end=an_end(events=events(*range(1, 401), size=20_000)))
    found, after, pages = [], 0, 0
    while True:
        page = records.runs.events("key_a", run_id, after=after, limit=1000)
        assert sum(len(event.body) for event in page.events) < 2 * MIB
        found += seqs(page)
        pages += 1
        if not page.has_more:
            break
        after = found[-1]
    assert found == list(range(1, 401))
    assert pages > 4


def test_a_page_of_events_has_the_length_asked_for(records):
    run_id = ended(records, end=an_end(events=events(*range(1, 11))))
    page = records.runs.events("key_a", run_id, after=2, limit=3)
    assert (seqs(page), page.has_more) == ([3, 4, 5], True)
    page = records.runs.events("key_a", run_id, after=7, limit=3)
    assert (seqs(page), page.has_more) == ([8, 9, 10], False)


def test_files_are_listed_as_runs_are(records):
    owner = unique("key")
    uploads = [records.files.put(owner, a_file()).id for _ in range(3)]
    artifact = a_file()
    ended(records, owner, an_end(artifacts=(artifact,)))
    page = records.files.list(owner, limit=2)
    assert ([file.id for file in page.items], page.has_more) == ([artifact.id, uploads[2]], True)
    page = records.files.list(owner, limit=2, after=uploads[2])
    assert ([file.id for file in page.items], page.has_more) == ([uploads[1], uploads[0]], False)
    page = records.files.list(owner, limit=9, area="upload", order="asc")
    assert [file.id for file in page.items] == uploads
    with pytest.raises(UnknownCursor):
        records.files.list(unique("key"), limit=2, after=uploads[0])
