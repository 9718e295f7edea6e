"""Sessions that rest, on every runtime of the engine oci: frozen when idle, paused on request, and awake again."""

from __future__ import annotations

import time

import pytest

from tests.support.worker_sessions import opened
from tests.support.workers import until

#: Counts for as long as it may run.
COUNTS = "n=0; while :; do n=$((n + 1)); echo $n > /work/n; sleep 0.05; done"
FROZEN_S = 20


@pytest.fixture(autouse=True)
def not_by_docker(column):
    if column.engine == "docker":
        pytest.skip("Docker's daemon freezes its containers itself, and removes them in its own time")


def cpu_ms(session):
    return session.facts()["usage"]["cpu_ms"]


def number(session):
    return int(session.run("cat /work/n")["stdout"] or 0)


def test_an_idle_session_is_frozen_and_goes_on_when_it_is_used(dispatcher):
    with opened(dispatcher, freeze_after_s=1) as session:
        session.start("bash", "-c", COUNTS)
        until(lambda: session.facts()["status"] == "frozen", FROZEN_S)
        before = cpu_ms(session)
        time.sleep(0.7)
        assert (cpu_ms(session), session.facts()["status"]) == (before, "frozen")
        first = number(session)
        assert session.facts()["status"] in ("ready", "busy")
        time.sleep(0.5)
        assert number(session) > first


def test_a_paused_session_runs_nothing_until_it_is_resumed(dispatcher):
    with opened(dispatcher, freeze_after_s=0) as session:
        session.start("bash", "-c", COUNTS)
        time.sleep(0.3)
        session.ask("pause", "session")
        assert session.facts()["status"] == "paused"
        before = cpu_ms(session)
        time.sleep(0.5)
        assert cpu_ms(session) == before
        session.ask("resume", "session")
        first = number(session)
        time.sleep(0.5)
        assert number(session) > first


def test_a_session_that_is_frozen_ends_at_once(dispatcher):
    with opened(dispatcher, freeze_after_s=1) as session:
        session.start("sleep", "1000")
        until(lambda: session.facts()["status"] == "frozen", FROZEN_S)
        began = time.monotonic()
        session.end()
        assert session.facts()["end_reason"] == "deleted"
        assert time.monotonic() - began < 10
