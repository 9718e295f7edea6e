"""Turns: how many at a time, whose next, and what becomes of those who wait without saying so."""

from __future__ import annotations

import threading
import time

import pytest

from api.server.turns import HeldTurn, Turns
from config.turn import hold, waiting


@pytest.fixture
def begun():
    return []


def ask(turns, begun, whose, name, **how):
    turns.ask(whose, lambda: begun.append(name), **how)


def test_so_many_begin_and_the_rest_wait(begun):
    turns = Turns(2)
    for number in range(4):
        ask(turns, begun, "key", number)
    assert begun == [0, 1]
    assert (turns.active, turns.has_waiting) == (2, True)
    turns.leave("key")
    assert begun == [0, 1, 2]


def test_keys_take_turns_however_much_one_of_them_asks_for(begun):
    turns = Turns(1)
    for number in range(100):
        ask(turns, begun, "greedy", f"greedy {number}")
    ask(turns, begun, "modest", "modest")
    turns.leave("greedy")
    assert begun == ["greedy 0", "greedy 1"]
    turns.leave("greedy")
    assert begun == ["greedy 0", "greedy 1", "modest"]


def test_one_key_leaves_a_turn_for_another(begun):
    turns = Turns(3, most_of_one=2)
    for number in range(4):
        ask(turns, begun, "greedy", number)
    assert begun == [0, 1]
    ask(turns, begun, "modest", "modest")
    assert begun == [0, 1, "modest"]
    turns.leave("modest")
    assert begun == [0, 1, "modest"]
    turns.leave("greedy")
    assert begun == [0, 1, "modest", 2]


def test_who_goes_on_is_before_what_else_is_theirs(begun):
    turns = Turns(1)
    ask(turns, begun, "key", "held")
    ask(turns, begun, "key", "new")
    ask(turns, begun, "key", "going on", first=True)
    turns.leave("key")
    assert begun == ["held", "going on"]


def test_all_turns_come_back(begun):
    turns = Turns(2)
    for number in range(7):
        ask(turns, begun, number % 3, number)
    for number in range(7):
        turns.leave(begun[number] % 3)
    assert (sorted(begun), turns.active, turns.has_waiting) == (list(range(7)), 0, False)


def test_a_stalled_turn_lets_one_more_begin_and_no_more_than_that(begun):
    turns = Turns(1, stalled_s=0.02)
    for number in range(3):
        ask(turns, begun, "key", number)
    turns.unstick()
    assert begun == [0]
    time.sleep(0.03)
    turns.unstick()
    turns.unstick()
    assert begun == [0, 1]
    turns.leave("key")  # the one beyond the bound: nobody takes its place
    assert (begun, turns.active) == ([0, 1], 1)
    turns.leave("key")
    assert begun == [0, 1, 2]


def test_turns_that_use_the_processor_are_no_stall(begun):
    used = 0.0
    turns = Turns(1, stalled_s=0.02, processor=lambda: used)
    for number in range(2):
        ask(turns, begun, "key", number)
    turns.unstick()
    for _ in range(3):
        time.sleep(0.03)
        used += 0.1
        turns.unstick()
    assert begun == [0]
    time.sleep(0.03)
    turns.unstick()
    assert begun == [0, 1]


def test_turns_that_end_are_no_stall(begun):
    turns = Turns(1, stalled_s=0.02)
    for number in range(4):
        ask(turns, begun, "key", number)
    turns.unstick()
    time.sleep(0.03)
    turns.leave("key")
    turns.unstick()
    assert begun == [0, 1]


def test_a_thread_that_waits_gives_its_turn_to_another(begun):
    turns = Turns(1)
    assert turns.take_at_once("key")
    turn = HeldTurn(turns, "key")
    hold(turn)
    try:
        ask(turns, begun, "other", "other")
        with waiting(), waiting():  # as one call may wait inside of another
            assert begun == ["other"]
            turns.leave("other")
        assert turns.active == 1
    finally:
        hold(None)
    turn.leave()
    turn.leave()
    assert turns.active == 0


def test_a_thread_goes_on_when_its_turn_comes():
    turns = Turns(1)
    assert turns.take_at_once("key")
    turn = HeldTurn(turns, "key")
    turn.leave()
    assert turns.take_at_once("key")
    entered = threading.Event()
    thread = threading.Thread(target=lambda: (turn.enter(), entered.set()))
    thread.start()
    assert not entered.wait(0.02)
    turns.leave("key")
    assert entered.wait(5)
    thread.join()


def test_waiting_means_nothing_without_a_turn():
    with waiting():
        pass


def test_many_threads_hold_no_more_turns_than_there_are():
    turns = Turns(3, stalled_s=60)
    held, most, lock = 0, 0, threading.Lock()

    def work(number):
        nonlocal held, most
        turn = HeldTurn(turns, number % 5)
        turn._held = False
        for _ in range(50):
            turn.enter()
            with lock:
                held += 1
                most = max(most, held)
            with lock:
                held -= 1
            turn.leave()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (most <= 3, turns.active, turns.has_waiting) == (True, 0, False)
