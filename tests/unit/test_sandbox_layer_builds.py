"""Builds of layers: simultaneous requests, turns, and failures that several requests wait for."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox.layers.builds import MAX_LINES_HELD, BuildName, BuildTooLate, LayerBuilds

WAIT_S = 30.0


def name_of(request="six==1.16.0", key="key_a"):
    return BuildName(key, "sha256:1", (request,))


class Maker:
    """A build that ends when it is told to."""

    def __init__(self, result="layer", lines=("downloading",)):
        self.calls = 0
        self.has_begun = threading.Event()
        self.may_end = threading.Event()
        self.result = result
        self.lines = lines

    def __call__(self, on_output):
        self.calls += 1
        for line in self.lines:
            on_output(line)
        self.has_begun.set()
        assert self.may_end.wait(WAIT_S)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


@pytest.fixture
def threads():
    with ThreadPoolExecutor(8) as pool:
        yield pool


def ignore(_line):
    pass


def join(builds, threads, maker, name=None):
    """Ask for a build again on another thread; the outcome, once the request is known to wait, and what it heard."""
    heard, has_joined = [], threading.Event()

    def listen(line):
        heard.append(line)
        has_joined.set()

    outcome = threads.submit(builds.build, name or name_of(), maker, listen, WAIT_S)
    assert has_joined.wait(WAIT_S)
    return outcome, heard


def test_simultaneous_requests_build_once_and_hear_the_same(threads):
    builds, maker = LayerBuilds(), Maker()
    first, heard = join(builds, threads, maker)
    others = [join(builds, threads, maker) for _ in range(4)]
    maker.may_end.set()
    assert [outcome.result(WAIT_S) for outcome, _ in [(first, heard), *others]] == ["layer"] * 5
    assert [words for _, words in [(first, heard), *others]] == [["downloading"]] * 5
    assert maker.calls == 1


def test_another_keys_request_is_a_build_of_its_own(threads):
    builds, maker, other = LayerBuilds(), Maker(), Maker("another")
    first, _ = join(builds, threads, maker)
    second, _ = join(builds, threads, other, name_of(key="key_b"))
    maker.may_end.set()
    other.may_end.set()
    assert (first.result(WAIT_S), second.result(WAIT_S)) == ("layer", "another")


def test_a_failure_fails_all_that_wait_and_none_that_come_later(threads):
    builds, maker = LayerBuilds(), Maker(ValueError("no such version"))
    outcomes = [join(builds, threads, maker)[0] for _ in range(3)]
    maker.may_end.set()
    for outcome in outcomes:
        with pytest.raises(ValueError, match="no such version"):
            outcome.result(WAIT_S)
    assert builds.build(name_of(), lambda _: "later", ignore, WAIT_S) == "later"


def test_a_timeout_of_the_build_itself_is_told_as_it_is(threads):
    builds, maker = LayerBuilds(), Maker(TimeoutError("the build takes too long"))
    outcomes = [join(builds, threads, maker)[0] for _ in range(2)]
    maker.may_end.set()
    for outcome in outcomes:
        with pytest.raises(TimeoutError, match="takes too long"):
            outcome.result(WAIT_S)


def test_two_build_at_a_time_and_a_third_gets_its_turn_after_one(threads):
    builds, makers = LayerBuilds(), [Maker(), Maker(), Maker()]
    outcomes = [
        threads.submit(builds.build, name_of(str(at)), maker, ignore, WAIT_S) for at, maker in enumerate(makers[:2])
    ]
    assert all(maker.has_begun.wait(WAIT_S) for maker in makers[:2])
    with pytest.raises(BuildTooLate, match=r"no build .* within 0\.05 s"):
        builds.build(name_of("third"), makers[2], ignore, 0.05)
    assert makers[2].calls == 0
    makers[0].may_end.set()
    makers[2].may_end.set()
    assert builds.build(name_of("third"), makers[2], ignore, WAIT_S) == "layer"
    makers[1].may_end.set()
    assert [outcome.result(WAIT_S) for outcome in outcomes] == ["layer"] * 2


def test_who_waits_too_long_leaves_and_the_build_goes_on(threads):
    builds, maker, late = LayerBuilds(), Maker(), []
    first, _ = join(builds, threads, maker)
    with pytest.raises(BuildTooLate, match="not ready"):
        builds.build(name_of(), maker, late.append, 0.05)
    maker.may_end.set()
    assert first.result(WAIT_S) == "layer"
    assert late == ["downloading"]


def test_a_late_request_hears_the_last_lines_alone(threads):
    builds, maker = LayerBuilds(), Maker(lines=[str(at) for at in range(MAX_LINES_HELD + 50)])
    first = threads.submit(builds.build, name_of(), maker, ignore, WAIT_S)
    assert maker.has_begun.wait(WAIT_S)
    _, heard = join(builds, threads, maker)
    maker.may_end.set()
    assert first.result(WAIT_S) == "layer"
    assert heard == [str(at) for at in range(50, MAX_LINES_HELD + 50)]
