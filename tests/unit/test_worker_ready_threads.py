"""Threads that serve one connection after the other."""

from __future__ import annotations

import logging
import threading
import time

from worker.ready_threads import MOST_WAITING, ReadyThreads


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def start_and_wait(threads):
    """Have a thread tell its name; the name, when the thread waits again."""
    told = []
    threads.start(lambda: told.append(threading.current_thread().name))
    until(lambda: told and threads._waiting)
    return told[0]


def test_a_thread_that_has_ended_its_work_does_the_next():
    threads = ReadyThreads()
    assert len({start_and_wait(threads) for _ in range(5)}) == 1


def test_work_never_waits_for_other_work():
    threads, release, begun = ReadyThreads(), threading.Event(), []
    for _ in range(10):
        threads.start(lambda: (begun.append(1), release.wait(10)))
    until(lambda: len(begun) == 10)
    release.set()
    until(lambda: threads._waiting == 10)


def test_only_so_many_threads_wait():
    threads, release, ended, before = ReadyThreads(), threading.Event(), [], threading.active_count()
    for _ in range(MOST_WAITING + 5):
        threads.start(lambda: (release.wait(10), ended.append(1)))
    release.set()
    until(lambda: len(ended) == MOST_WAITING + 5)
    until(lambda: threading.active_count() <= before + MOST_WAITING)
    assert threads._waiting == MOST_WAITING


def test_work_that_fails_is_logged_and_its_thread_goes_on(caplog):
    threads = ReadyThreads()
    with caplog.at_level(logging.ERROR):
        threads.start(lambda: 1 / 0)
        until(lambda: threads._waiting == 1)
    assert "ZeroDivisionError" in caplog.text
    start_and_wait(threads)
    assert threads._waiting == 1
