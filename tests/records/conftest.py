"""The same tests on both databases: SQLite in a file, and a PostgreSQL server that the tests start."""

from __future__ import annotations

import pytest

from records import migrate, open_records

BACKENDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session", params=BACKENDS)
def shared_url(request, tmp_path_factory):
    """A migrated database for all tests that keep to owners of their own."""
    url = new_url(request, tmp_path_factory.mktemp("db"))
    migrate(url)
    return url


@pytest.fixture(params=BACKENDS)
def empty_url(request, tmp_path):
    """A database that nobody has opened yet."""
    return new_url(request, tmp_path)


def new_url(request, folder):
    if request.param == "sqlite":
        return f"sqlite:///{folder}/records.sqlite"
    return request.getfixturevalue("postgres").new_database()


class Clock:
    """The time as the store is told it."""

    def __init__(self):
        self.now_ms = 1_800_000_000_000

    def __call__(self):
        return self.now_ms


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def open_at(clock):
    """`open_records` by the test's clock; all are closed in the end."""
    opened = []

    def open_one(url, **options):
        opened.append(open_records(url, clock=clock, **options))
        return opened[-1]

    yield open_one
    for records in opened:
        records.close()


@pytest.fixture
def records(shared_url, open_at):
    return open_at(shared_url)


@pytest.fixture
def own_records(empty_url, open_at):
    """A database of this test's alone: for what looks at all owners."""
    migrate(empty_url)
    return open_at(empty_url)
