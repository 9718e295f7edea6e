"""The AppArmor profile compiles, by the very program that loads it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from sandbox.engines.apparmor import PROFILE, SOURCE


def compiled(path, *options):
    if shutil.which("apparmor_parser") is None:
        pytest.fail("apparmor_parser is missing: make test-setup installs it")
    argv = ["apparmor_parser", "--skip-kernel-load", "--skip-cache", *options, str(path)]
    return subprocess.run(argv, capture_output=True, timeout=60, check=False)


def test_the_profile_compiles_without_a_warning():
    """For a kernel with the features that the profile is written for, whatever this one has."""
    features = "/etc/apparmor.d/abi/3.0"
    done = compiled(SOURCE, "--Werror", f"--policy-features={features}", f"--kernel-features={features}")
    assert (done.returncode, done.stderr) == (0, b"")


def test_it_is_the_one_that_is_asked_for_and_is_enforced():
    assert compiled(SOURCE, "--names").stdout.decode().split() == [PROFILE]
    made = compiled(SOURCE, "--stdout")
    assert made.returncode == 0
    assert PROFILE.encode() in made.stdout
    assert b"complain" not in SOURCE.read_bytes()


def test_a_profile_with_a_mistake_does_not_compile(tmp_path):
    broken = tmp_path / PROFILE
    broken.write_text(SOURCE.read_text().replace("deny mount,", "deny mounting,"))
    assert compiled(broken).returncode != 0
