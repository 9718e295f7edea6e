"""The AppArmor profile: what its rules allow, path by path, and what is said where it is not enforced."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from sandbox.engines import EngineUnusable, apparmor
from sandbox.engines.apparmor import (
    PROFILE,
    PROFILES,
    SOURCE,
    ProfileWatch,
    TemplateProfiles,
    load_own,
    loaded_mode,
    profile_in_force,
    template_profiles,
)

LIST = "runyard-sandbox (enforce)\ndocker-default (enforce)\nlax (complain)\n/usr/sbin/ntpd (enforce)\nbad (unconfined)\n"


def pattern(glob: str) -> re.Pattern[str]:
    """A path of a rule as a regular expression; see apparmor.d(5), Globbing."""
    glob = glob.replace("@{PROC}", "/proc")
    out, depth, at = "", 0, 0
    while at < len(glob):
        if glob.startswith("**", at):
            out, at = out + ".*" if glob[at - 1] != "/" else out + ".+", at + 2
            continue
        letter = glob[at]
        if letter == "*":
            out += "[^/]*"
        elif letter == "{":
            out, depth = out + "(?:", depth + 1
        elif letter == "}":
            out, depth = out + ")", depth - 1
        elif letter == "," and depth:
            out += "|"
        elif letter == "[":
            end = glob.index("]", at)
            out, at = out + glob[at : end + 1], end
        else:
            out += re.escape(letter)
        at += 1
    return re.compile(out)


def rules():
    """The path rules: (denied, path, permissions)."""
    found = []
    for line in SOURCE.read_text().splitlines():
        match = re.fullmatch(r"\s*(deny )?((?:/|@\{PROC\})\S*) ([a-z]+),", line)
        if match:
            found.append((bool(match[1]), pattern(match[2]), set(match[3])))
    return found


RULES = rules()


def allowed(path: str, wanted: str) -> bool:
    """Whether every permission is given by some rule and taken by none."""
    given, taken = set(), set()
    for denied, path_pattern, permissions in RULES:
        if path_pattern.fullmatch(path):
            (taken if denied else given).update(permissions)
    return set(wanted) <= given - taken


def test_every_path_rule_is_read():
    written = [line for line in SOURCE.read_text().splitlines() if re.match(r"\s*(deny )?(/|@\{PROC\})", line)]
    assert len(RULES) == len(written) > 30


@pytest.mark.parametrize(
    ("path", "permissions"),
    [
        ("/usr/bin/python3.13", "rmix"),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", "rm"),
        ("/usr/local/bin/node", "rix"),
        ("/opt/runyard/agent/main.py", "r"),
        ("/etc/ld.so.cache", "r"),
        ("/etc/passwd", "r"),
        ("/work/main.py", "rwk"),
        ("/work/a/b/program", "rwmix"),
        ("/opt/build/main", "rwmix"),
        ("/tmp/x", "rwk"),
        ("/dev/shm/psm_1", "rw"),
        ("/dev/null", "rw"),
        ("/dev/urandom", "r"),
        ("/dev/pts/0", "rw"),
        ("/dev/pts/ptmx", "rw"),
        ("/proc/cpuinfo", "r"),
        ("/proc/meminfo", "r"),
        ("/proc/12/status", "r"),
        ("/proc/12/maps", "r"),
        ("/proc/12/task/13/comm", "rw"),
        ("/proc/12/oom_score_adj", "rw"),
        ("/proc/12/net/dev", "r"),
        ("/proc/sys/kernel/random/uuid", "r"),
        ("/proc/sys/vm/overcommit_memory", "r"),
        ("/proc/sys/net/core/somaxconn", "r"),
        ("/", "r"),
        ("/home/", "r"),
    ],
)
def test_what_programs_need_is_allowed(path, permissions):
    assert allowed(path, permissions.replace("ix", "i"))


@pytest.mark.parametrize(
    ("path", "permission"),
    [
        ("/usr/bin/python3", "w"),
        ("/etc/passwd", "w"),
        ("/etc/shadow", "r"),
        ("/opt/runyard/agent/main.py", "w"),
        ("/tmp/program", "i"),
        ("/tmp/library.so", "m"),
        ("/dev/shm/program", "i"),
        ("/dev/mem", "r"),
        ("/dev/kvm", "r"),
        ("/dev/vhost-vsock", "r"),
        ("/dev/fuse", "w"),
        ("/proc/1/mem", "r"),
        ("/proc/1/root/etc/passwd", "r"),
        ("/proc/12/ns/net", "r"),
        ("/proc/12/uid_map", "w"),
        ("/proc/12/attr/current", "w"),
        ("/proc/kcore", "r"),
        ("/proc/kallsyms", "r"),
        ("/proc/cmdline", "r"),
        ("/proc/sysrq-trigger", "w"),
        ("/proc/sys/kernel/core_pattern", "r"),
        ("/proc/sys/kernel/core_pattern", "w"),
        ("/proc/sys/vm/overcommit_memory", "w"),
        ("/proc/sys/net/core/somaxconn", "w"),
        ("/sys/class/net/eth0", "r"),
        ("/sys/kernel/debug/x", "r"),
        ("/sys/fs/cgroup/memory/release_agent", "w"),
        ("/sys/fs/cgroup/x/release_agent", "r"),
        ("/sys/power/state", "w"),
        ("/run/docker.sock", "r"),
        ("/var/run/docker.sock", "w"),
        ("/home/somebody/.ssh/id", "r"),
        ("/root/.ssh/id", "r"),
        ("/mnt/x", "r"),
        ("/boot/vmlinuz", "r"),
        ("/x", "w"),
    ],
)
def test_what_no_program_may_is_not(path, permission):
    assert not allowed(path, permission)


def test_nothing_but_paths_sockets_and_signals_is_given():
    text = re.sub(r"#[^\n]*", "", SOURCE.read_text())
    given = {line.split()[0] for line in text.splitlines() if line.strip().endswith(",")}
    kinds = {word for word in given if not word.startswith(("/", "@"))}
    assert kinds == {"abi", "network", "deny", "signal"}
    assert "capability" not in text
    for kind in ("ptrace", "mount", "remount", "umount", "pivot_root", "change_profile"):
        assert f"deny {kind}," in text
    families = set(re.findall(r"^\s*network (\w+)", text, re.MULTILINE))
    assert families == {"unix", "inet", "inet6"}


# -- which profile is in force -----------------------------------------------------------------------------


def test_the_kernels_list_is_read():
    assert loaded_mode("runyard-sandbox", LIST) == "enforce"
    assert loaded_mode("lax", LIST) == "complain"
    assert loaded_mode("runyard", LIST) is None
    assert loaded_mode("sandbox", LIST) is None


@pytest.fixture
def kernel(monkeypatch, tmp_path):
    """A kernel with AppArmor, by its files: `kernel(LIST)`."""

    def have(text, parser="/bin/false"):
        (tmp_path / "profiles").write_text(text)
        monkeypatch.setattr(apparmor, "apparmor_is_on", lambda: True)
        monkeypatch.setattr(apparmor, "LOADED", tmp_path / "profiles")
        monkeypatch.setattr(apparmor, "PARSER", str(parser))

    return have


def test_without_apparmor_there_is_none_and_a_wish_is_refused(monkeypatch):
    monkeypatch.setattr(apparmor, "apparmor_is_on", lambda: False)
    assert profile_in_force(None) is None
    with pytest.raises(EngineUnusable, match="APPARMOR_PROFILE=mine: this kernel has no such profile"):
        profile_in_force("mine")


def test_what_is_enforced_is_taken(kernel):
    kernel(LIST)
    assert profile_in_force(None) == PROFILE
    assert profile_in_force("docker-default") == "docker-default"


@pytest.mark.parametrize(("name", "words"), [("lax", "complain mode"), ("nowhere", "no such profile loaded")])
def test_what_is_not_enforced_is_refused(kernel, name, words):
    kernel(LIST)
    with pytest.raises(EngineUnusable, match=f"APPARMOR_PROFILE={name}: .*{words}"):
        profile_in_force(name)


def test_where_the_list_cannot_be_seen_the_canary_judges(kernel, monkeypatch, tmp_path):
    kernel(LIST)
    monkeypatch.setattr(apparmor, "LOADED", tmp_path / "nowhere")
    assert profile_in_force(None) == PROFILE
    assert profile_in_force("mine") == "mine"


def test_our_own_is_loaded_where_it_is_not(kernel, tmp_path):
    parser = tmp_path / "parser"
    parser.write_text(
        f"#!/bin/sh\necho 'runyard-sandbox (enforce)' >> {tmp_path}/profiles\necho \"$@\" > {tmp_path}/asked\n"
    )
    parser.chmod(0o755)
    kernel("docker-default (enforce)\n", parser)
    assert profile_in_force(None) == PROFILE
    assert (tmp_path / "asked").read_text().split() == ["--replace", "--write-cache", str(SOURCE)]


def test_what_cannot_be_loaded_stops_the_service_with_the_mend(kernel):
    kernel("", "/bin/false")
    with pytest.raises(EngineUnusable, match=r"cannot be loaded.*apt-get install apparmor"):
        profile_in_force(None)
    kernel("", Path("/nowhere/parser"))
    with pytest.raises(EngineUnusable, match=r"cannot be loaded.*apt-get install apparmor"):
        profile_in_force(None)
    kernel("", "/bin/true")  # says it has, and has not
    with pytest.raises(EngineUnusable, match="no such profile loaded"):
        profile_in_force(None)


def test_our_own_are_loaded_at_each_start_whatever_has_their_names(kernel, tmp_path):
    parser = tmp_path / "parser"
    parser.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    parser.chmod(0o755)
    kernel(LIST, parser)
    load_own(None)
    asked = [line.split()[-1] for line in (tmp_path / "asked").read_text().splitlines()]
    assert asked == [str(PROFILES / "runyard-sandbox"), str(PROFILES / "runyard-template")]


def test_a_profile_of_the_owners_gets_a_template_profile_that_leads_to_it(kernel, tmp_path):
    parser = tmp_path / "parser"
    parser.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncat >> {tmp_path}/text\n')
    parser.chmod(0o755)
    kernel(LIST, parser)
    load_own("mine")
    assert (tmp_path / "asked").read_text().split() == ["--replace"]
    text = (tmp_path / "text").read_text()
    assert "profile runyard-template.mine " in text
    assert re.findall(r"change_profile -> (\S+),", text) == ["mine"]


@pytest.mark.parametrize("parser", ["/bin/false", "/nowhere/parser"])
def test_a_parser_that_fails_stops_the_service_though_a_profile_of_that_name_is_enforced(kernel, parser):
    kernel(LIST, parser)
    with pytest.raises(EngineUnusable, match=r"runyard-sandbox cannot be loaded.*apt-get install apparmor"):
        load_own(None)


@pytest.mark.parametrize(
    ("listed", "words"),
    [("", "is not loaded"), ("runyard-template (complain)\n", "is in complain mode")],
)
def test_a_template_profile_that_is_not_enforced_means_no_templates(kernel, listed, words):
    kernel(LIST + listed)
    with pytest.raises(EngineUnusable, match=f"runyard-template {words}"):
        template_profiles(PROFILE)


def test_under_no_new_privileges_a_template_is_unconfined(kernel, monkeypatch, tmp_path):
    """From a profile of its own the kernel would let no child change to the sandboxes'."""
    kernel(LIST)
    (tmp_path / "status").write_text("Seccomp:\t0\nNoNewPrivs:\t1\nx:\t1\n")
    monkeypatch.setattr(apparmor, "STATUS", tmp_path / "status")
    assert template_profiles(PROFILE) == TemplateProfiles(None, PROFILE)


