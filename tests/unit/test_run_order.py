"""Runs that wait for each other: one at a time, in order, at most so many."""

from __future__ import annotations

import threading

import pytest

from protocol.session import MOST_WAITING
from sandbox.sessions.order import RunOrder, TooManyWaiting


def test_runs_go_one_after_the_other_in_their_order():
    order, seen, threads = RunOrder(), [], []
    entered = threading.Event()

    def go(number):
        with order.turn(lambda: True):
            seen.append(number)

    with order.turn(lambda: True):
        assert not order.is_free
        for number in range(5):
            thread = threading.Thread(target=go, args=(number,))
            thread.start()
            threads.append(thread)
            while len(order._queue) < number + 2:
                entered.wait(0.001)
        assert seen == []
    for thread in threads:
        thread.join()
    assert (seen, order.is_free) == ([0, 1, 2, 3, 4], True)


def test_one_that_is_not_wanted_any_more_gives_its_turn_up():
    order = RunOrder()
    with order.turn(lambda: True), order.turn(lambda: False) as is_wanted:
        assert not is_wanted
    assert order.is_free


def test_what_the_question_raises_gives_the_turn_up():
    order = RunOrder()

    def fail():
        raise KeyError

    with order.turn(lambda: True), pytest.raises(KeyError), order.turn(fail):
        pass
    assert order.is_free


def test_so_many_may_wait():
    order = RunOrder()
    order._queue.extend(object() for _ in range(MOST_WAITING + 1))
    with pytest.raises(TooManyWaiting), order.turn(lambda: True):
        pass
