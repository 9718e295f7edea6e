"""A runtime's binary is started from a copy that nobody can change."""

from __future__ import annotations

import mmap
import os
import threading

import pytest

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
