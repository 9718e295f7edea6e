"""Lines that come again and again: the first at once, then one a minute with their number."""

from __future__ import annotations

import itertools
import logging
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.repeats import MOST_KEYS, QUIET_S, RepeatedLog


@pytest.fixture
def written():
    """What a logger was given, as (message, times)."""
    lines = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append((record.getMessage(), record.times))

    logger = logging.getLogger("test.repeats")
    handler = Keep()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.fixture
def clock():
    class Clock:
        now = 1000.0

        def __call__(self):
            return self.now

    return Clock()


@pytest.fixture
def repeated(written, clock):
    return RepeatedLog(logging.getLogger("test.repeats"), clock)


def test_the_first_is_written_at_once_and_the_rest_once_a_minute_with_their_number(repeated, written, clock):
    for _ in range(480):  # eight a second
        repeated.log(logging.ERROR, "it failed: %s", "x")
        clock.now += 0.125
    assert written == [("it failed: x", 1)]
    repeated.log(logging.ERROR, "it failed: %s", "y")
    assert written[1:] == [("it failed: y", 480)]


def test_what_has_another_key_or_message_is_told_apart(repeated, written):
    for language in ("python", "bash", "python"):
        repeated.log(logging.ERROR, "it failed", key=language, language=language)
    repeated.log(logging.ERROR, "another thing", key="python")
    assert written == [("it failed", 1), ("it failed", 1), ("another thing", 1)]


def test_one_that_comes_seldom_is_always_written(repeated, written, clock):
    for _ in range(3):
        repeated.log(logging.ERROR, "it failed")
        clock.now += QUIET_S
    assert written == [("it failed", 1)] * 3


def test_keys_do_not_accumulate(repeated, clock):
    for number in range(MOST_KEYS * 3):
        repeated.log(logging.ERROR, "it failed", key=str(number))
    assert len(repeated._written) == MOST_KEYS


@given(st.lists(st.integers(0, 90), min_size=1, max_size=50))
def test_every_one_is_counted_by_a_line_and_no_two_lines_are_near(pauses_s):
    now, lines = 0.0, []
    repeated = RepeatedLog(logging.getLogger("test.repeats.counted"), lambda: now)
    for pause_s in pauses_s:
        now += pause_s
        times = repeated._times("x")
        if times:
            lines.append((now, times))
    now += QUIET_S
    lines.append((now, repeated._times("x")))
    assert sum(times for _, times in lines) == len(pauses_s) + 1
    assert all(after[0] - before[0] >= QUIET_S for before, after in itertools.pairwise(lines))


def test_several_threads_write_one_line_and_lose_none_of_the_others(repeated, written, clock):
    together, threads = threading.Barrier(8), []

    def log():
        together.wait()
        for _ in range(200):
            repeated.log(logging.ERROR, "it failed")

    for _ in range(8):
        threads.append(threading.Thread(target=log))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert written == [("it failed", 1)]
    clock.now += QUIET_S
    repeated.log(logging.ERROR, "it failed")
    assert written[1:] == [("it failed", 8 * 200)]
