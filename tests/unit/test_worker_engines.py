"""Which engine ENGINE and RUNTIME lead to, and what is said where none can work."""

from __future__ import annotations

import subprocess
import sys

import pytest

from config.settings import Settings, image_overrides
from sandbox.engines import EngineUnusable
from sandbox.engines.cgroups.group import Bounds
from sandbox.engines.docker.engine import _parent, _platform
from sandbox.engines.oci.runsc import best_platform
from sandbox.engines.runtime_features import GVISOR, RuntimeFeatures, features_of
from sandbox.engines.runtimes import RUNTIMES
from sandbox.images import Image, OverriddenImages
from sandbox.languages import Catalogue
from worker import engines


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(engines, "find_runtime", lambda _name: None)


@pytest.fixture
def settings(tmp_path):
    def make(**given):
        return Settings(state_dir=tmp_path, docker_host=f"unix://{tmp_path}/docker.sock", **given)

    return make


def test_auto_takes_oci_where_root_has_a_runtime(monkeypatch):
    monkeypatch.setattr(engines.os, "geteuid", lambda: 0)
    monkeypatch.setattr(engines, "find_runtime", lambda name: "/usr/bin/runc" if name == "runc" else None)
    assert engines.oci_is_possible(None)
    assert engines.oci_is_possible("runc")
    assert not engines.oci_is_possible("runsc")
    monkeypatch.setattr(engines.os, "geteuid", lambda: 1000)
    assert not engines.oci_is_possible(None)


def test_gvisor_is_never_a_silent_choice():
    assert "runsc" not in RUNTIMES


@pytest.mark.usefixtures("nothing_installed")
def test_auto_without_anything_says_what_to_install(settings):
    with pytest.raises(EngineUnusable) as caught:
        engines.open_engine(settings(), Catalogue.load(), slots=1)
    said = str(caught.value)
    assert "apt-get install crun" in said
    assert "apt-get install docker.io" in said


def test_docker_without_a_daemon_does_not_fall_back(settings):
    with pytest.raises(EngineUnusable, match=r"apt-get install docker\.io"):
        engines.open_engine(settings(engine="docker"), Catalogue.load(), slots=1)


def test_overrides_are_named_by_language(monkeypatch):
    monkeypatch.setenv("RUNNER_IMAGE_PYTHON", "/srv/python.tar")
    monkeypatch.setenv("RUNNER_IMAGE_NODE", "")
    assert image_overrides() == {"python": "/srv/python.tar"}


def test_a_given_image_goes_before_the_built_one():
    class Store:
        def get(self, language):
            return Image(language, "sha256:built", ())

    images = OverriddenImages({"bash": Image("bash", "sha256:given", ())}, Store())
    assert images.get("bash").digest == "sha256:given"
    assert images.get("node").digest == "sha256:built"


# -- runtimes ------------------------------------------------------------------------------------------


def test_gvisor_is_lent_what_its_own_kernel_takes():
    held = GVISOR.with_headroom(Bounds(64 << 20, 0.5, 11))
    assert held.memory_bytes > 64 << 20
    assert held.cpus == 0.5
    assert held.pids >= 11 + 128  # below that its own kernel dies
    assert RuntimeFeatures().with_headroom(Bounds(64 << 20, 0.5, 11)) == Bounds(64 << 20, 0.5, 11)
    assert features_of("runsc") is features_of("runsc-systrap") is GVISOR
    assert features_of("runc") == features_of("crun") == RuntimeFeatures()


# As printed by Debian 12's runsc of 2022, and by a current one.
OLD_FLAGS = '  -platform string\n    \tspecifies which platform to use: ptrace (default), kvm. (default "ptrace")\n'
NEW_FLAGS = (
    "  -platform value\n    \tspecifies which platform to use: systrap (default), ptrace, kvm. (default systrap)\n"
)


def test_the_current_platform_is_preferred():
    assert best_platform(OLD_FLAGS) == "ptrace"
    assert best_platform(NEW_FLAGS) == "systrap"


@pytest.mark.parametrize(
    ("arguments", "platform"),
    [
        (("--platform=ptrace", "--network=none"), "ptrace"),
        (("-platform=systrap",), "systrap"),
        (("--network=none",), None),
        ((), None),
    ],
)
def test_the_platform_of_a_daemons_runtime_is_read_from_its_arguments(arguments, platform):
    assert _platform(arguments) == platform


def test_containers_lie_beneath_a_group_of_the_service():
    assert _parent("runyard-0a1b2c3d", "cgroupfs") == "/runyard-0a1b2c3d"
    assert _parent("runyard-0a1b2c3d", "systemd") == "runyard_0a1b2c3d.slice"  # a dash would nest


def test_the_sdk_is_not_loaded_where_it_is_not_used():
    code = "import sys, worker.__main__, sandbox.engines.oci.engine; sys.exit('docker' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
