"""The moment that work waits which would slow an answer down."""

import threading
import time

import pytest

from sandbox.pool.wakeup import DelayedWakeup

PAUSE_S = 0.1


@pytest.fixture
def lull():
    return DelayedWakeup(PAUSE_S)


def test_what_is_asked_for_comes_after_the_pause(lull):
    began = time.monotonic()
    lull.request()
    assert lull.wait()
    assert time.monotonic() - began >= PAUSE_S


def test_asking_again_puts_nothing_off(lull):
    began = time.monotonic()
    asked = threading.Event()

    def ask_on():
        while not asked.wait(PAUSE_S / 10):
            lull.request()

    lull.request()
    asking = threading.Thread(target=ask_on)
    asking.start()
    assert lull.wait()
    asked.set()
    asking.join()
    assert time.monotonic() - began < 5 * PAUSE_S


def test_each_pause_is_asked_for_anew(lull):
    for _ in range(2):
        lull.request()
        assert lull.wait()


def test_at_the_end_nobody_sleeps_on_and_to_ask_is_no_error(lull):
    found = []
    waiting = threading.Thread(target=lambda: found.append(lull.wait()))
    waiting.start()
    lull.end()
    waiting.join(5)
    assert found == [False]
    lull.request()
    lull.end()
