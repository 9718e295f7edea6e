"""Functions: numbers that are never used again, builds that end once, and blobs that are named while they are used."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from records.errors import UnknownCursor
from records.files import StoredBlob
from records.functions import (
    AddedVersion,
    BuildEnd,
    FunctionBlob,
    FunctionBounds,
    FunctionsTooLarge,
    NewVersion,
    TooManyFunctions,
)
from records.runs import RunFilter
from tests.records.builders import NOW_MS, new_run, unique

BOUNDS = FunctionBounds(functions=3, names=5, total_bytes=10_000)
PROGRAM = FunctionBlob("program", "artifact", "a" * 64, 70)
READY = BuildEnd("ready", NOW_MS + 5, "built")
FAILED = BuildEnd("failed", NOW_MS + 5, "no")


@pytest.fixture
def records(own_records):
    return own_records


def new(name="add", owner="key_a", **fields):
    given = {
        "owner": owner, "name": name, "language": "go", "created_at_ms": NOW_MS, "document": b'{"limits":{}}',
        "source": b'{"code":"x"}', "build_run_id": unique("run"),
    }  # fmt: skip
    return NewVersion(**(given | fields))


def add(records, name="add", end=READY, **fields):
    added = records.functions.add(new(name, **fields), BOUNDS)
    if end is not None:
        assert records.functions.end_build(fields.get("owner", "key_a"), name, added.version, end)
    return added.version


def test_a_version_is_found_as_it_was_kept(records):
    asked = new()
    assert records.functions.add(asked, BOUNDS) == AddedVersion(1, is_new=True)
    found = records.functions.get("key_a", "add")
    assert (found.version, found.state, found.log, found.language) == (1, "building", "", "go")
    assert (found.document, found.source, found.build_run_id) == (asked.document, asked.source, asked.build_run_id)
    assert records.functions.get("key_b", "add") is None
    assert records.functions.get("key_a", "add", 2) is None


def test_a_name_means_its_newest_ready_version_or_else_its_newest(records):
    assert add(records, end=FAILED) == 1
    assert records.functions.get("key_a", "add").state == "failed"
    assert (add(records), add(records, end=FAILED), add(records, end=None)) == (2, 3, 4)
    assert records.functions.get("key_a", "add").version == 2
    assert records.functions.get("key_a", "add", 3).log == "no"


def test_a_build_ends_once(records):
    add(records)
    assert not records.functions.end_build("key_a", "add", 1, FAILED)
    assert not records.functions.end_build("key_a", "add", 2, READY)
    assert not records.functions.end_build("key_a", "other", 1, READY)
    assert records.functions.get("key_a", "add").state == "ready"


def test_numbers_are_not_used_again(records):
    add(records)
    add(records)
    assert records.functions.delete("key_a", "add")
    assert not records.functions.delete("key_a", "add")
    assert records.functions.get("key_a", "add") is None
    assert records.functions.add(new(created_at_ms=NOW_MS + 9), BOUNDS) == AddedVersion(3, is_new=True)
    assert records.functions.get("key_a", "add").function_created_at_ms == NOW_MS + 9


def test_versions_that_are_added_together_have_numbers_of_their_own(records):
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: records.functions.add(new(), BOUNDS), range(12)))
    assert sorted(one.version for one in found) == list(range(1, 13))
    assert [one.is_new for one in found].count(True) == 1


def test_a_key_has_bounds(records):
    for name in "abc":
        add(records, name)
    assert records.functions.add(new("d"), BOUNDS) == TooManyFunctions(3)
    assert add(records, "a") == 2
    assert add(records, "d", owner="key_b") == 1
    for name in "de":
        assert records.functions.delete("key_a", "abc"["de".index(name)])
        add(records, name)
    assert records.functions.delete("key_a", "d")
    assert records.functions.add(new("f"), BOUNDS) == TooManyFunctions(5)


def test_all_that_versions_keep_counts_until_they_are_gone(records):
    source = FunctionBlob("source", "upload", "b" * 64, 9_000)
    add(records, "large", source=b"", blob=source)
    used = records.functions.add(new("more", source=b"x" * 2_000), BOUNDS)
    assert isinstance(used, FunctionsTooLarge)
    assert 9_000 < used.used_bytes < used.limit_bytes == 10_000
    assert records.functions.add(new("more", owner="key_b", source=b"x" * 2_000), BOUNDS).version == 1
    records.functions.delete("key_a", "large")
    assert records.functions.add(new("more", source=b"x" * 2_000), BOUNDS).version == 1


def test_its_blobs_are_named_while_it_is_there(records, clock):
    add(records, end=BuildEnd("ready", NOW_MS, "", PROGRAM))
    stored = StoredBlob("artifact", PROGRAM.sha256)
    records.files.mark_unreferenced([stored])
    assert records.files.in_use([stored]) == {stored}
    assert records.files.unreferenced(before_ms=clock.now_ms + 1) == ()
    assert records.functions.get("key_a", "add").blob("program") == PROGRAM
    records.functions.delete("key_a", "add")
    assert records.files.in_use([stored]) == frozenset()
    assert records.files.unreferenced(before_ms=clock.now_ms + 1) == (stored,)


def test_a_version_that_was_not_built_after_all_is_forgotten(records):
    add(records, end=None)
    records.functions.discard("key_a", "add", 1)
    assert records.functions.get("key_a", "add") is None
    assert add(records) == 2
    records.functions.discard("key_a", "add", 2)  # it is ready
    assert records.functions.get("key_a", "add").version == 2


def test_old_versions_go_but_for_the_newest_ready_one(records, clock):
    add(records, end=BuildEnd("ready", NOW_MS, "", PROGRAM))
    for end in (READY, FAILED, FAILED, FAILED):
        add(records, end=end)
    add(records, end=None)
    assert records.functions.prune(keep=2) == 3
    assert [n for n in range(1, 7) if records.functions.get("key_a", "add", n)] == [2, 5, 6]
    assert records.files.unreferenced(before_ms=clock.now_ms + 1) == (StoredBlob("artifact", PROGRAM.sha256),)
    assert records.functions.prune(keep=2) == 0


def test_functions_are_listed_page_by_page(records):
    for name in "abc":
        add(records, name, end=FAILED)
        add(records, name)
        add(records, name, end=FAILED)
    add(records, "z", owner="key_b")
    page = records.functions.list("key_a", limit=2)
    assert ([(one.name, one.version) for one in page.items], page.has_more) == ([("c", 2), ("b", 2)], True)
    page = records.functions.list("key_a", limit=2, after="b")
    assert ([one.name for one in page.items], page.has_more) == (["a"], False)
    assert [one.name for one in records.functions.list("key_a", limit=9, order="asc").items] == ["a", "b", "c"]
    with pytest.raises(UnknownCursor):
        records.functions.list("key_a", limit=2, after="z")


def test_builds_under_way_are_those_of_all_keys(records):
    add(records)
    add(records, end=None)
    add(records, "b", owner="key_b", end=None)
    assert [(one.owner, one.version) for one in records.functions.building()] == [("key_a", 2), ("key_b", 1)]


def test_runs_are_found_by_their_function(records):
    records.runs.accept(new_run(id="run_1", function="add"))
    records.runs.accept(new_run(id="run_2", function="other"))
    records.runs.accept(new_run(id="run_3", owner="key_b", function="add"))
    page = records.runs.search(RunFilter(owner="key_a", function="add"), limit=9)
    assert [run.id for run in page.items] == ["run_1"]
