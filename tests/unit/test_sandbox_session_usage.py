"""What a session's facts and its runs tell of their use: the disk as the host sees it, and company of a run."""

from __future__ import annotations

import os
import socket

import pytest

from sandbox import frames
from sandbox.engines.work_disk import WorkDisk
from sandbox.frames import frame, pack
from sandbox.sessions.company import RunCompany
from sandbox.sessions.stream import SessionStream


@pytest.fixture
def stream():
    ours, theirs = socket.socketpair()
    made = SessionStream(ours, on_change=lambda: None, on_lost=lambda _why: None)
    yield made, theirs
    made.lose("over")
    ours.close()
    theirs.close()


def ends(stream, theirs, channel):
    theirs.sendall(frame(frames.EXIT, pack([b"exit", b"0"]), channel.number))
    theirs.sendall(frame(frames.CLOSED, b"", channel.number))
    stream.receive()


def start(stream):
    return stream.start_process([b"true"], {}, b"/work")


def test_a_run_with_its_own_processes_alone_is_not_shared(stream):
    stream, theirs = stream
    company = RunCompany(stream)
    for _ in range(2):  # a compiler and a program
        company.about_to_start()
        channel = start(stream)
        stream.start_operation(b"stat", b"x")
        ends(stream, theirs, channel)
        channel.close()
    assert not company.is_shared


def test_a_process_that_lives_at_the_start_or_starts_later_is_company(stream):
    stream, theirs = stream
    before = start(stream)
    company = RunCompany(stream)
    company.about_to_start()
    start(stream)
    assert company.is_shared
    ends(stream, theirs, before)
    assert company.is_shared
    later = RunCompany(stream)
    assert not later.is_shared
    start(stream)
    assert later.is_shared


def test_what_has_ended_before_the_program_starts_is_no_company(stream):
    stream, theirs = stream
    before = start(stream)
    company = RunCompany(stream)
    ends(stream, theirs, before)
    company.about_to_start()
    start(stream)
    assert not company.is_shared


def test_a_disk_is_measured_until_it_is_closed():
    if not os.path.isdir("/work"):
        pytest.skip("this process has no /work")
    disk = WorkDisk(os.getpid())
    assert disk.used_bytes() > 0
    disk.close()
    disk.close()
    with pytest.raises(OSError, match="-1"):
        disk.used_bytes()
