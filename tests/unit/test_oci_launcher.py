"""A runtime's binary is started from a copy that nobody can change."""

from __future__ import annotations

import mmap
import os
import threading

import pytest

from sandbox.engines import EngineError
from sandbox.engines.oci import launcher


@pytest.fixture
def memory_file():
    fd = os.memfd_create("binary", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.write(fd, b"\x7fELF")
    yield fd
    os.close(fd)


def test_what_is_sealed_cannot_be_written(memory_file):
    launcher.seal(memory_file)

    with pytest.raises(PermissionError):
        os.write(memory_file, b"x")


def test_a_file_that_is_busy_for_a_moment_is_sealed_after_it(memory_file):
    busy = mmap.mmap(memory_file, 4)  # a mapping that can be written is one of the reasons
    threading.Timer(0.2, busy.close).start()

    launcher.seal(memory_file)

    with pytest.raises(PermissionError):
        os.write(memory_file, b"x")


def test_a_file_that_stays_busy_is_an_error(memory_file, monkeypatch):
    monkeypatch.setattr(launcher, "SEAL_TIMEOUT_S", 0.1)

    with mmap.mmap(memory_file, 4), pytest.raises(OSError, match="busy"):
        launcher.seal(memory_file)


@pytest.fixture
def failing_runtime(monkeypatch, tmp_path):
    """A launcher of a program that ends at once, with words."""
    script = tmp_path / "crun"
    script.write_text('#!/bin/sh\necho "no, never" >&2\nexit 3\n')
    script.chmod(0o755)
    monkeypatch.setattr(launcher, "find_runtime", lambda _name: str(script))
    made = launcher.Launcher("crun")
    yield made
    made.close()


def test_a_runtime_that_has_ended_before_it_is_moved_is_heard(failing_runtime):
    def gone(_pid):
        raise ProcessLookupError

    with open("/dev/null", "rb") as stream, pytest.raises(EngineError, match="crun ended with 3: no, never"):
        failing_runtime.run([], stream.fileno(), b"{}", gone)


def test_what_goes_wrong_while_it_is_prepared_closes_nothing_twice(failing_runtime, monkeypatch):
    """A number that is closed twice may be another thread's by then."""
    closed, close = [], os.close

    def noted(fd):
        closed.append(fd)
        close(fd)

    def refused(_pid):
        monkeypatch.setattr(launcher.os, "close", noted)
        raise PermissionError("no such group")

    with open("/dev/null", "rb") as stream, pytest.raises(PermissionError, match="no such group"):
        failing_runtime.run([], stream.fileno(), b"{}", refused)
    assert len(closed) == len(set(closed))
    assert closed
