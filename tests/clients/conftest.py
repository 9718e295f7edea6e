"""The client against the real service, and against a server that fails as it is told."""

from __future__ import annotations

import pytest
from runyard import Client, RetryPolicy

from tests.clients.client_faults import fault_server, wire

#: Quick, so that the tests of what is tried again take no time.
HASTY = RetryPolicy(retries=3, first_s=0.01, longest_s=5)


@pytest.fixture(autouse=True)
def own_settings(monkeypatch, tmp_path_factory):
    """Nothing of whoever runs the tests decides where they lead."""
    for name in ("RUNYARD_URL", "RUNYARD_API_KEY", "RUNYARD_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))


@pytest.fixture
def client(service):
    with Client(service.url, service.token) as made:
        yield made


@pytest.fixture
def faults():
    with fault_server() as server:
        yield server


@pytest.fixture
def faulty(faults):
    """A client of the server that fails."""
    with Client(faults.url, "key_1", retries=HASTY) as made:
        yield made


@pytest.fixture
def cut(service):
    with wire(service.port) as made:
        yield made
