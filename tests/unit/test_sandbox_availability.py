"""Whether sandboxes can be made: counted by language, and told to operators with advice."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.availability import FAILING_FROM, Availability, Failure
from sandbox.engines.remedies import DEFAULT, REMEDIES, remedy_for

NOON = "2026-11-28T12:00:00.000Z"


@pytest.fixture
def availability():
    return Availability(lambda: NOON)


def test_before_a_sandbox_has_started_nothing_is_usable(availability):
    assert not availability.is_usable()
    assert availability.failing() == {}


def test_one_failure_is_tried_again_and_the_second_in_a_row_counts(availability):
    availability.succeeded("python")
    availability.failed("python", "first")
    assert availability.failing() == {}
    assert availability.is_usable()
    availability.failed("python", "second")
    assert availability.failing() == {"python": Failure("second", 2, NOON)}
    assert not availability.is_usable()


def test_one_success_ends_it(availability):
    for _ in range(5):
        availability.failed("python", "x")
    availability.succeeded("python")
    assert availability.failing() == {}
    assert availability.is_usable()
    availability.failed("python", "y")  # counted anew
    assert availability.failing() == {}


def test_a_language_that_never_started_does_not_hide_behind_another(availability):
    availability.succeeded("bash")
    availability.failed("python", "x")
    availability.failed("python", "x")
    assert list(availability.failing()) == ["python"]
    assert availability.is_usable()
    availability.failed("bash", "x")
    availability.failed("bash", "x")
    assert not availability.is_usable()


def test_a_way_of_a_language_is_counted_by_itself_and_makes_no_language_unusable(availability):
    availability.succeeded("python")
    for _ in range(2):
        availability.failed("python/container", "x")
    assert list(availability.failing()) == ["python/container"]
    assert availability.is_usable()
    for _ in range(2):
        availability.failed("python", "y")
    assert list(availability.failing()) == ["python"]  # which stands for all of its ways
    assert not availability.is_usable()
    availability.succeeded("python/container")
    assert not availability.is_usable()


def test_in_doubt_is_a_language_before_its_first_success_and_whatever_failed_last(availability):
    assert availability.is_doubtful("python")
    assert not availability.is_doubtful("python/container")
    assert availability.succeeded("python") == 0
    assert not availability.is_doubtful("python")
    for name in ("python", "python/container"):
        availability.failed(name, "x")
        assert availability.is_doubtful(name)
        assert availability.succeeded(name) == 1
        assert not availability.is_doubtful(name)


@given(st.lists(st.tuples(st.sampled_from(["python", "bash"]), st.booleans()), max_size=40))
def test_only_what_came_last_of_each_language_counts(attempts):
    availability = Availability(lambda: NOON)
    for language, good in attempts:
        if good:
            availability.succeeded(language)
        else:
            availability.failed(language, "x")
    expected, made = {}, set()
    for language in ("python", "bash"):
        outcomes = [good for name, good in attempts if name == language]
        in_a_row = next((n for n, good in enumerate(reversed(outcomes)) if good), len(outcomes))
        if in_a_row >= FAILING_FROM:
            expected[language] = in_a_row
        elif True in outcomes:
            made.add(language)
    assert {name: found.times for name, found in availability.failing().items()} == expected
    assert availability.is_usable() is bool(made)


def test_no_failure_of_several_threads_is_lost(availability):
    together, threads = threading.Barrier(8), []

    def fail():
        together.wait()
        for _ in range(500):
            availability.failed("python", "x")

    for _ in range(8):
        threads.append(threading.Thread(target=fail))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert availability.failing()["python"].times == 8 * 500


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("crun ended with 1: failed to reset affinity: Operation not permitted", "CAP_SYS_NICE"),
        ("cannot make a sandbox: [Errno 28] No space left on device", "free space in STATE_DIR"),
        ("this kernel does not let a user namespace be made", "user.max_user_namespaces"),
        ("mount overlay on /x: No such device", "modprobe overlay"),
        ("[Errno 13] Permission denied: '/proc/self/attr/apparmor/current'", "apparmor_parser"),
        ("[Errno 24] Too many open files", "LimitNOFILE"),
        ("crun ended with 1: write to `memory.max`: No such file", "mount the controllers"),
        ("crun ended with 1: seccomp load: errno 524", "net.core.bpf_jit_limit"),
        ("[Errno 12] Cannot allocate memory", "free memory"),
        ("crun is not installed", "apt-get install crun"),
        ("the agent did not get ready: timed out", "make images REFRESH=1"),
        # A path is named beside the shortage: the shortage is what to mend.
        ("[Errno 28] No space left on device: '/run/x/overlay/3'", "free space in STATE_DIR"),
        ("crun ended with 1: open `/sys/fs/cgroup/pids/x`: Too many open files", "LimitNOFILE"),
        ("crun ended with 1: mkdir `/sys/fs/cgroup/memory/x`: Cannot allocate memory", "free memory"),
        # The kernel's answer when there are too many namespaces: no disk is full.
        ("crun ended with 1: unshare: No space left on device", "user.max_user_namespaces"),
    ],
)
def test_an_engines_words_get_the_advice_for_them(words, advice):
    assert advice in remedy_for(words)


def test_words_that_nobody_has_met_get_the_doctor():
    assert remedy_for("something new") == DEFAULT
    assert all(advice for _, advice in REMEDIES)
