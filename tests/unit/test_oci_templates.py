"""What a template is told, and for which programs which one is taken: without a kernel's part in it."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading

import pytest

from protocol.job import Job, JobFile, JobInput
from sandbox.engines import EngineError, EngineUnusable
from sandbox.engines.confinement import PROFILES, READONLY_PATHS, masked_proc, rlimits, tmpfs_sizes
from sandbox.engines.oci.templates import namespace
from sandbox.engines.oci.templates.confinement import build_confinement
from sandbox.engines.oci.templates.container import Template, TemplateClosed
from sandbox.engines.oci.templates.filter import compile_filter
from sandbox.engines.oci.templates.spec import build_template_spec
from sandbox.languages import RUNNERS, Catalogue
from sandbox.pool.sizes import flavour_sizes
from sandbox.run.plan import build_plan
from tests.support.seccomp_cases import flipped
from tests.support.seccomp_filter import AARCH64, I386, X32, X86_64, Filter, all_calls, compile_profile

CATALOGUE = Catalogue.load()
PYTHON = CATALOGUE.get("python")
MIB = 1024 * 1024


@pytest.fixture
def enclosure(monkeypatch):
    """The agent's module, which reads what is sent here."""
    monkeypatch.syspath_prepend(str(RUNNERS))
    yield __import__("agent.enclosure").enclosure
    for name in [name for name in sys.modules if name.partition(".")[0] == "agent"]:
        monkeypatch.delitem(sys.modules, name)


def test_the_agent_reads_the_walls_as_they_are_meant(enclosure):
    quotas = {"max_user_namespaces": 0, "max_inotify_instances": 128}
    walls = enclosure.Walls(
        build_confinement(
            memory_bytes=256 * MIB, build_bytes=0, seccomp=b"12345678", no_new_privileges=True, quotas=quotas
        )
    )
    assert (walls.uid, walls.gid, walls.no_new_privileges, walls.filter) == (1000, 1000, True, b"12345678")
    assert (walls.oom_score_adj, walls.cwd) == (b"500", b"/work")
    assert dict(walls.quotas) == {b"max_user_namespaces": b"0", b"max_inotify_instances": b"128"}
    assert sorted(bound for _, bound in walls.rlimits) == sorted(rlimits().values())
    masked = {b"/" + path for path in (*walls.masked_files, *walls.masked_directories)}
    assert masked == {path.encode() for path in masked_proc()}
    assert walls.read_only == [path.lstrip("/").encode() for path in READONLY_PATHS]
    mounts = {target: (source, kind, flags, data) for source, target, kind, flags, data in walls.mounts}
    assert list(mounts) == [b"proc", b"work", b"tmp", b"dev", b"dev/pts", b"dev/shm"]
    assert mounts[b"proc"] == (b"proc", b"proc", 2 | 4 | 8, None)
    assert mounts[b"dev"] == (b"dev", None, 1 | 2 | 8, None)
    size = tmpfs_sizes(256 * MIB)["/work"]
    assert mounts[b"work"][1:3] == (b"tmpfs", 2 | 4)
    assert mounts[b"work"][3] == f"size={size},nr_inodes=16384,uid=1000,gid=1000,mode=0700".encode()


def test_a_compiled_language_has_its_build_directory(enclosure):
    walls = enclosure.Walls(
        build_confinement(memory_bytes=MIB, build_bytes=MIB, seccomp=b"", no_new_privileges=False, quotas={})
    )
    assert walls.mounts[0][1] == b"opt/build"
    assert walls.no_new_privileges is False


