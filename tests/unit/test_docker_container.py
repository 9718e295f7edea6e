"""What a container is made with: docs/confinement.md's list, and nothing that would open it."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace

import pytest

from sandbox.engines import EngineError, NotConfined
from sandbox.engines.cgroups.group import Bounds
from sandbox.engines.cgroups.reads import ReadLimit
from sandbox.engines.confinement import MASKED_PROC
from sandbox.engines.docker.archive import archive_of, write_layer
from sandbox.engines.docker.container import Confinement, container_config
from sandbox.engines.docker.engine import Uids, is_alive, owner_name
from sandbox.engines.docker.sandbox import update_of
from sandbox.engines.pid1_status import ExpectedStatus, check_posture
from sandbox.images import Image

PROFILE = {"defaultAction": "SCMP_ACT_ERRNO"}
CONFINEMENT = Confinement("runc", PROFILE, None, no_new_privileges=True, cgroup_parent="/runyard-x")


def config(confinement=CONFINEMENT):
    return container_config(
        confinement,
        image="runyard/python:abc",
        argv=["python3", "main.py"],
        env={"HOME": "/work"},
        uid=1879114728,
        bounds=Bounds(256 << 20, 1.0, 65),
        labels={"dev.runyard.instance": "runyard-x"},
    )


def test_every_field_of_the_list_is_set():
    made = config()
    host = made["HostConfig"]
    assert (made["NetworkDisabled"], host["NetworkMode"]) == (True, "none")
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert "CapAdd" not in host
    assert made["User"] == "1879114728:1879114728"
    assert host["Memory"] == host["MemorySwap"] == 256 * 1024 * 1024
    assert (host["PidsLimit"], host["NanoCpus"]) == (65, 1_000_000_000)
    assert (host["IpcMode"], host["CgroupnsMode"], host["LogConfig"]["Type"]) == ("none", "private", "none")
    assert (made["Tty"], made["OpenStdin"], made["StdinOnce"], host["AutoRemove"]) == (False, True, True, True)
    assert not any(
        host.get(name) for name in ("Binds", "Mounts", "Devices", "Privileged", "PidMode", "VolumesFrom")
    )
    limits = {limit["Name"]: (limit["Soft"], limit["Hard"]) for limit in host["Ulimits"]}
    assert limits["core"] == limits["msgqueue"] == (0, 0)
    assert set(limits) == {"core", "nofile", "fsize", "sigpending", "msgqueue", "memlock"}
    assert "/sys" in host["MaskedPaths"]
    assert {path.removeprefix("/proc/") for path in host["MaskedPaths"]} - {"/sys"} <= set(MASKED_PROC)


def test_the_file_systems_are_bounded_and_only_work_executes():
    tmpfs = config()["HostConfig"]["Tmpfs"]
    assert set(tmpfs) == {"/work", "/tmp", "/dev/shm"}
    for path, options in tmpfs.items():
        words = options.split(",")
        assert {"nosuid", "nodev", "nr_inodes=16384"} <= set(words)
        assert ("exec" in words) is (path == "/work")
        assert any(word.startswith("size=") for word in words)
    assert {"uid=1879114728", "gid=1879114728", "mode=0700"} <= set(tmpfs["/work"].split(","))


def test_profiles_are_given_by_value_and_by_name():
    options = config()["HostConfig"]["SecurityOpt"]
    assert options == ["no-new-privileges:true", f"seccomp={json.dumps(PROFILE)}"]
    with_apparmor = config(replace(CONFINEMENT, apparmor="runyard-sandbox"))["HostConfig"]["SecurityOpt"]
    assert with_apparmor[-1] == "apparmor=runyard-sandbox"


def test_reads_from_the_disk_are_limited_where_there_is_one():
    assert not any(name.startswith("Blkio") for name in config()["HostConfig"])
    host = config(replace(CONFINEMENT, reads=ReadLimit("8:0", "/dev/sda", 200_000_000)))["HostConfig"]
    assert host["BlkioDeviceReadBps"] == [{"Path": "/dev/sda", "Rate": 200_000_000}]
    assert host["BlkioDeviceReadIOps"] == [{"Path": "/dev/sda", "Rate": 20_000}]


def test_relaxed_says_so_to_the_daemon():
    relaxed = replace(CONFINEMENT, seccomp=None, no_new_privileges=False)
    assert config(relaxed)["HostConfig"]["SecurityOpt"] == ["seccomp=unconfined"]


def test_the_environment_is_the_documented_one():
    assert config()["Env"] == ["HOME=/work", "HOSTNAME"]  # the second takes away what the daemon adds


def test_an_update_keeps_memory_and_swap_together():
    assert update_of(Bounds(64 << 20, 0.5, 11)) == {
        "Memory": 64 << 20, "MemorySwap": 64 << 20, "NanoCpus": 500_000_000, "PidsLimit": 11,
    }  # fmt: skip


# -- uids and owners -----------------------------------------------------------------------------------


def test_every_sandbox_has_a_uid_that_no_other_has():
    uids = Uids(0x7000_0000, 3)
    taken = [uids.take() for _ in range(3)]
    assert len(set(taken)) == 3
    assert all(uid > 0x7000_0000 + 65_536 for uid in taken)  # the first range holds the api's own
    with pytest.raises(EngineError, match="no free slot"):
        uids.take()
    uids.release(taken[1])
    assert uids.take() == taken[1]


def test_an_owner_is_known_by_more_than_its_pid():
    import os

    mine = owner_name(os.getpid())
    assert is_alive(mine)
    boot, pid, started = mine.split(".")
    assert not is_alive(f"{boot}.{pid}.{int(started) - 1}")  # a pid that was somebody else's
    assert not is_alive(f"00000000-0000-0000-0000-000000000000.{pid}.{started}")  # before the last boot
    for odd in ("", "x", "a.b.c", f"{boot}.-1.0", f"{boot}.99999999.1"):
        assert not is_alive(odd)


# -- posture -------------------------------------------------------------------------------------------

STATUS = """Name:\tpython3
Uid:\t1879114728\t1879114728\t1879114728\t1879114728
Gid:\t1879114728\t1879114728\t1879114728\t1879114728
Groups:\t1879114728
CapInh:\t0000000000000000
CapPrm:\t0000000000000000
CapEff:\t0000000000000000
CapBnd:\t0000000000000000
CapAmb:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
"""
EXPECTED = ExpectedStatus(1879114728)


def test_a_confined_process_passes():
    check_posture(1, EXPECTED, STATUS)


@pytest.mark.parametrize(
    ("now", "then", "named"),
    [
        ("Seccomp:\t2", "Seccomp:\t0", "Seccomp"),
        ("Seccomp:\t2\n", "", "Seccomp"),
        ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "NoNewPrivs"),
        ("CapBnd:\t0000000000000000", "CapBnd:\t00000000a80425fb", "CapBnd"),
        ("CapEff:\t0000000000000000\n", "", "CapEff"),
        ("Uid:\t1879114728", "Uid:\t0", "Uid"),
        ("Gid:\t1879114728\t1879114728\t1879114728\t1879114728", "Gid:\t0\t0\t0\t0", "Gid"),
    ],
)
def test_what_is_not_in_force_is_named(now, then, named):
    assert now in STATUS
    with pytest.raises(EngineError, match=named):
        check_posture(1, EXPECTED, STATUS.replace(now, then))


@pytest.mark.parametrize(
    "label", ["unconfined\n", "runyard-sandbox (complain)\n", "docker-default (enforce)\n", ""]
)
def test_a_process_under_another_apparmor_label_is_not_confined(label):
    with pytest.raises(NotConfined, match="AppArmor"):
        check_posture(1, replace(EXPECTED, apparmor="runyard-sandbox"), STATUS, label)


def test_a_process_under_its_apparmor_profile_passes():
    check_posture(1, replace(EXPECTED, apparmor="runyard-sandbox"), STATUS, "runyard-sandbox (enforce)\n")


def test_a_process_that_has_gone_is_not_confined():
    with pytest.raises(EngineError, match="cannot be measured"):
        check_posture(2**22 + 1, EXPECTED)


# -- images --------------------------------------------------------------------------------------------


@pytest.fixture
def layers(tmp_path):
    """An upper layer that changes a lower one, as overlay mounts leave it (whiteouts need root)."""
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    (lower / "etc").mkdir(parents=True)
    (lower / "etc/a").write_text("a")
    (lower / "etc/link").symlink_to("a")
    (lower / "etc/hard").hardlink_to(lower / "etc/a")
    (upper / "opt").mkdir(parents=True)
    (upper / "opt/tool").write_text("#!")
    (upper / "opt/tool").chmod(0o755)
    return upper, lower


def test_an_archive_names_its_layers_lowest_first_by_their_hash(layers, tmp_path):
    import hashlib

    image = Image("python", "sha256:" + "ab" * 32, tuple(map(str, layers)))
    archive = b"".join(archive_of(image, "runyard/python:abababababab", tmp_path))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json"))
        made = json.load(tar.extractfile(manifest["Config"]))
        contents = [tar.extractfile(name).read() for name in manifest["Layers"]]
    assert manifest["RepoTags"] == ["runyard/python:abababababab"]
    assert made["config"]["Labels"]["dev.runyard.image"] == image.digest
    assert made["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(content).hexdigest() for content in contents]
    for content, names in zip(
        contents, (["etc", "etc/a", "etc/hard", "etc/link"], ["opt", "opt/tool"]), strict=True
    ):
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            assert tar.getnames() == names


def test_a_layer_is_the_same_bytes_each_time_and_keeps_modes_and_links(layers):
    first, second = io.BytesIO(), io.BytesIO()
    digest, size = write_layer(layers[1], first)
    assert write_layer(layers[1], second) == (digest, size)
    assert first.getvalue() == second.getvalue()
    with tarfile.open(fileobj=first) as tar:
        assert tar.getmember("etc/link").linkname == "a"
        assert tar.getmember("etc/hard").islnk()
    upper = io.BytesIO()
    write_layer(layers[0], upper)
    with tarfile.open(fileobj=upper) as tar:
        assert tar.getmember("opt/tool").mode & 0o777 == 0o755
