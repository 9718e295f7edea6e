"""When the kernels of new sessions are started: after a pause in creating sessions, one after the other."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from sandbox.sessions.ahead import MOST_WAITING, QUIET_S, SPACING_S, KernelStarter
from sandbox.sessions.session import SessionGone
from sandbox.sessions.stream import TooManyChannels


class Starts:
    """Sessions whose kernels are started: when, and what that raises."""

    def __init__(self) -> None:
        self.at: list[tuple[object, float]] = []

    def session(self, name, error=None):
        def start_ahead():
            self.at.append((name, time.monotonic()))
            if error is not None:
                raise error

        return SimpleNamespace(contexts=SimpleNamespace(start_ahead=start_ahead))

    def wait(self, count):
        deadline = time.monotonic() + 10
        while len(self.at) < count:
            assert time.monotonic() < deadline
            time.sleep(0.002)


@pytest.fixture
def starts():
    return Starts()


@pytest.fixture
def starter():
    made = KernelStarter()
    made.start()
    yield made
    made.stop()


def test_kernels_wait_for_a_pause_in_creating_sessions(starts, starter):
    for number in range(10):
        starter.add(starts.session(number))
        added = time.monotonic()
        time.sleep(QUIET_S / 10)
    starts.wait(10)
    assert [name for name, _ in starts.at] == list(range(10))
    times = [moment for _, moment in starts.at]
    assert times[0] - added >= QUIET_S * 0.9
    assert times[-1] - times[0] >= 9 * SPACING_S * 0.9


def test_a_session_that_is_gone_or_full_stops_no_other(starts, starter):
    for error in (SessionGone(), TooManyChannels(), None):
        starter.add(starts.session(1, error))
    starts.wait(3)


def test_the_oldest_of_too_many_starts_its_kernel_by_itself(starts):
    starter = KernelStarter()
    for number in range(MOST_WAITING + 3):
        starter.add(starts.session(number))
    starter.start()
    starts.wait(5)
    starter.stop()
    assert starts.at[0][0] == 3


def test_without_memory_no_kernel_is_started(starts):
    starter = KernelStarter(lambda: False)
    starter.start()
    starter.add(starts.session(1))
    time.sleep(QUIET_S * 3)
    starter.stop()
    assert starts.at == []
