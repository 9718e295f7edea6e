"""Migrations: once, by whoever is first; the tables they make are those that the code uses."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from config.settings import Settings
from ops.state import StatePlace
from records import migrate
from records.errors import RecordsTooNew
from records.sql.database import parse_url
from records.sql.migrate import HEAD, alembic_config
from records.sql.tables import metadata
from tests.records.builders import accepted

ROOT = Path(__file__).resolve().parents[2]


def engine_of(url):
    return create_engine(parse_url(url))


def test_the_tables_that_are_made_are_those_that_are_used(shared_url):
    engine = engine_of(shared_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        found = inspect(connection)
        for table in metadata.sorted_tables:
            made = {index["name"]: index["column_names"] for index in found.get_indexes(table.name)}
            assert made == {index.name: [column.name for column in index.columns] for index in table.indexes}
    engine.dispose()


def test_the_newest_revision_is_the_one_the_code_expects(shared_url):
    engine = engine_of(shared_url)
    with engine.connect() as connection:
        assert ScriptDirectory.from_config(alembic_config(connection)).get_current_head() == HEAD
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD
    engine.dispose()


def test_a_second_time_there_is_nothing_to_do_and_nothing_is_lost(empty_url, open_at):
    assert migrate(empty_url)
    records = open_at(empty_url)
    run_id = accepted(records)
    assert not migrate(empty_url)
    assert records.runs.get("key_a", run_id) is not None


def test_threads_that_start_together(empty_url):
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(migrate, [empty_url] * 6))
    assert done.count(True) == 1


MIGRATE_AND_USE = """
import sys
from tests.records.builders import ended
from config.settings import Settings
from ops.state import StatePlace
from records import migrate, open_records
sys.stdin.readline()
print(migrate(sys.argv[1]))
records = open_records(sys.argv[1])
for _ in range(20):
    ended(records)
"""


def test_processes_that_start_together(empty_url, open_at):
    argv = [sys.executable, "-c", MIGRATE_AND_USE, empty_url]
    env = {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(argv, env=env, **pipes) for _ in range(5)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=90)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * 5
    assert sorted(said) == ["False"] * 4 + ["True"]
    records = open_at(empty_url)
    assert len(records.runs.list("key_a", limit=1000).items) == 100


def test_a_migration_that_fails_leaves_nothing(empty_url, monkeypatch):
    from alembic import op

    def broken(*_, **__):
        raise RuntimeError("half-way")

    with monkeypatch.context() as patch:
        patch.setattr(op, "create_index", broken)
        with pytest.raises(RuntimeError, match="half-way"):
            migrate(empty_url)
    engine = engine_of(empty_url)
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == []
    engine.dispose()
    assert migrate(empty_url)


def test_a_database_of_a_newer_version_is_refused(empty_url):
    migrate(empty_url)
    engine = engine_of(empty_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(RecordsTooNew, match="9999"):
        migrate(empty_url)


def test_the_scripts_are_in_the_wheel(tmp_path):
    """hatch packs whole folders; one that it left out would be missed only at a user's first start."""
    argv = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*argv, f"--wheel-dir={tmp_path}", str(ROOT)], check=True, capture_output=True)
    import zipfile

    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    wanted = {p.relative_to(ROOT) for p in (ROOT / "records").rglob("*") if p.suffix == ".py"}
    assert {str(path) for path in wanted} <= set(names)


def test_what_the_api_keeps_is_its_own_and_closed_to_others(tmp_path):
    if os.geteuid() != 0:
        pytest.fail("only root can give a directory away")
    uid = Settings().api_uid
    StatePlace(tmp_path / "s").make(uid)
    for name in ("api", "db"):
        found = (tmp_path / "s" / name).stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (uid, uid, 0o700)
