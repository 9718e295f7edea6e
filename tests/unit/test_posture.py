"""What is read of a sandbox, and how it is held against a posture file: on recorded texts."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from ops.posture import joined
from sandbox.engines import EngineError, EngineUnusable, NotConfined
from sandbox.engines.oci.runsc import options_for
from sandbox.engines.pid1_status import ExpectedStatus, ProcessView, process_view
from sandbox.images import Image
from sandbox.languages import Catalogue
from sandbox.posture import canary
from sandbox.posture.cgroup import _v1, _v2
from sandbox.posture.facts import named_capabilities, named_uid
from sandbox.posture.golden import FOLDER, compare, golden_path, load_golden
from sandbox.posture.layers import LAYERS
from sandbox.posture.mounts import parse_mountinfo
from worker.privileges import KEPT

GOLDEN = sorted(path.stem for path in FOLDER.glob("*.json"))
WITHOUT_OURS = {"oci-runsc", "docker-runsc"}


def golden(name):
    engine, _, runtime = name.partition("-")
    return load_golden(engine, runtime)


def missing(findings):
    return [finding.layer for finding in findings if finding.state == "missing"]


# -- the files ---------------------------------------------------------------------------------------------


def test_there_is_a_file_for_every_engine_with_every_runtime():
    assert GOLDEN == ["docker-crun", "docker-runc", "docker-runsc", "oci-crun", "oci-runc", "oci-runsc"]
    assert golden_path("docker", "runsc-systrap").name == "docker-runsc.json"
    with pytest.raises(EngineUnusable, match=r"no posture file for docker with kata .*make posture"):
        load_golden("docker", "kata")


@pytest.mark.parametrize("name", GOLDEN)
def test_what_no_file_may_be_without(name):
    """A careless `make posture` on a bad machine does not pass: this is the page of confinement, written by hand."""
    facts = golden(name)
    assert facts["seccomp"]["Seccomp"] == "2"
    assert facts["seccomp"]["filters"] >= 1
    assert facts["no_new_privileges"] == {"NoNewPrivs": "1"}
    assert facts["apparmor"] == {"label": "runyard-sandbox (enforce)"}
    assert facts["network"] == {"devices": ["lo"], "routes": 0}
    assert facts["cgroup"]["swap"] == "none"
    assert {facts["namespaces"][kind] for kind in ("mnt", "net", "ipc", "uts")} == {"own"}
    if name in WITHOUT_OURS:
        assert facts["identity"]["uid"] == "65534"
        assert facts["user_namespace"]["namespace"] == "own"
        return
    assert set(facts["capabilities"].values()) == {"none"}
    assert set(facts["namespaces"].values()) == {"own"}
    assert facts["identity"]["uid"] == facts["identity"]["gid"] == "slot+1000"
    assert set(facts["masked"].values()) == {"hidden"}
    assert facts["read_only"] == {"/proc/sys": "ro"}
    assert facts["root"]["/"].startswith("overlay ro")
    assert facts["cgroup"] == {"memory_mb": 256, "swap": "none", "cpus": 1.0, "pids": "the language's + 1"}
    assert facts["oom"]["oom_score_adj"] == 500
    assert facts["descriptors"]["files_of_the_host"] == 0
    assert facts["environment"] == {"as_documented": True, "beyond": []}
    for point, held in facts["mounts"].items():
        flags = held.split(" ")[1].split(",")
        assert "nosuid" in flags or point == "/etc/hostname", point
        if "rw" in flags and point != "/work":
            assert "noexec" in flags or (point, name.partition("-")[0]) == ("/dev", "docker"), point
    assert (facts["user_namespace"]["uid_map"] == "0 slot+0 65536") is name.startswith("oci")


def test_every_layer_has_a_name_and_a_mend():
    assert len({layer.name for layer in LAYERS}) == len(LAYERS)
    assert all(layer.mend and layer.says for layer in LAYERS)
    assert {layer.name for layer in LAYERS if layer.relaxable} == {"seccomp", "apparmor", "no_new_privileges"}
    assert [layer.name for layer in LAYERS if layer.need == "no"] == ["landlock"]
    assert set(golden("oci-crun")) == {layer.name for layer in LAYERS} - {"landlock"}


# -- comparing ---------------------------------------------------------------------------------------------


@pytest.fixture
def facts():
    """As measured on a kernel without AppArmor."""
    found = copy.deepcopy(golden("oci-crun"))
    return found | {"apparmor": {"label": "none"}, "landlock": {"abi_of_the_kernel": 7}}


def judge(facts, *, apparmor=None, relaxed=False):
    return compare(facts, golden("oci-crun"), apparmor=apparmor, relaxed=relaxed)


def test_what_is_as_it_must_be_misses_nothing(facts):
    states = {finding.layer: finding.state for finding in judge(facts)}
    assert (states.pop("apparmor"), states.pop("landlock")) == ("without", "reported")
    assert set(states.values()) == {"ok"}


CHANGES = [
    ("user_namespace", "namespace", "host"),
    ("user_namespace", "uid_map", "0 0 4294967295"),
    ("identity", "uid", "0"),
    ("identity", "groups", "4"),
    ("capabilities", "CapEff", "13"),
    ("capabilities", "CapBnd", "all"),
    ("capabilities", "CapAmb", None),
    ("no_new_privileges", "NoNewPrivs", "0"),
    ("seccomp", "Seccomp", "0"),
    ("seccomp", "filters", 0),
    ("namespaces", "net", "host"),
    ("namespaces", "pid", "host | own"),
    ("root", "/", "overlay rw,nosuid"),
    ("mounts", "/work", "tmpfs rw,nosuid,nodev"),
    ("mounts", "/srv", "host ro,nosuid"),
    ("mounts", "/tmp", None),
    ("masked", "/proc/kcore", "open"),
    ("masked", "/sys", "open"),
    ("read_only", "/proc/sys", "rw"),
    ("cgroup", "memory_mb", "unbounded"),
    ("cgroup", "memory_mb", 512),
    ("cgroup", "swap", "possible"),
    ("cgroup", "cpus", "unbounded"),
    ("cgroup", "pids", "the language's + 900"),
    ("rlimits", "NOFILE", 2**63),
    ("rlimits", "CORE", 1),
    ("network", "devices", ["eth0", "lo"]),
    ("network", "routes", 1),
    ("oom", "oom_score_adj", 0),
    ("descriptors", "files_of_the_host", 1),
    ("descriptors", "sockets_of_pid_1", 2),
    ("environment", "beyond", ["LD_PRELOAD"]),
    ("environment", "as_documented", False),
    ("build_directory", "/opt/build", "tmpfs rw"),
]


@pytest.mark.parametrize(("layer", "fact", "value"), CHANGES)
def test_each_fact_that_is_otherwise_is_a_missing_layer(facts, layer, fact, value):
    if value is None:
        del facts[layer][fact]
    else:
        facts[layer][fact] = value
    (found,) = [finding for finding in judge(facts) if finding.state == "missing"]
    assert (found.layer, found.required) == (layer, True)
    assert fact in found.detail
    assert found.mend


def test_every_required_layer_is_among_the_changes():
    assert {layer for layer, _, _ in CHANGES} == {layer.name for layer in LAYERS if layer.need == "yes"}


@pytest.mark.parametrize(
    ("layer", "fact", "value"),
    [
        ("rlimits", "NOFILE", 512),  # a host's own hard limit is lower
        ("seccomp", "filters", 3),  # a worker under a filter hands it on
        ("oom", "oom_score_adj", 900),
        ("cgroup", "memory_mb", 255),
    ],
)
def test_what_is_stricter_will_do(facts, layer, fact, value):
    facts[layer][fact] = value
    assert missing(judge(facts)) == []


def test_gvisor_of_another_release_may_confine_itself_more():
    facts = golden("oci-runsc") | {"apparmor": {"label": "none"}, "landlock": {"abi_of_the_kernel": 0}}
    facts["namespaces"] = dict.fromkeys(facts["namespaces"], "own")
    facts["capabilities"] = dict.fromkeys(facts["capabilities"], "none")
    assert missing(compare(facts, golden("oci-runsc"), apparmor=None, relaxed=False)) == []
    facts["seccomp"] = {"Seccomp": "0", "filters": 0}
    assert missing(compare(facts, golden("oci-runsc"), apparmor=None, relaxed=False)) == ["seccomp"]


@pytest.mark.parametrize(
    ("label", "state"),
    [
        ("runyard-sandbox (enforce)", "ok"),
        ("runyard-sandbox (complain)", "missing"),
        ("unconfined", "missing"),
        ("docker-default (enforce)", "missing"),
        ("none", "missing"),
    ],
)
def test_where_the_kernel_has_apparmor_its_profile_is_required(facts, label, state):
    facts["apparmor"] = {"label": label}
    found = {finding.layer: finding.state for finding in judge(facts, apparmor="runyard-sandbox")}
    assert found["apparmor"] == state


def test_a_profile_of_the_owners_is_the_one_that_must_be_there(facts):
    facts["apparmor"] = {"label": "mine (enforce)"}
    assert missing(judge(facts, apparmor="mine")) == []
    assert missing(judge(facts, apparmor="other")) == ["apparmor"]


def test_relaxed_means_three_layers_and_no_other(facts):
    loose = copy.deepcopy(facts)
    loose["seccomp"] = {"Seccomp": "0", "filters": 0}
    loose["no_new_privileges"] = {"NoNewPrivs": "0"}
    loose["apparmor"] = {"label": "unconfined"}
    states = {one.layer: one.state for one in judge(loose, apparmor="runyard-sandbox", relaxed=True)}
    assert {name for name, state in states.items() if state == "relaxed"} == {
        "seccomp",
        "no_new_privileges",
        "apparmor",
    }
    assert not [one for one in judge(loose, relaxed=True) if one.state == "relaxed" and one.required]
    loose["masked"]["/sys"] = "open"
    assert missing(judge(loose, apparmor="runyard-sandbox", relaxed=True)) == ["masked"]


def test_landlock_is_reported_and_never_required(facts):
    facts["landlock"] = {"abi_of_the_kernel": 0}
    found = {one.layer: one for one in judge(facts)}["landlock"]
    assert (found.state, found.required) == ("without", False)
    assert found.mend


# -- reading -----------------------------------------------------------------------------------------------

MOUNTINFO = r"""801 700 0:60 / / ro,nosuid,relatime - overlay overlay ro,lowerdir=/a:/b
802 801 0:61 / /work rw,nosuid,nodev,relatime - tmpfs tmpfs rw,size=131072k,nr_inodes=16384,mode=700,uid=7,inode64
803 801 0:62 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
804 803 0:63 / /proc/scsi ro,relatime - tmpfs tmpfs ro
805 803 0:5 /null /proc/kcore ro,nosuid - devtmpfs devtmpfs rw
806 801 0:64 / /with\040space rw - ext4 /dev/vda ro
807 803 0:65 / /proc/tty rw - tmpfs tmpfs rw
"""


def test_mountinfo_is_read():
    found = {mount.point: mount for mount in parse_mountinfo(MOUNTINFO)}
    assert found["/"].flags == ("ro", "nosuid")
    assert (found["/work"].kind, found["/work"].options["size"]) == ("tmpfs", "131072k")
    assert found["/with space"].flags == ("ro",)  # its file system is read-only, whatever the mount says
    assert found["/proc/scsi"].covers
    assert found["/proc/kcore"].covers
    assert not found["/proc/tty"].covers  # something could be put there
    assert not found["/work"].covers


def test_a_uid_is_told_by_its_slot():
    process_view = ProcessView(1, (1,), 1_001_000)
    assert named_uid(1_001_000, process_view) == "slot+1000"
    assert named_uid(1_000_000, process_view) == "slot+0"
    assert named_uid(0, process_view) == "0"
    assert named_uid(1_065_536, process_view) == "1065536"
    assert named_uid(5, ProcessView(1, (1,), None)) == "5"


def test_a_capability_set_is_told_by_its_numbers():
    assert named_capabilities(0) == "none"
    assert named_capabilities(1 << 13 | 1 << 21) == "13 21"
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert named_capabilities((1 << last + 1) - 1) == "all"


def test_bounds_of_both_versions_are_read(tmp_path):
    for name, text in {
        "memory.limit_in_bytes": "268435456\n",
        "memory.memsw.limit_in_bytes": "268435456\n",
        "cpu.cfs_quota_us": "150000\n",
        "cpu.cfs_period_us": "100000\n",
        "pids.max": "65\n",
    }.items():
        (tmp_path / name).write_text(text)
    groups = dict.fromkeys(("memory", "cpu", "pids"), tmp_path)
    found = _v1(groups)
    assert (found.memory_bytes, found.swapless, found.cpus, found.pids) == (268435456, True, 1.5, 65)
    (tmp_path / "memory.memsw.limit_in_bytes").write_text("9223372036854771712\n")
    (tmp_path / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "pids.max").write_text("max\n")
    assert (_v1(groups).swapless, _v1(groups).cpus, _v1(groups).pids) == (False, None, None)
    for name, text in {"memory.max": "268435456\n", "memory.swap.max": "0\n", "cpu.max": "50000 100000\n"}.items():
        (tmp_path / name).write_text(text)
    found = _v2(tmp_path)
    assert (found.memory_bytes, found.swapless, found.cpus, found.pids) == (268435456, True, 0.5, None)
    (tmp_path / "memory.swap.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert (_v2(tmp_path).swapless, _v2(tmp_path).cpus) == (False, None)


def test_a_sandbox_that_has_ended_is_not_measured():
    with pytest.raises(EngineError, match="ended before"):
        process_view(5, [], ExpectedStatus(7))
    assert process_view(5, [9, 5, 7], ExpectedStatus(7)).processes == (5, 7, 9)


# -- canaries ----------------------------------------------------------------------------------------------


class Engine:
    name, runtime = "oci", "crun"


class Sandbox:
    def __init__(self, language="bash", digest="sha256:1", *, replaceable=False):
        self.image = Image(language, digest, ())
        self.replaceable = replaceable

    def facts(self):
        return SimpleNamespace(source="template" if self.replaceable else "pool")

    def quarantine_source(self):
        return self.replaceable

    def process_view(self):
        return ProcessView(1, (1,), 1000)


@pytest.fixture
def posture(monkeypatch, facts):
    monkeypatch.setattr(canary, "LOOK_AGAIN_S", 0)
    monkeypatch.setattr(canary, "apparmor_is_on", lambda: False)
    reads = []

    def read(_subject, _language):
        reads.append(1)
        found = facts
        if isinstance(found.get("raises"), list) and found["raises"]:
            raise found["raises"].pop()
        return {name: value for name, value in found.items() if name != "raises"}

    monkeypatch.setattr(canary, "read_facts", read)
    made = canary.Posture(Engine(), Catalogue.load(), apparmor=None, relaxed=False)
    made.reads = reads
    return made


def test_a_layer_that_was_never_measured_does_not_count_as_in_force(posture):
    summary = posture.summary()
    assert set(summary.values()) == {"fail"}
    assert {"seccomp", "capabilities", "root", "cgroup"} <= set(summary)
    assert not {"apparmor", "landlock", "build_directory"} & set(summary)
    posture.inspect(Sandbox())
    assert set(posture.summary().values()) == {"ok"}
    assert set(posture.summary()) >= set(summary)


def test_apparmor_is_one_of_them_where_the_kernel_has_it(monkeypatch):
    monkeypatch.setattr(canary, "apparmor_is_on", lambda: True)
    made = canary.Posture(Engine(), Catalogue.load(), apparmor=None, relaxed=False)
    assert made.summary()["apparmor"] == "fail"


def test_a_layer_that_no_host_can_see_of_gvisor_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(canary, "apparmor_is_on", lambda: False)
    gvisor = SimpleNamespace(name="oci", runtime="runsc")
    made = canary.Posture(gvisor, Catalogue.load(), apparmor=None, relaxed=False)
    assert set(made.summary()) <= set(load_golden("oci", "runsc"))
    assert "cgroup" in made.summary()


def test_what_is_relaxed_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(canary, "apparmor_is_on", lambda: True)
    made = canary.Posture(Engine(), Catalogue.load(), apparmor=None, relaxed=True)
    assert not {"seccomp", "apparmor", "no_new_privileges"} & set(made.summary())
    assert made.summary()["capabilities"] == "fail"


def test_an_image_is_measured_once(posture):
    for _ in range(3):
        posture.inspect(Sandbox())
    assert len(posture.reads) == 1
    posture.inspect(Sandbox(digest="sha256:2"))
    assert len(posture.reads) == 2
    assert set(posture.summary().values()) == {"ok"}
    assert not {"apparmor", "landlock"} & set(posture.summary())


def test_what_can_be_made_in_another_way_is_refused_and_stops_nothing(posture, facts):
    told = []
    posture.on_failure = told.append
    good, facts["seccomp"] = facts["seccomp"], {"Seccomp": "0", "filters": 0}
    with pytest.raises(EngineError, match="seccomp is not in force") as refused:
        posture.inspect(Sandbox(replaceable=True))
    assert not isinstance(refused.value, NotConfined)
    assert told == []
    assert posture.summary()["seccomp"] == "fail"

    facts["seccomp"] = good
    posture.inspect(Sandbox())
    assert posture.summary()["seccomp"] == "ok"


def test_a_layer_that_is_missing_is_named_with_its_mend_and_told(posture, facts):
    told = []
    posture.on_failure = told.append
    facts["seccomp"] = {"Seccomp": "0", "filters": 0}
    for _ in range(2):
        with pytest.raises(NotConfined, match=r"oci/crun, image bash: seccomp is not in force .* -> a kernel with"):
            posture.inspect(Sandbox())
    assert len(told) == 2
    assert posture.summary()["seccomp"] == "fail"
    assert posture.summary()["masked"] == "ok"


def test_what_passes_by_itself_is_not_believed_at_once(posture, facts, monkeypatch):
    """A helper of the runtime's may still be in the group, and a process may end while it is looked at."""
    facts["capabilities"]["CapEff"] = "21"
    facts["raises"] = [EngineError("gone")]
    slept = []

    def settle(_seconds):
        slept.append(1)
        if len(slept) == 2:
            facts["capabilities"]["CapEff"] = "none"

    monkeypatch.setattr(canary.time, "sleep", settle)
    posture.inspect(Sandbox())
    assert len(posture.reads) == 3


