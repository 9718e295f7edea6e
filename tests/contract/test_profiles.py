"""The AppArmor profiles compile, by the very program that loads them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from sandbox.engines.apparmor import PROFILE, PROFILES, SOURCE, TEMPLATE_PROFILE, template_text


def compiled(path, *options):
    if shutil.which("apparmor_parser") is None:
        pytest.fail("apparmor_parser is missing: make test-setup installs it")
    argv = ["apparmor_parser", "--skip-kernel-load", "--skip-cache", *options, str(path)]
    return subprocess.run(argv, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("name", [PROFILE, TEMPLATE_PROFILE])
def test_the_profile_compiles_without_a_warning(name):
    """For a kernel with the features that the profile is written for, whatever this one has."""
    features = "/etc/apparmor.d/abi/3.0"
    done = compiled(PROFILES / name, "--Werror", f"--policy-features={features}", f"--kernel-features={features}")
    assert (done.returncode, done.stderr) == (0, b"")


def test_it_is_the_one_that_is_asked_for_and_is_enforced():
    assert compiled(SOURCE, "--names").stdout.decode().split() == [PROFILE]
    made = compiled(SOURCE, "--stdout")
    assert made.returncode == 0
    assert PROFILE.encode() in made.stdout
    assert b"complain" not in SOURCE.read_bytes()


def test_the_templates_profile_for_a_profile_of_the_owners_compiles(tmp_path):
    text = tmp_path / "profile"
    text.write_text(template_text("mine"))
    assert compiled(text, "--names").stdout.decode().split() == [f"{TEMPLATE_PROFILE}.mine"]


def test_a_profile_with_a_mistake_does_not_compile(tmp_path):
    broken = tmp_path / PROFILE
    broken.write_text(SOURCE.read_text().replace("deny mount,", "deny mounting,"))
    assert compiled(broken).returncode != 0
