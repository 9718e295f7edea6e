"""Searches by metadata and error text, of all keys and of one: whatever a text holds it is only a text."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text

from records.errors import UnknownCursor
from records.runs import ERROR_BYTES, RunFilter
from records.sql import search
from records.sql.database import parse_url
from tests.records.builders import accepted, an_end, ended

HOSTILE = [
    "", ".", "a.b", "a=b", "'", '"', "'; DROP TABLE runs --", "%", "_", "%%", "a_c", "\\", "\0", "\ud800", "ü\u202e",
    "metadata.a", "[x]", "x" * 512,
]  # fmt: skip


def failed(records, owner, text, **fields):
    return ended(records, owner, an_end(fields.pop("status", "failed"), error_text=text), **fields)


def ids(page):
    return [run.id for run in page.items]


def found(records, limit=100, **wanted):
    return ids(records.runs.search(RunFilter(**wanted), limit=limit))


def test_each_filter_and_all_of_them_together(own_records):
    records = own_records
    rows = [
        (owner, language, status, user)
        for owner in ("key_a", "key_b")
        for language in ("python", "bash")
        for status in ("failed", "timeout")
        for user in ("1", "2")
    ]
    made = {
        row: failed(records, row[0], f"ValueError of {row[3]}", language=row[1], status=row[2],
                    metadata={"user": row[3], "env": "prod"})
        for row in rows
    }  # fmt: skip
    live = accepted(records, "key_a", metadata={"user": "1"})
    for owner in (None, "key_a", "key_b"):
        for language in (None, "python"):
            for status in (None, "timeout"):
                for user in (None, "2"):
                    for error in (None, "ERROR OF 2"):
                        wanted = {
                            made[row]
                            for row in rows
                            if owner in (None, row[0])
                            and language in (None, row[1])
                            and status in (None, row[2])
                            and user in (None, row[3])
                            and (error is None or row[3] == "2")
                        }
                        if (status, user, error) == (None, None, None) and owner != "key_b":
                            wanted.add(live)
                        metadata = {} if user is None else {"user": user, "env": "prod"}
                        given = found(
                            records, owner=owner, language=language, status=status, metadata=metadata, error=error
                        )
                        assert set(given) == wanted
                        assert len(given) == len(wanted)
    assert found(records, status="queued") == [live]
    assert set(found(records, metadata={"user": "1"})) == {live, *(made[row] for row in rows if row[3] == "1")}
    assert found(records, metadata={"user": "3"}) == []
    assert found(records, metadata={"usr": "1"}) == []
    assert found(records, metadata={"user": "1", "env": "test"}) == []
    listed = records.runs.list("key_b", limit=100, metadata={"user": "2"}, status="failed")
    assert ids(listed) == [made["key_b", language, "failed", "2"] for language in ("bash", "python")]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("walked", [1, 7])
def test_pages_hold_every_run_once_however_few_rows_one_looks_at(own_records, monkeypatch, order, walked):
    records = own_records
    monkeypatch.setattr(search, "WALKED", walked)
    monkeypatch.setattr(search, "WALKED_OF_OWNER", walked)
    monkeypatch.setattr(search, "READ", max(2, walked // 2))
    monkeypatch.setattr(search, "_BATCH", 2)
    made = [
        failed(records, "key_a", "NameError" if n % 5 == 0 else "ValueError", metadata={"env": "prod", "n": str(n % 4)},
               status="timeout" if n % 3 == 0 else "failed")
        for n in range(16)
    ]  # fmt: skip
    good = [ended(records, "key_b", language="bash" if n % 2 else "python") for n in range(4)]
    cases = [
        ({"metadata": {"env": "prod"}}, made),
        ({"metadata": {"env": "prod", "n": "2"}}, made[2::4]),
        ({"metadata": {"env": "prod"}, "status": "timeout"}, made[::3]),
        ({"metadata": {"env": "prod"}, "status": "oom"}, []),
        ({"error": "nameerror"}, made[::5]),
        ({"error": "Error", "status": "timeout", "owner": "key_a"}, made[::3]),
        ({"error": "nameerror", "metadata": {"n": "0"}}, made[::20]),
        ({"error": "nothing like it"}, []),
        ({"status": "succeeded"}, good),
        ({"status": "succeeded", "language": "bash"}, good[1::2]),
    ]
    for wanted, expected in cases:
        got, after, pages = [], None, 0
        while True:
            page = records.runs.search(RunFilter(**wanted), limit=3, after=after, order=order)
            got += ids(page)
            pages += 1
            assert len(page.items) <= 3
            assert pages < 40
            after = page.cursor
            if after is None:
                break
        assert got == (expected if order == "asc" else expected[::-1]), wanted


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_and_value_is_found_as_it_is_and_nothing_else_is(records, name):
    owner = f"key_{name.encode('utf-8', 'surrogatepass').hex()[:40]}"
    run = ended(records, owner, metadata={name: "v", "w": name})
    other = ended(records, owner, metadata={name + "x": "v", "w": name + "x"})
    mine = {"owner": owner}
    assert found(records, **mine, metadata={name: "v"}) == [run]
    assert found(records, **mine, metadata={"w": name}) == [run]
    assert found(records, **mine, metadata={name: "v", "w": name}) == [run]
    assert found(records, **mine, metadata={name: ""}) == []
    assert found(records, **mine, metadata={name: "v", "w": name + "x"}) == []
    assert found(records, **mine, metadata={name + "x": "v"}) == [other]
    assert found(records, owner=owner + "v", metadata={name: ""}) == []


@pytest.mark.parametrize("part", [part for part in HOSTILE if part])
def test_an_error_text_has_no_wildcards(records, part):
    owner = f"key_e{part.encode('utf-8', 'surrogatepass').hex()[:40]}"
    run = failed(records, owner, f"Before {part} after")
    failed(records, owner, "abc 100 percent of nothing")
    assert found(records, owner=owner, error=part[:200]) == [run]
    assert found(records, owner=owner, error=part + "!") == []
    assert len(found(records, owner=owner, error="E")) == 2


def test_the_end_of_an_error_text_is_kept_and_case_does_not_matter(records):
    run = failed(records, "key_case", "START" + "ß" * 10_000 + "ZeroDivisionError: Straße")
    for part in ("zerodivision", "ZERODIVISIONERROR: STRASSE", "straße"):
        assert found(records, owner="key_case", error=part) == [run]
    assert found(records, owner="key_case", error="start") == []
    assert len(search.folded("ß" * 10_000)) == ERROR_BYTES


def test_what_finds_a_run_goes_with_it(own_records, empty_url):
    records = own_records
    kept = failed(records, "key_a", "boom", metadata={"a": "b"})
    gone = failed(records, "key_a", "boom", metadata={"a": "b"})
    refused = accepted(records, "key_a", metadata={"a": "b"})
    assert records.runs.delete("key_a", gone) == "deleted"
    assert records.runs.discard(refused)
    assert found(records, metadata={"a": "b"}) == found(records, error="boom") == [kept]
    engine = create_engine(parse_url(empty_url))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM run_tags")).scalar() == 2
        assert connection.execute(text("SELECT count(*) FROM run_errors")).scalar() == 1
    engine.dispose()


def test_an_owners_list_is_not_continued_behind_anothers_run(records):
    mine = ended(records, "key_m1", metadata={"k": "v"})
    ended(records, "key_m1", metadata={"k": "v"})
    others = ended(records, "key_m2", metadata={"k": "v"})
    for after in (others, "run_none"):
        with pytest.raises(UnknownCursor):
            records.runs.list("key_m1", limit=1, after=after, metadata={"k": "v"})
    page = records.runs.list("key_m1", limit=1, metadata={"k": "v"})
    assert page.cursor == page.items[0].id
    page = records.runs.list("key_m1", limit=1, after=page.cursor, metadata={"k": "v"})
    assert (ids(page), page.cursor) == ([mine], None)
    with pytest.raises(UnknownCursor):
        records.runs.search(RunFilter(error="x"), limit=1, after="run_none")


def test_a_run_without_metadata_that_succeeds_writes_no_more_than_before(own_records, empty_url):
    ended(own_records, "key_a")
    engine = create_engine(parse_url(empty_url))
    with engine.connect() as connection:
        for table in ("run_tags", "run_errors"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 0
    engine.dispose()