def test_one_that_cannot_be_read_is_no_success(posture, facts):
    facts["raises"] = [EngineError("gone")] * canary.LOOKS
    with pytest.raises(EngineError, match="gone"):
        posture.inspect(Sandbox())
    posture.inspect(Sandbox())


def test_the_report_shows_the_worst_image(posture, facts):
    posture.inspect(Sandbox("bash", "sha256:1"))
    facts["root"] = {"/": "overlay rw"}
    with pytest.raises(NotConfined):
        posture.inspect(Sandbox("node", "sha256:2"))
    assert [one.layer for one in posture.report() if one.state == "missing"] == ["root"]
    assert [one.layer for one in posture.report()] == [layer.name for layer in LAYERS]


# -- the command -------------------------------------------------------------------------------------------


def test_images_must_agree_but_for_what_may_differ(facts):
    other = copy.deepcopy(facts)
    del facts["build_directory"]
    other["oom"]["oom_score_adj"] = 1000
    whole = joined({"bash": facts, "go": other})
    assert whole == json.loads((FOLDER / "oci-crun.json").read_text())
    other["masked"]["/sys"] = "open"
    with pytest.raises(ValueError, match=r"go: masked\./sys is 'open'"):
        joined({"bash": facts, "go": other})


def test_a_current_gvisor_is_nobody_on_the_host():
    assert options_for("  -directfs\n\tdirectly access the container filesystems") == [
        "--network=none",
        "--directfs=false",
    ]
    assert options_for("  -platform string") == ["--network=none"]


# -- the worker's own rights ---------------------------------------------------------------------------


def test_the_page_of_confinement_names_each_capability_and_its_reason():
    page = (FOLDER.parents[1] / "docs" / "confinement.md").read_text()
    rows = dict(re.findall(r"^\| `(CAP_[A-Z_]+)` \| (.+?) \|$", page, re.MULTILINE))
    assert rows == {name: reason for name, (_, reason) in KEPT.items()}