def test_a_child_changes_its_profile_before_it_may_not_any_more(enclosure, monkeypatch):
    """Under no_new_privs the kernel refuses the change; without the uid of a program it would come too early."""
    kernel, steps = enclosure.kernel, []
    for module, names in (
        (kernel, ("unshare", "attach", "become_root", "shrink_bounding_set", "new_session_keyring", "load_filter")),
        (kernel, ("change_profile", "forbid_new_privileges", "drop_capabilities")),
        (enclosure.os, ("setsid", "setresgid", "setresuid", "close", "chdir")),
        (enclosure, ("_write", "_setup_mounts", "_raise_loopback")),
        (enclosure.resource, ("setrlimit",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, lambda *given, name=name: steps.append((name, given)))
    walls = enclosure.Walls(
        build_confinement(
            memory_bytes=MIB,
            build_bytes=0,
            seccomp=b"12345678",
            no_new_privileges=True,
            quotas={},
            apparmor="runyard-sandbox",
        )
    )
    enclosure.confine(walls, 3)
    assert steps[-5:] == [
        ("new_session_keyring", ()),
        ("change_profile", (b"runyard-sandbox",)),
        ("forbid_new_privileges", ()),
        ("drop_capabilities", ()),
        ("load_filter", (b"12345678",)),
    ]
    assert steps[-6] == ("setresuid", (1000, 1000, 1000))


@pytest.mark.parametrize(
    ("answer", "words"),
    [("runyard-sandbox (complain)", "must be"), ("unconfined", "must be"), ("runyard-sandbox (enforce)", None)],
)
def test_a_child_that_is_not_under_an_enforced_profile_ends(enclosure, monkeypatch, tmp_path, answer, words):
    """The kernel accepts the change to a profile that only complains."""
    label = tmp_path / "current"
    os.mkfifo(label)

    def kernels_part():
        asked.append(label.read_bytes())
        label.write_text(answer + "\n")

    asked = []
    kernel = threading.Thread(target=kernels_part)
    kernel.start()
    monkeypatch.setattr(enclosure.kernel, "APPARMOR_LABEL", str(label))
    if words is None:
        enclosure.kernel.change_profile(b"runyard-sandbox")
    else:
        with pytest.raises(OSError, match=words):
            enclosure.kernel.change_profile(b"runyard-sandbox")
    kernel.join()
    assert asked == [b"changeprofile runyard-sandbox"]


def test_the_profile_compiles_to_the_kernels_instructions():
    program = compile_filter(json.loads((PROFILES / "default.json").read_text()))
    assert len(program) % 8 == 0
    assert 100 < len(program) // 8 < 4096


def test_the_filter_answers_every_call_as_the_one_that_a_runtime_compiles():
    profile = json.loads((PROFILES / "default.json").read_text())
    runtimes, ours = Filter(compile_profile(profile)), Filter(compile_filter(profile))
    calls = all_calls()
    asked = [(number, ()) for number in range(2048)]
    asked += [(calls[name], arguments) for name, arguments in flipped(profile) if name in calls]
    for number, arguments in asked:
        for bits in (0, X32, -(1 << 31)):
            for arch in (X86_64, I386, AARCH64):
                answer = ours(number + bits, *arguments, arch=arch)
                assert answer == runtimes(number + bits, *arguments, arch=arch), (number, bits, arch, arguments)


def steps_of(program, number):
    program(number)
    return program.steps


def test_the_filter_is_a_tree():
    """The kernel asks it for every call while it is put in force: a list took three times as long."""
    profile = json.loads((PROFILES / "default.json").read_text())
    runtimes, ours = Filter(compile_profile(profile)), Filter(compile_filter(profile))
    steps = [sum(steps_of(program, number) for number in range(464)) for program in (runtimes, ours)]
    assert steps[1] * 3 < steps[0], steps


@pytest.mark.parametrize(
    "profile",
    [
        {"defaultAction": "SCMP_ACT_NOTIFY"},
        {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]},
    ],
)
def test_a_profile_that_would_mean_something_else_is_refused(profile):
    with pytest.raises(EngineUnusable, match="seccomp profile"):
        compile_filter(profile)


def test_several_conditions_upon_one_argument_are_a_choice():
    def size(*arguments):
        rule = {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": list(arguments)}
        return len(compile_filter({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}))

    one = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}
    two = {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}
    assert size(one, two) > size(one)


def test_a_template_has_three_capabilities_and_hides_nothing_of_proc():
    config = json.loads(
        build_template_spec(argv=["python3"], env={"A": "b"}, mapping=[(0, 5, 9)], no_new_privileges=True)
    )
    assert set(config["process"]["capabilities"]["effective"]) == {"CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID"}
    assert config["process"]["noNewPrivileges"] is True
    assert "apparmorProfile" not in config["process"]
    assert "maskedPaths" not in config["linux"]
    assert config["root"]["readonly"] is True
    assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 5, "size": 9}]


