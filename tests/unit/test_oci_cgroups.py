"""Cgroup files of both versions, on directories that stand in for the kernel's."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from sandbox.engines import EngineError, EngineUnusable
from sandbox.engines.cgroups import files
from sandbox.engines.cgroups.detect import group_of, open_cgroups
from sandbox.engines.cgroups.group import Bounds
from sandbox.engines.cgroups.mounts import directories_named, remove_parents
from sandbox.engines.cgroups.reads import ReadLimit, find_disk, read_limit
from sandbox.engines.cgroups.v1 import CgroupsV1, GroupV1
from sandbox.engines.cgroups.v2 import CgroupsV2, GroupV2

MIB = 1024 * 1024


@pytest.fixture
def v1(tmp_path):
    """A group whose hierarchies are plain directories with the files a kernel would make."""
    paths = {name: tmp_path / name for name in ("memory", "cpu", "cpuacct", "pids")}
    content = {
        "memory": {
            "memory.limit_in_bytes": "0",
            "memory.memsw.limit_in_bytes": "0",
            "memory.usage_in_bytes": str(50 * MIB),
            "memory.max_usage_in_bytes": str(60 * MIB),
            "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        },
        "cpu": {"cpu.shares": "1024", "cpu.cfs_period_us": "0", "cpu.cfs_quota_us": "-1"},
        "cpuacct": {"cpuacct.usage": "7000000"},
        "pids": {"pids.max": "max", "pids.events": "max 4\n", "cgroup.procs": "12\n34\n"},
    }
    for name, contents in content.items():
        paths[name].mkdir()
        for file, text in contents.items():
            (paths[name] / file).write_text(text)
    return GroupV1({name: str(path) for name, path in paths.items()}, memsw=True), tmp_path


@pytest.fixture
def v2(tmp_path):
    files = {
        "memory.max": "max",
        "memory.swap.max": "max",
        "memory.current": str(50 * MIB),
        "memory.peak": str(60 * MIB),
        "memory.events": "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n",
        "cpu.max": "max 100000",
        "cpu.weight": "100",
        "cpu.stat": "usage_usec 7000\nuser_usec 5000\nsystem_usec 2000\n",
        "pids.max": "max",
        "pids.events": "max 5\n",
        "cgroup.procs": "12\n34\n",
    }
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    return GroupV2(str(tmp_path)), tmp_path


def test_refused_processes_are_counted(v1, v2):
    assert (v1[0].refused_pids(), v2[0].refused_pids()) == (4, 5)


def test_v1_bounds_are_written(v1):
    group, root = v1
    assert group.set(Bounds(256 * MIB, 1.5, 65))
    assert (root / "memory/memory.limit_in_bytes").read_text() == str(256 * MIB)
    assert (root / "memory/memory.memsw.limit_in_bytes").read_text() == str(256 * MIB)
    assert (root / "cpu/cpu.cfs_quota_us").read_text().startswith("150000")
    assert (root / "pids/pids.max").read_text().startswith("65")


def test_v2_bounds_are_written(v2):
    group, root = v2
    assert group.set(Bounds(256 * MIB, 1.5, 65))
    assert (root / "memory.max").read_text() == str(256 * MIB)
    assert (root / "memory.swap.max").read_text().startswith("0")
    assert (root / "cpu.max").read_text() == "150000 100000"
    assert (root / "pids.max").read_text().startswith("65")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_less_memory_than_is_in_use_is_refused(version, request):
    group, _ = request.getfixturevalue(version)
    assert group.set(Bounds(256 * MIB, 1.0, 65))
    assert not group.set(Bounds(40 * MIB, 1.0, 65))
    assert group.set(Bounds(512 * MIB, 1.0, 65))


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_kernel_is_let_reclaim_before_less_memory_is_refused(version, request, monkeypatch):
    group, root = request.getfixturevalue(version)
    name = "memory.limit_in_bytes" if version == "v1" else "memory.reclaim"
    asked = []

    def write(path, value):
        """A kernel with 50 MiB in use, 30 of them cached."""
        asked.append(Path(path).name)
        if path.endswith(name) and version == "v1" and value < 20 * MIB:
            raise OSError(errno.EBUSY, "busy")
        if path.endswith("memory.reclaim"):
            (root / "memory.current").write_text(str(max(20 * MIB, 50 * MIB - value)))
            return
        Path(path).write_text(str(value))

    monkeypatch.setattr(files, "write", write)
    assert group.set(Bounds(256 * MIB, 1.0, 65))
    assert not group.set(Bounds(40 * MIB, 1.0, 65))
    assert group.set(Bounds(40 * MIB, 1.0, 65), reclaim=True)
    assert name in asked
    assert not group.set(Bounds(10 * MIB, 1.0, 65), reclaim=True)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_usage_counts_from_the_start_of_counting(version, request):
    group, root = request.getfixturevalue(version)
    group.start_counting()
    assert (root / ("cpu/cpu.shares" if version == "v1" else "cpu.weight")).read_text().startswith("12")
    if version == "v1":
        (root / "cpuacct/cpuacct.usage").write_text("9500000")
        (root / "memory/memory.oom_control").write_text("oom_kill 3\n")
        (root / "memory/memory.max_usage_in_bytes").write_text(str(70 * MIB))
    else:
        (root / "cpu.stat").write_text("usage_usec 9500\n")
        (root / "memory.events").write_text("oom 4\noom_kill 3\n")
        (root / "memory.peak").write_text(str(70 * MIB))
    stats = group.stats()
    assert (stats.cpu_ns, stats.oom_kills, stats.memory_peak_bytes) == (2_500_000, 1, 70 * MIB)
    assert group.pids() == [12, 34]


def test_the_version_is_told_by_the_mounts(tmp_path):
    point = tmp_path / "cg"
    lines = [f"cgroup {point}/{name} cgroup rw,{name} 0 0" for name in ("memory", "cpu,cpuacct", "pids")]
    for name in ("memory", "cpu,cpuacct", "pids"):
        (point / name).mkdir(parents=True)
    hybrid = "\n".join([*lines, f"cgroup2 {point}/unified cgroup2 rw 0 0"])
    assert isinstance(open_cgroups("runyard-x", hybrid), CgroupsV1)


def test_a_service_leaves_no_group_of_its_own_in_any_hierarchy(tmp_path):
    mounts = "\n".join(f"cgroup {tmp_path}/{name} cgroup rw,{name} 0 0" for name in ("memory", "pids", "freezer"))
    for name in ("memory", "pids"):
        (tmp_path / name / "runyard-x" / "sandbox").mkdir(parents=True)
    for name in ("freezer", "memory"):
        (tmp_path / name / "runyard-other").mkdir(parents=True)
    busy = tmp_path / "pids/runyard-x/sandbox/cgroup.procs"
    busy.write_text("12\n")
    remove_parents("runyard-x", mounts)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*"))
    # One that is in use stays, as do those of other services.
    assert left == ["freezer/runyard-other", "memory/runyard-other", "pids/runyard-x"]
    busy.unlink()
    remove_parents("runyard-x", mounts)
    assert not (tmp_path / "pids/runyard-x").exists()


def test_v2_hands_the_controllers_down(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    parent = tmp_path / "runyard-x"
    parent.mkdir()
    (parent / "cgroup.subtree_control").write_text("")
    found = open_cgroups("runyard-x", f"cgroup2 {tmp_path} cgroup2 rw 0 0")
    assert isinstance(found, CgroupsV2)
    for directory in (tmp_path, parent):
        assert (directory / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"


def test_a_machine_without_the_controllers_is_refused_by_name():
    with pytest.raises(EngineUnusable, match="pids"):
        open_cgroups("runyard-x", "cgroup /x/memory cgroup rw,memory,cpu,cpuacct 0 0")


def test_v2_without_a_controller_is_refused_by_name(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io\n")
    with pytest.raises(EngineUnusable, match="memory, pids"):
        open_cgroups("runyard-x", f"cgroup2 {Path(tmp_path)} cgroup2 rw 0 0")


# -- groups that somebody else has made ----------------------------------------------------------------

# As on Debian 12 in hybrid mode with Docker's cgroupfs driver, and on Debian 13 with systemd's; shortened.
V1_MEMBERSHIP = (
    "10:hugetlb:/runyard-x/abc\n9:name=systemd:/runyard-x/abc\n8:pids:/runyard-x/abc\n"
    "4:memory:/runyard-x/abc\n2:cpu,cpuacct:/runyard-x/abc\n0::/runyard-x/abc\n"
)
V2_MEMBERSHIP = "0::/runyard.slice/runyard-x.slice/docker-abc.scope\n"


def test_a_group_of_v1_is_found_by_its_process(tmp_path):
    for controllers in ("memory", "cpu,cpuacct", "pids"):
        (tmp_path / controllers / "runyard-x/abc").mkdir(parents=True)
    (tmp_path / "pids/runyard-x/abc/cgroup.procs").write_text("41\n42\n")
    (tmp_path / "memory/runyard-x/abc/memory.memsw.limit_in_bytes").write_text("0")
    mounts = "".join(
        f"cgroup {tmp_path}/{controllers} cgroup rw,relatime,{controllers} 0 0\n"
        for controllers in ("memory", "cpu,cpuacct", "pids")
    )
    group = group_of(42, Bounds(256 * MIB, 1.0, 65), mounts, V1_MEMBERSHIP)
    for name in ("memory.limit_in_bytes", "memory.usage_in_bytes"):
        (tmp_path / "memory/runyard-x/abc" / name).write_text("0")
    assert group.set(Bounds(512 * MIB, 1.0, 65))
    assert (tmp_path / "memory/runyard-x/abc/memory.memsw.limit_in_bytes").read_text() == str(512 * MIB)
    # What is already in force is not written again.
    assert not (tmp_path / "pids/runyard-x/abc/pids.max").exists()


def test_a_group_of_v2_is_found_by_its_process(tmp_path):
    place = tmp_path / "runyard.slice/runyard-x.slice/docker-abc.scope"
    place.mkdir(parents=True)
    (place / "cgroup.procs").write_text("42\n")
    (place / "memory.current").write_text("1000")
    (place / "memory.max").write_text("max")
    mounts = f"cgroup2 {tmp_path} cgroup2 rw,nosuid 0 0\n"
    group = group_of(42, Bounds(256 * MIB, 1.0, 65), mounts, V2_MEMBERSHIP)
    assert group.set(Bounds(64 * MIB, 1.0, 65))
    assert (place / "memory.max").read_text() == str(64 * MIB)
    assert group.pids() == [42]


def test_a_group_that_is_not_to_be_seen_is_an_error(tmp_path):
    mounts = f"cgroup2 {tmp_path} cgroup2 rw,nosuid 0 0\n"
    with pytest.raises(EngineError, match="not to be seen"):
        group_of(42, Bounds(1, 1.0, 1), mounts, "0::/../../docker-abc.scope\n")
    with pytest.raises(EngineError, match="not mounted"):
        group_of(42, Bounds(1, 1.0, 1), "", V2_MEMBERSHIP)


def test_what_a_runtime_made_under_other_controllers_is_found_by_name(tmp_path):
    for name in ("devices", "freezer", "unified"):
        (tmp_path / name / "runyard-x/abc").mkdir(parents=True)
    (tmp_path / "cpuset").mkdir()
    mounts = "".join(
        f"cgroup {tmp_path}/{name} {kind} rw 0 0\n"
        for name, kind in (
            ("devices", "cgroup"),
            ("freezer", "cgroup"),
            ("cpuset", "cgroup"),
            ("unified", "cgroup2"),
        )
    )
    found = directories_named("runyard-x/abc", mounts)
    assert found == [f"{tmp_path}/{name}/runyard-x/abc" for name in ("devices", "freezer", "unified")]


def test_v1_buffers_of_sockets_are_bounded_beside_the_memory(v1):
    group, root = v1
    (root / "memory/memory.kmem.tcp.limit_in_bytes").write_text("")
    assert group.set(Bounds(256 * MIB, 1.0, 65))
    assert (root / "memory/memory.kmem.tcp.limit_in_bytes").read_text() == str(32 * MIB)
    # Docker has made the group, and bounded its memory alone.
    given = GroupV1(group._paths, memsw=True, bounds=Bounds(256 * MIB, 1.0, 65))
    (root / "memory/memory.kmem.tcp.limit_in_bytes").write_text("")
    assert given.set(Bounds(256 * MIB, 1.0, 65))
    assert (root / "memory/memory.kmem.tcp.limit_in_bytes").read_text() == str(32 * MIB)


# -- disk reads ----------------------------------------------------------------------------------------

READS = ReadLimit("254:0", "/dev/vda", 200_000_000)


def test_the_disk_of_a_partition_is_found_and_a_volume_is_its_own(tmp_path):
    (tmp_path / "dev/block").mkdir(parents=True)
    for place, device, name in (
        ("sda", "8:0", "sda"),
        ("sda/sda1", "8:1", "sda1"),
        ("virtual/dm-0", "253:0", "dm-0"),
    ):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "dev").write_text(f"{device}\n")
        (tmp_path / place / "uevent").write_text(f"MAJOR=8\nDEVNAME={name}\n")
        (tmp_path / "dev/block" / device).symlink_to(tmp_path / place)
    (tmp_path / "sda/sda1/partition").write_text("1\n")
    assert find_disk(8, 1, tmp_path) == ("8:0", "/dev/sda")
    assert find_disk(253, 0, tmp_path) == ("253:0", "/dev/dm-0")
    for number in ((0, 42), (9, 9)):
        with pytest.raises(FileNotFoundError):
            find_disk(*number, tmp_path)


def test_reads_are_not_limited_where_there_is_no_disk_or_none_is_wanted(tmp_path, caplog):
    assert read_limit(tmp_path, 0) is None
    assert not caplog.records
    assert read_limit(Path("/proc"), 200) is None
    assert "not limited" in caplog.text


def test_v2_holds_each_group_to_the_reads(tmp_path, caplog):
    (tmp_path / "cgroup.controllers").write_text("cpu io memory pids\n")
    parent = tmp_path / "runyard-x"
    parent.mkdir()
    for path in (tmp_path / "cgroup.subtree_control", parent / "cgroup.subtree_control", parent / "io.max"):
        path.write_text("")
    mounts = f"cgroup2 {tmp_path} cgroup2 rw 0 0"
    found = open_cgroups("runyard-x", mounts, READS)
    assert (parent / "io.max").read_text() == "254:0 rbps=max riops=max"
    assert (parent / "cgroup.subtree_control").read_text().startswith("+io")
    written = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "write", lambda path, value: written.append((Path(path).name, value)))
        found.create("a")
        found.create("b", limited_reads=False)
    assert written == [("io.max", "254:0 rbps=200000000 riops=20000")]
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    open_cgroups("runyard-x", mounts, READS)
    assert "offers no controller io" in caplog.text


def test_v1_holds_each_group_to_the_reads_or_goes_without(tmp_path, caplog):
    names = ("memory", "cpu,cpuacct", "pids", "blkio")
    for name in names:
        (tmp_path / name / "runyard-x").mkdir(parents=True)
    lines = [f"cgroup {tmp_path}/{name} cgroup rw,{name} 0 0" for name in names]
    open_cgroups("runyard-x", "\n".join(lines), READS)  # a kernel without the files
    assert "does not take /dev/vda" in caplog.text
    for kind in ("bps", "iops"):
        (tmp_path / f"blkio/runyard-x/blkio.throttle.read_{kind}_device").write_text("")
    found = open_cgroups("runyard-x", "\n".join(lines), READS)
    written = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "write", lambda path, value: written.append((Path(path).name, value)))
        found.create("a")
        found.create("b", limited_reads=False)
    assert written == [
        ("blkio.throttle.read_bps_device", "254:0 200000000"),
        ("blkio.throttle.read_iops_device", "254:0 20000"),
    ]
    open_cgroups("runyard-x", "\n".join(lines[:3]), READS)
    assert "blkio is not mounted" in caplog.text
