"""When the kernels of new sessions are started: after a pause in creating sessions, one after the other."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from sandbox.sessions import contexts
from sandbox.sessions.ahead import MOST_WAITING, QUIET_S, SPACING_S, KernelStarter
from sandbox.sessions.channel import ProcessEnd
from sandbox.sessions.contexts import KernelContext
from sandbox.sessions.kernel import Kernel, KernelEnded
from sandbox.sessions.kernel_replies import encode_message
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


class Channel:
    """The channel of a kernel that has ended, or of one that is ready."""

    def __init__(self, replies=b"", end=None):
        self.replies, self.end, self.is_lost, self.on_arrival = replies, end, False, None

    def write(self, data):
        return len(data)

    def take(self):
        replies, self.replies = self.replies, b""
        return [("reply", replies)] if replies else []

    def kill(self):
        self.end = self.end or ProcessEnd(signal_number=9)

    def close(self):
        pass


def context_with(ahead, opened):
    """Return a context whose kernel was started ahead; a further one gets the channel `opened`."""
    stream = SimpleNamespace(claim_kernel=lambda: None, start_kernel=lambda *_args, **_named: opened.pop())
    spec = SimpleNamespace(network=None, env={})
    language = SimpleNamespace(live_env={}, kernel_argv=(), affects_startup=lambda *_: False)
    context = KernelContext(
        SimpleNamespace(stream=stream, spec=spec, language=language), language, "/work", None, {}
    )
    context.ahead = Kernel(ahead)
    return context


READY = encode_message({"type": "ready"}, {})


def test_a_kernel_that_was_killed_before_its_first_run_is_replaced():
    opened = [Channel(READY)]
    context = context_with(Channel(end=ProcessEnd(signal_number=9)), opened)
    assert not context.running(between=lambda _channel: True).is_over
    assert opened == []


def test_no_kernel_is_started_for_a_run_that_was_ended_while_it_waited():
    opened = [Channel(READY)]
    context = context_with(Channel(end=ProcessEnd(signal_number=9)), opened)
    with pytest.raises(KernelEnded):
        context.running(between=lambda _channel: True, is_wanted=lambda: False)
    assert len(opened) == 1


def test_a_run_s_own_time_bounds_the_start_of_its_kernel(monkeypatch):
    monkeypatch.setattr(contexts, "READY_TIMEOUT_S", -1.0)
    context = context_with(Channel(READY), [])
    assert not context.running(between=lambda _channel: True).is_over
    monkeypatch.setattr(contexts, "_look", lambda _channel: True)
    with pytest.raises(KernelEnded):
        context_with(Channel(READY), [Channel(READY)]).running()
