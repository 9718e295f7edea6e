"""From facts to status, in the order of API.md."""

from __future__ import annotations

import signal

import pytest

from sandbox.run.outcome import ExitFacts, signal_name, status_of

CASES = [
    (ExitFacts(exit_code=0), "succeeded"),
    (ExitFacts(exit_code=1), "failed"),
    (ExitFacts(exit_code=137), "failed"),
    (ExitFacts(signal_number=signal.SIGSEGV), "failed"),
    (ExitFacts(signal_number=signal.SIGKILL), "failed"),
    (ExitFacts(signal_number=signal.SIGKILL, oom_kills=1), "oom"),
    (ExitFacts(exit_code=0, oom_kills=1), "succeeded"),
    (ExitFacts(exit_code=1, oom_kills=3), "failed"),
    (ExitFacts(signal_number=signal.SIGSEGV, oom_kills=1), "failed"),
    (ExitFacts(broken=True), "killed"),
    (ExitFacts(broken=True, oom_kills=1), "oom"),
    (ExitFacts(exit_code=0, broken=True), "killed"),
    (ExitFacts(signal_number=signal.SIGKILL, timed_out=True), "timeout"),
    (ExitFacts(timed_out=True, broken=True), "timeout"),
    (ExitFacts(timed_out=True, oom_kills=1, signal_number=9), "timeout"),
    (ExitFacts(cancelled=True, timed_out=True), "cancelled"),
    (ExitFacts(cancelled=True, exit_code=0), "cancelled"),
    (ExitFacts(not_compiled=True), "failed"),
    (ExitFacts(not_compiled=True, oom_kills=1), "oom"),
    (ExitFacts(not_compiled=True, oom_kills=1, timed_out=True), "timeout"),
    (ExitFacts(not_compiled=True, broken=True), "killed"),
]


@pytest.mark.parametrize(("ending", "status"), CASES)
def test_the_first_rule_that_applies_is_the_status(ending, status):
    assert status_of(ending) == status


def test_every_signal_has_a_name():
    assert signal_name(9) == "SIGKILL"
    assert signal_name(signal.SIGRTMIN + 3) == f"SIGRTMIN+{3}"
    assert all(signal_name(number).startswith("SIG") for number in range(1, 65))
