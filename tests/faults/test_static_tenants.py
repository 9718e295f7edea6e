"""A start that would merge tenants that have runs: it ends with the status that nothing retries, and names no token."""

from __future__ import annotations

import time

import pytest

from api.keys.static_keys import static_callers
from config.static_keys import parse_api_keys
from records import migrate, open_records
from records.runs import NewRun
from tests.support.apiprocess import Api

EX_CONFIG, REFUSED_S = 78, 30


@pytest.fixture
def url(tmp_path):
    """A database with runs of two tokens that had no labels."""
    made = f"sqlite:///{tmp_path}/records.sqlite"
    migrate(made)
    records = open_records(made)
    for _, caller in static_callers(parse_api_keys("s3cret-1,s3cret-2"), records.tenants):
        run = NewRun(f"run_{caller.id[4:]}", caller.id, "bash", time.time_ns() // 10**6, b"{}", b"{}")
        records.runs.accept(run)
    records.close()
    return made


def test_the_start_ends_and_the_entries_are_named(url, request):
    api = Api({"DATABASE_URL": url, "API_KEYS": "other:x,s3cret-1:team a,s3cret-2:team a"})
    request.addfinalizer(api.end)
    assert api.process.wait(REFUSED_S) == EX_CONFIG, api.said()
    assert "entries 2 and 3 have the label team a" in api.said()
    assert "s3cret" not in api.said()
    assert "Traceback" not in api.said()
