"""The process beside the worker that lets frozen groups die with it, on directories that stand in for the kernel's."""

from __future__ import annotations

import os
import time

import pytest

from sandbox.engines.cgroups.freezer import GroupFreezer, gather
from sandbox.sessions.watch import FrozenWatch


@pytest.fixture
def group(tmp_path):
    def make(name):
        path = tmp_path / name
        path.mkdir()
        for file in ("cgroup.freeze", "cgroup.kill", "cgroup.procs"):
            (path / file).write_text("")
        (path / "cgroup.events").write_text("populated 1\nfrozen 0\n")
        return GroupFreezer(str(path)), path

    return make


def gone(pid):
    """Wait until a child has ended."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if os.waitpid(pid, os.WNOHANG) != (0, 0):
            return True
        time.sleep(0.01)
    return False


def test_what_is_frozen_when_the_worker_goes_is_killed_and_thawed(group):
    (frozen, frozen_at), (thawed, thawed_at) = group("frozen"), group("thawed")
    watch = FrozenWatch()
    for freezer in (frozen, thawed):
        watch.add(freezer)
    watch.remove(thawed)
    watch.close()
    assert gone(watch.pid)
    assert [(frozen_at / name).read_text() for name in ("cgroup.kill", "cgroup.freeze")] == ["1", "0"]
    assert [(thawed_at / name).read_text() for name in ("cgroup.kill", "cgroup.freeze")] == ["", ""]


def test_what_the_kernel_does_not_freeze_in_time_goes_on(group, monkeypatch):
    monkeypatch.setattr("sandbox.engines.cgroups.freezer.FREEZE_S", 0.05)
    freezer, path = group("slow")
    assert not freezer.freeze()
    assert (path / "cgroup.freeze").read_text() == "0"


def test_what_the_kernel_says_is_frozen_is(group):
    freezer, path = group("quick")
    (path / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    assert freezer.freeze()
    assert (path / "cgroup.freeze").read_text() == "1"


def test_a_kernel_that_cannot_freeze_is_left_alone(tmp_path):
    assert gather(str(tmp_path / "group"), lambda: [1]) is None
    assert not (tmp_path / "group").exists()
