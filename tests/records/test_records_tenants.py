"""Labels and the owners of their rows: what was there before follows the label, and nothing is merged."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from api.keys.static_keys import static_callers
from config.settings import SettingsError
from config.static_keys import parse_api_keys
from records import migrate
from records.files import FileRecord, StorageQuotaExceeded
from records.runs import Duplicate
from records.sql.database import parse_url
from records.tenants import StaticTenant, TenantsWouldMerge
from records.usage import Quota
from tests.records.builders import a_file, accepted, an_end, ended, key, new_run

ROOT = Path(__file__).resolve().parents[2]


def owners(records, text):
    return [caller.id for _, caller in static_callers(parse_api_keys(text), records.tenants)]


def token_owner(records, token):
    """The owner that a token had before labels were tenants, and has without a label."""
    return owners(records, token)[0]


def test_a_new_label_is_a_new_owner_and_stays_it_whatever_the_token(own_records):
    first, other = owners(own_records, "t1:alice,t2:bob")
    assert first != other
    ended(own_records, first)
    assert owners(own_records, "t3:alice,t2:bob") == [first, other]
    assert owners(own_records, "t3:alice,t4:alice") == [first, first]
    assert owners(own_records, "t1:carol")[0] not in (first, other)


def test_all_that_a_token_had_follows_its_label(own_records):
    records = own_records
    before = token_owner(records, "old")
    run = new_run(before, quota=Quota("all", 5))
    records.runs.accept(run, key())
    records.runs.finish(run.id, 1, an_end(artifacts=(a_file(size=70),)))
    live = accepted(records, before)
    file = records.files.put(before, a_file(size=20), limit_bytes=100)
    assert isinstance(file, FileRecord)
    assert owners(records, "old:alice") == [before]
    (now,) = owners(records, "rotated:alice")
    assert {found.id for found in records.runs.list(now, limit=9).items} == {run.id, live}
    assert records.runs.accept(new_run(now), key()) == Duplicate(run.id)
    assert records.usage.counted(now, "all") == 1
    assert records.files.get(now, file.id) == file
    assert records.files.put(now, a_file(size=11), limit_bytes=100) == StorageQuotaExceeded(90, 100)
    assert [owner for owner, _ in records.retention.largest_keys(above=0, most=5)] == [now]
    assert records.runs.finish(live, 1, an_end()), "a run that was live at the upgrade ends as its tenant's"
    assert [usage.runs for usage in records.usage.usage(now, *days())] == [2]
    assert token_owner(records, "old") != now, "the old token without a label is nobody's way back in"


def days():
    from datetime import date

    return date(2020, 1, 1), date(2040, 1, 1)


@pytest.mark.parametrize("history", ["runs", "usage", "files"])
def test_tenants_that_have_runs_are_not_merged_and_the_entries_are_named(own_records, history):
    records = own_records
    for token in ("s3cret-a", "s3cret-c"):
        owner = token_owner(records, token)
        if history == "files":
            records.files.put(owner, a_file())
            continue
        run_id = ended(records, owner)
        if history == "usage":
            records.runs.delete(owner, run_id)
    entries = "x:bob,s3cret-a:alice,s3cret-b:alice,s3cret-c:alice"
    with pytest.raises(SettingsError, match="entries 2 and 4 have the label alice") as refused:
        owners(records, entries)
    assert "s3cret" not in str(refused.value)
    assert records.tenants.owners() == frozenset(), "a refused start records nothing"
    split = owners(records, "x:bob,s3cret-a:alice,s3cret-b:alice,s3cret-c:alice2")
    assert split[1] == split[2] == token_owner_before(records, split[1])
    assert len(set(split)) == 3


def token_owner_before(records, owner):
    assert records.usage.usage(owner, *days()) or records.files.list(owner, limit=1).items
    return owner


def test_a_label_with_runs_takes_in_no_token_with_runs(own_records):
    records = own_records
    ended(records, owners(records, "t1:alice")[0])
    ended(records, token_owner(records, "s3cret"))
    with pytest.raises(SettingsError, match="entry 2 has runs of its own, and its label alice has others"):
        owners(records, "t1:alice,s3cret:alice")
    assert owners(records, "t1:alice,s3cret:bob")[1] == records_owner_of(records)


def records_owner_of(records):
    """The one owner of runs that came without a label."""
    found = {run.owner for run in records.runs.unfinished()}
    kept = {owner for owner, _ in records.retention.largest_keys(above=0, most=9)}
    alice = owners(records, "t1:alice")[0]
    (own,) = (found | kept) - {alice}
    return own


def test_a_label_without_rows_takes_up_those_of_its_token(own_records):
    fresh = owners(own_records, "t1:alice")
    before = token_owner(own_records, "old")
    ended(own_records, before)
    assert owners(own_records, "t1:alice,old:alice") == [before, before] != fresh * 2


def test_a_token_that_gets_another_label_leaves_its_rows_to_the_first(own_records):
    before = token_owner(own_records, "old")
    ended(own_records, before)
    assert owners(own_records, "old:alice") == [before]
    moved = owners(own_records, "old:bob,new:alice")
    assert moved[1] == before != moved[0]


def test_any_label_is_only_a_label(own_records):
    names = ["'; DROP TABLE tenants", "a%", "a_", "A%", "alice@example.org", "a b", "=1+1"]
    tenants = [StaticTenant(name, f"key_{n}", ()) for n, name in enumerate(names)]
    assert own_records.tenants.assign(tenants) == own_records.tenants.assign(tenants[::-1])
    assert len(own_records.tenants.owners()) == len(names)


def test_assigning_nothing_writes_nothing(own_records):
    assert own_records.tenants.assign([]) == {}


def test_processes_that_start_together_agree(empty_url, open_at):
    migrate(empty_url)
    records = open_at(empty_url)
    before = token_owner(records, "old")
    ended(records, before)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: owners(records, "old:alice,t2:bob,t3"), range(16)))
    assert len({tuple(each) for each in found}) == 1
    program = (
        "import sys; from records import open_records; from api.keys.static_keys import static_callers;"
        "from config.static_keys import parse_api_keys;"
        "print([c.id for _, c in static_callers(parse_api_keys(sys.argv[2]), open_records(sys.argv[1]).tenants)])"
    )
    argv = [sys.executable, "-c", program, empty_url, "old:alice,t2:bob,t3"]
    said = subprocess.run(argv, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(found[0])


def test_merging_changes_nothing_even_for_labels_before_it(own_records):
    for owner in ("key_a", "key_b"):
        ended(own_records, owner)
    wanted = [StaticTenant("new", "key_new", ()), StaticTenant("two", "key_two", ("key_a", "key_b"))]
    with pytest.raises(TenantsWouldMerge) as refused:
        own_records.tenants.assign(wanted)
    assert refused.value.entries == (0, 1)
    assert own_records.tenants.owners() == frozenset()


def test_the_upgrade_of_a_large_database_changes_no_row_of_a_run(empty_url, open_at):
    """A label takes over the owner, not the rows: nothing is rewritten, however many there are."""
    migrate(empty_url)
    records = open_at(empty_url)
    before = token_owner(records, "old")
    for _ in range(20):
        ended(records, before)
    engine = create_engine(parse_url(empty_url))
    sql = text("SELECT owner, count(*) FROM runs GROUP BY owner")
    with engine.connect() as connection:
        counted = connection.execute(sql).all()
        owners(records, "old:alice")
        assert connection.execute(sql).all() == counted
    engine.dispose()
