"""How long a service that starts is waited for: as long as it makes progress, and no longer."""

import os
import subprocess
import sys
import time

import pytest

from ops import health, progress
from ops.health import HealthWait
from ops.install import InstallError
from ops.progress import LOOK_EVERY_S, MOST_STARTS, ProcessUse, StartProgress, look_at
from ops.state import StatePlace

BUSY = "while True: pass"
IDLE = "import time; time.sleep(60)"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def place(tmp_path):
    place = StatePlace(tmp_path)
    place.python.parent.mkdir(parents=True)
    place.python.symlink_to(sys.executable)
    return place


@pytest.fixture
def start(place):
    """Start a process that looks like a part of the service."""
    started = []

    def start(code: str, *words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([str(place.python), "-c", code, *words], start_new_session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def idle_after(looks: list[list[ProcessUse]]) -> float:
    """Return what is idle after these looks at a service, one each LOOK_EVERY_S."""
    clock = Clock()
    left = iter(looks)
    watched = StartProgress(lambda: next(left), clock)
    idle = 0.0
    for _ in looks:
        clock.now += LOOK_EVERY_S
        idle = watched.idle_s()
    return idle


def use(seconds: float, *, pid: int = 10, disk_bytes: int = 0) -> ProcessUse:
    return ProcessUse(pid, 1, b"worker", True, seconds, disk_bytes)


def test_a_program_that_computes_makes_progress_however_long_it_takes():
    assert idle_after([[use(4.0 * n)] for n in range(1, 200)]) == 0


def test_a_program_that_waits_makes_none():
    """Answering the question whether it is ready takes it a little time."""
    assert idle_after([[use(3.0 + 0.1 * n)] for n in range(40)]) == 39 * LOOK_EVERY_S


def test_a_program_that_reads_much_from_the_disk_makes_progress():
    assert idle_after([[use(0.1, disk_bytes=n << 21)] for n in range(1, 40)]) == 0


def test_a_program_that_is_started_again_and_again_makes_no_more_progress():
    looks = [[use(LOOK_EVERY_S, pid=100 + n)] for n in range(40)]
    assert idle_after(looks) == (40 - MOST_STARTS) * LOOK_EVERY_S


def test_another_program_counts_while_one_fails():
    api = [ProcessUse(7, 1, b"gunicorn", True, 5.0 * n, 0) for n in range(40)]
    assert idle_after([[api[n], use(1, pid=100 + n)] for n in range(40)]) == 0


def test_the_clock_is_not_read_backwards_by_a_process_that_has_ended():
    """The time of one that has gone must not be missing from that of the others."""
    both = [use(100.0), ProcessUse(11, 1, b"worker", False, 50.0, 0)]
    assert idle_after([both, [use(104.0)]]) == 0


def test_the_parts_of_a_service_are_seen_without_builder_and_other_programs(place, start):
    worker = start(BUSY, "-m", "worker")
    start(IDLE, "-m", "ops.unit", "images")
    start(IDLE, "-m", "pip")
    deadline = time.monotonic() + 10
    while not (found := look_at(place)) or found[0].seconds == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [(use.pid, use.program, use.is_leader) for use in found] == [(worker.pid, b"worker", True)]


def test_a_program_that_waits_for_a_processor_makes_progress(place, start):
    """On a busy machine it may get a tenth of one: three that can run on one processor, which have a third each."""
    one = {min(os.sched_getaffinity(0))}
    programs = [start(BUSY, "-m", "worker") for _ in range(3)]
    for program in programs:
        os.sched_setaffinity(program.pid, one)
    began, before = time.monotonic(), sum(use.seconds for use in look_at(place))
    time.sleep(1.0)
    wanted = sum(use.seconds for use in look_at(place)) - before
    assert wanted > 2.0 * (time.monotonic() - began)


@pytest.fixture
def impatient(monkeypatch):
    """Waits of a fraction of a second, and a service that says it is ready after 2.5 s."""
    monkeypatch.setattr(health, "IDLE_AT_MOST_S", 1.0)
    monkeypatch.setattr(progress, "LOOK_EVERY_S", 0.2)
    monkeypatch.setattr(health, "failing", lambda _place: {})
    monkeypatch.setattr(health, "canary", lambda _place, _language: ("", ""))
    ready_at = time.monotonic() + 2.5
    monkeypatch.setattr(health, "is_ready", lambda _url: (time.monotonic() > ready_at, "timed out"))


def wait_for(place) -> HealthWait:
    return HealthWait(place, "http://h", "python", say=lambda _text: None, log_tail=lambda: "", failed=lambda: None)


def test_a_service_that_is_slow_is_waited_for_longer_than_one_that_does_nothing(place, start, impatient):
    wait_for(place).wait(start(BUSY, "-m", "worker"))


def test_a_service_that_does_nothing_is_given_up_with_what_it_last_said(place, start, impatient):
    with pytest.raises(InstallError, match=r"without progress \(http://h/readyz says: timed out\)"):
        wait_for(place).wait(start(IDLE, "-m", "worker"))


def test_progress_does_not_have_a_service_waited_for_forever(place, start, impatient, monkeypatch):
    monkeypatch.setattr(health, "HEALTHY_WITHIN_S", 0.5)
    with pytest.raises(InstallError, match="not healthy after"):
        wait_for(place).wait(start(BUSY, "-m", "worker"))
