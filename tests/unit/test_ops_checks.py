"""What is said of a machine that cannot run sandboxes, before anything is installed on it."""

from __future__ import annotations

import pytest

from ops import checks, fitness, up
from ops.checks import Check
from ops.install import InstallError


@pytest.fixture
def proc(monkeypatch, tmp_path):
    """Files of /proc as another machine has them: `proc({"self/uid_map": …})`."""

    def have(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.setattr(checks, "PROC", tmp_path)

    return have


def found(iterator):
    return {check.name: check for check in iterator}


WHOLE = {"self/uid_map": "         0          0 4294967295\n", "self/status": "CapPrm:\t000001ffffffffff\n"}


def test_root_of_the_machine_itself_has_all_that_it_takes(proc):
    proc(WHOLE)
    assert all(check.ok for check in checks._rights())


def test_a_container_with_a_mapped_root_is_named_with_what_to_do(proc, monkeypatch):
    proc(WHOLE | {"self/uid_map": "         0     100000      65536\n"})
    monkeypatch.setattr(checks, "_container", lambda: "lxc")
    check = found(checks._rights())["root of the machine"]
    assert (check.ok, check.required, check.detail) == (False, True, "in a container (lxc)")
    assert "ENGINE=docker" in check.mend


def test_capabilities_that_a_container_lacks_are_named(proc, monkeypatch):
    proc(WHOLE | {"self/status": "CapPrm:\t00000000a80425fb\n"})  # Docker's default set
    monkeypatch.setattr(checks, "_container", lambda: "docker")
    check = found(checks._rights())["capabilities"]
    assert not check.ok
    assert check.detail == "in a container (docker), without CAP_SYS_PTRACE, CAP_SYS_ADMIN"


def test_debians_switch_for_unprivileged_namespaces_costs_templates_and_is_no_reason_to_stop(proc):
    proc({"sys/kernel/unprivileged_userns_clone": "0\n"})
    check = found(checks._restrictions())["namespaces of templates"]
    assert (check.ok, check.required) == (False, False)
    assert "sysctl kernel.unprivileged_userns_clone=1" in check.mend
    proc({"sys/kernel/unprivileged_userns_clone": "1\n"})
    assert found(checks._restrictions())["namespaces of templates"].ok


def test_ubuntus_bound_is_said_not_to_concern_the_service(proc):
    proc({"sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"})
    check = found(checks._restrictions())["AppArmor's bound on namespaces"]
    assert check.ok
    assert "does not affect the service" in check.detail


def test_a_kernel_without_these_switches_is_not_asked(proc):
    proc({"version": ""})
    assert found(checks._restrictions()) == {}


@pytest.fixture
def unfit(monkeypatch):
    """A machine that lacks two things, without a Docker daemon."""
    lacks = [
        Check("user namespaces", ok=False, detail="kernel", mend="sysctl user.max_user_namespaces=65536"),
        Check("overlay", ok=False, detail="file system", mend="modprobe overlay"),
        Check("Landlock", ok=False, detail="none", mend="a newer kernel", required=False),
        Check("seccomp", ok=True, detail="kernel"),
    ]
    monkeypatch.setattr(fitness.checks, "machine_checks", lambda: iter(lacks))
    monkeypatch.setattr(fitness.containers, "version", lambda: None)
    monkeypatch.setattr(fitness.host, "prepare", lambda: None)


def test_make_up_names_each_thing_that_is_required_and_missing_at_once(unfit, monkeypatch):
    monkeypatch.delenv("ENGINE", raising=False)
    with pytest.raises(InstallError) as raised:
        fitness._check_kernel()
    lines = str(raised.value).splitlines()
    assert lines == [
        "this machine cannot run sandboxes:",
        "    user namespaces: kernel -> sysctl user.max_user_namespaces=65536",
        "    overlay: file system -> modprobe overlay",
    ]


def test_where_a_docker_daemon_can_serve_instead_it_goes_on(unfit, monkeypatch):
    monkeypatch.delenv("ENGINE", raising=False)
    monkeypatch.setattr(fitness.containers, "version", lambda: "Docker 20.10, API 1.41")
    fitness._check_kernel()
    monkeypatch.setenv("ENGINE", "oci")
    with pytest.raises(InstallError):
        fitness._check_kernel()


@pytest.mark.usefixtures("unfit")
def test_an_unfit_machine_is_refused_before_anything_is_installed_or_made(monkeypatch, tmp_path):
    state = tmp_path / "state"
    monkeypatch.setenv("STATE_DIR", str(state))
    monkeypatch.setenv("ENGINE", "oci")
    monkeypatch.setattr(fitness.os, "geteuid", lambda: 0)
    monkeypatch.setattr(fitness.platform, "machine", lambda: "x86_64")
    for name in ("missing_packages", "install_packages", "make_venv", "install_service"):
        monkeypatch.setattr(up.install, name, lambda *_, name=name: pytest.fail(f"{name} was called"))
    with pytest.raises(InstallError, match="this machine cannot run sandboxes"):
        up.Up().run()
    assert not state.exists()
