"""The client against the real service, and against a server that fails as it is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from runyard import Client, RetryPolicy
from runyard.cli import main

from tests.clients.client_faults import fault_server, wire

SOURCES = Path(__file__).resolve().parents[2] / "clients/python/src"
COMMAND = [sys.executable, "-m", "runyard"]
SECONDS = 90
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


@pytest.fixture
def environment(service, tmp_path):
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(SOURCES),
        "RUNYARD_URL": service.url,
        "RUNYARD_API_KEY": service.token,
    }


@pytest.fixture
def runyard(environment, tmp_path):
    """Types it in an empty folder: (exit code, stdout, stderr), as bytes."""

    def typed(*arguments, stdin=b"", **variables):
        done = subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env=environment | variables,
            timeout=SECONDS,
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    return typed


@pytest.fixture
def here(environment, tmp_path, monkeypatch, capfdbinary):
    """The same without a process of its own, where nothing depends on that."""
    monkeypatch.chdir(tmp_path)

    def typed(*arguments, **variables):
        for name, value in (environment | variables).items():
            monkeypatch.setenv(name, value)
        capfdbinary.readouterr()
        code = main(list(arguments))
        return (code, *capfdbinary.readouterr())

    return typed