def test_an_enforced_template_profile_is_taken(kernel):
    kernel(LIST + "runyard-template (enforce)\nrunyard-template.mine (enforce)\n")
    assert template_profiles(PROFILE) == TemplateProfiles("runyard-template", PROFILE)
    assert template_profiles("mine") == TemplateProfiles("runyard-template.mine", "mine")


@pytest.mark.parametrize("name", ["a b", 'x", change_profile -> unconfined,"', "a//b", ""])
def test_a_name_that_could_be_read_as_a_rule_has_no_template(kernel, name):
    kernel(LIST)
    with pytest.raises(EngineUnusable, match="a template needs a name of letters"):
        template_profiles(name)


def test_the_template_profile_executes_nothing_and_leads_to_the_sandboxes_alone():
    text = re.sub(r"#[^\n]*", "", (PROFILES / "runyard-template").read_text())
    rights = re.findall(r"^\s*(?:/|@\{PROC\})\S* ([a-z]+),", text, re.MULTILINE)
    assert len(rights) >= 7
    assert not [given for given in rights if "x" in given]
    assert re.findall(r"change_profile[^,\n]*", text) == ["change_profile -> runyard-sandbox"]
    assert set(re.findall(r"^\s*network (\w+)", text, re.MULTILINE)) == {"unix", "inet"}


