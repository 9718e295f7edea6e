"""A control group that can be read and not written: limits go through the daemon, and counting writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.engines import Stats
from sandbox.engines.cgroups.group import Bounds
from sandbox.engines.cgroups.mounts import parse_membership
from sandbox.engines.cgroups.v2 import GroupV2
from sandbox.engines.docker.read_only_cgroup import ReadOnlyCgroup, is_writable

MIB = 1024 * 1024
HELD = Bounds(256 * MIB, 1.0, 70)
FILES = {
    "memory.current": "5000000\n",
    "memory.peak": "6000000\n",
    "memory.max": "268435456\n",
    "cpu.stat": "usage_usec 2000\n",
    "memory.events": "oom 0\noom_kill 1\n",
    "cgroup.procs": "7\n",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def told():
    return []


@pytest.fixture
def group(folder, told):
    return ReadOnlyCgroup(GroupV2(str(folder), bounds=HELD), HELD, told.append)


def test_counting_begins_without_a_write(folder, group):
    before = {path.name: path.read_text() for path in folder.iterdir()}
    group.start_counting()
    (folder / "cpu.stat").write_text("usage_usec 3500\n")
    (folder / "memory.events").write_text("oom 1\noom_kill 3\n")
    assert group.stats() == Stats(cpu_ns=1_500_000, memory_peak_bytes=6_000_000, oom_kills=2)
    assert set(before) == {path.name for path in folder.iterdir()}
    assert (folder / "memory.max").read_text() == before["memory.max"]


def test_the_daemon_is_told_of_other_bounds_and_of_no_others(group, told):
    assert group.set(HELD)
    wider = Bounds(512 * MIB, 2.0, 70)
    assert group.set(wider)
    assert group.set(wider)
    assert told == [wider]


def test_bounds_below_what_is_in_use_are_not_put_in_force(group, told):
    assert not group.set(Bounds(4 * MIB, 1.0, 70))
    assert told == []
    assert group.set(Bounds(4 * MIB, 1.0, 70), reclaim=True)
    assert len(told) == 1


def test_what_can_be_written(folder, monkeypatch):
    group = GroupV2(str(folder))
    assert is_writable(group)
    asked = []
    monkeypatch.setattr("os.access", lambda path, _mode: asked.append(Path(path).name))
    assert not is_writable(group)
    assert asked == ["memory.max"]


def test_a_group_seen_from_another_cgroup_namespace():
    v1, v2 = parse_membership("0::/../runyard-1/abc\n3:memory:/../../system.slice/x\n4:pids:/plain/..x\n")
    assert v2 == "/runyard-1/abc"
    assert v1 == {"memory": "/system.slice/x", "pids": "/plain/..x"}