def test_a_template_under_a_profile_leaves_no_new_privileges_to_its_children():
    made = build_template_spec(
        argv=["python3"], env={}, mapping=None, no_new_privileges=True, apparmor="runyard-template"
    )
    config = json.loads(made)
    assert config["process"]["apparmorProfile"] == "runyard-template"
    assert config["process"]["noNewPrivileges"] is False
    assert not {"uidMappings", "gidMappings"} & set(config["linux"])


@pytest.mark.parametrize(("bound", "slots", "left", "each"), [("128", 4, "512", 128), ("9999", 4, "9999", 128)])
def test_a_bound_of_the_hosts_is_raised_to_serve_all_slots(tmp_path, bound, slots, left, each):
    path = tmp_path / "max_user_instances"
    path.write_text(bound)
    assert namespace._shared(path, 128, slots) == each
    assert path.read_text() == left


def plan(code, **fields):
    return build_plan(Job(run_id="run_1", language="python", code=code, key="k", **fields), CATALOGUE)


@pytest.mark.parametrize(
    "code",
    [
        "import pandas as pd",
        "import os, numpy",
        "x = 1\n  from matplotlib import pyplot",
        "from sklearn.svm import SVC",
    ],
)
def test_a_program_that_imports_a_library_is_given_its_template(code):
    assert plan(code).flavour == "science"


@pytest.mark.parametrize(
    "code", ["print('import')", "import mynumpy", "# pandas\nimport os", "x" * 70_000 + "\nimport numpy"]
)
def test_others_are_not(code):
    assert plan(code).flavour == ""


@pytest.mark.parametrize(
    ("fields", "flavour"),
    [
        ({"files": (JobFile("numpy.py", b""),)}, ""),
        ({"files": (JobFile("six.so", b""),)}, ""),
        ({"files": (JobFile("dateutil/x.txt", b""),)}, ""),
        ({"env": {"OMP_NUM_THREADS": "1"}}, ""),
        ({"env": {"MPLBACKEND": "svg"}}, ""),
        ({"interpreter": "cold"}, ""),
        ({"files": (JobFile("data.csv", b""),), "env": {"MODE": "x"}}, "science"),
        ({"inputs": (JobInput("inputs/a.py", "upload", "0" * 64, 1),)}, "science"),
    ],
)
def test_what_could_come_before_a_library_or_change_it_takes_the_plain_template(fields, flavour):
    assert plan("import numpy", **fields).flavour == flavour


def test_a_container_is_asked_for_by_the_run():
    assert plan("1", isolation="container").dedicated_container is True
    assert plan("1").dedicated_container is False


def test_a_template_that_was_closed_is_told_from_one_that_fails():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, socket.socket() as stream:
        template = Template("template-1", ours)
        template.fork(65536, stream.fileno(), stream.fileno())
        assert template.is_alive()
        template.close()
        assert not template.is_alive()
        with pytest.raises(TemplateClosed):
            template.fork(65536, stream.fileno(), stream.fileno())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    template = Template("template-2", ours)
    theirs.close()
    assert not template.is_alive()
    with pytest.raises(EngineError, match="cannot be reached") as caught:
        template.fork(65536, 0, 0)
    assert not isinstance(caught.value, TemplateClosed)
    template.close()


def test_a_flavour_has_half_of_what_its_language_has():
    bash = CATALOGUE.get("bash")
    assert flavour_sizes({PYTHON: 5, bash: 3}) == {(PYTHON, "science"): 3, (PYTHON, "kernel"): 3}
    assert flavour_sizes({PYTHON: 0}) == {}