@pytest.fixture
def policy(monkeypatch, tmp_path):
    """The kernel's folder of one loaded profile; `policy(mode, hash)` writes it, `policy(None)` removes it."""

    def have(mode, digest="1", kind="sha256"):
        folder = tmp_path / "runyard-sandbox.17"
        shutil.rmtree(folder, ignore_errors=True)
        if mode is not None:
            folder.mkdir()
            for name, text in (("name", "runyard-sandbox"), ("mode", mode), (kind, digest)):
                (folder / name).write_text(text + "\n")

    monkeypatch.setattr(apparmor, "POLICY", tmp_path)
    return have


@pytest.mark.parametrize("kind", ["sha256", "sha1"])
@pytest.mark.parametrize(
    ("now", "words"),
    [
        ((None,), "is no longer loaded"),
        (("complain",), "is in complain mode"),
        (("enforce", "2"), "was replaced by another profile of the same name"),
    ],
)
def test_a_profile_that_changes_while_the_service_runs_is_noticed(policy, kind, now, words):
    policy("enforce", kind=kind)
    watch = ProfileWatch([PROFILE])
    assert watch.watches
    assert watch.problem() is None
    policy(*now, **({"kind": kind} if now[0] else {}))
    assert f"the AppArmor profile runyard-sandbox {words}" in watch.problem()


def test_nothing_is_watched_where_the_kernel_shows_nothing(policy):
    policy(None)
    assert not ProfileWatch([PROFILE]).watches
