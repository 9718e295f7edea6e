"""The profile against the program that is compiled of it: every rule, and every argument with each bit flipped."""

from __future__ import annotations

import errno
import json

import pytest

from sandbox.engines.confinement import PROFILES
from tests.support.seccomp_cases import CLONE_NAMESPACES, GIVEN, REFUSED, flipped
from tests.support.seccomp_filter import (
    AARCH64,
    ALLOW,
    ERRNO,
    I386,
    X32,
    Filter,
    all_calls,
    compile_profile,
    known_to_the_library,
    number_of,
    wanted,
)

PROFILE = json.loads((PROFILES / "default.json").read_text())
DEFAULT = ERRNO | errno.ENOSYS
NAMES = sorted({name for rule in PROFILE["syscalls"] for name in rule["names"]})
FLIPPED = flipped(PROFILE)


@pytest.fixture(scope="module")
def compiled():
    return Filter(compile_profile(PROFILE))


def test_what_is_not_named_does_not_exist(compiled):
    assert (PROFILE["defaultAction"], PROFILE["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", errno.ENOSYS)
    unnamed = [number for name, number in all_calls().items() if name not in NAMES]
    assert len(unnamed) > 10
    for number in [*unnamed, *range(470, 600), 1 << 20, 0x3FFF_FFFF]:
        assert compiled(number) == DEFAULT, number


@pytest.mark.parametrize("name", NAMES)
def test_a_named_call_gets_what_the_profile_says(compiled, name):
    """Unknown names are ignored without a word, so that what counts is the effect."""
    number = number_of(name)
    if number is None:
        assert name not in all_calls()
        return
    expected = wanted(PROFILE, name) if known_to_the_library(name) is not None else DEFAULT
    assert compiled(number) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_name_stands_once_or_with_arguments_that_tell_its_rules_apart(name):
    rules = [rule for rule in PROFILE["syscalls"] if name in rule["names"]]
    assert len(rules) == 1 or all(rule.get("args") for rule in rules)


def test_nothing_is_killed_and_no_rule_is_a_range():
    assert {rule["action"] for rule in PROFILE["syscalls"]} == {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"}
    operators = {a["op"] for rule in PROFILE["syscalls"] for a in rule.get("args") or []}
    assert operators <= {"SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"}
    # Docker 20.10 drops defaultErrnoRet: what must be ENOSYS for a library to fall back is said by name.
    assert {"clone3", "io_uring_setup", "memfd_secret"} <= {
        name for rule in PROFILE["syscalls"] if rule.get("errnoRet") == errno.ENOSYS for name in rule["names"]
    }


def test_a_flipped_argument_gets_what_the_profile_says(compiled):
    wrong = [
        (name, arguments)
        for name, arguments in FLIPPED
        if compiled(number_of(name), *arguments) != wanted(PROFILE, name, *arguments)
    ]
    assert wrong == []


def test_every_argument_of_every_rule_is_flipped():
    ruled = {name for rule in PROFILE["syscalls"] if rule.get("args") for name in rule["names"]}
    calls = "clone socket socketpair personality mknod mknodat setsockopt getsockopt ioctl prctl fcntl mmap memfd_create"
    assert ruled == set(calls.split())
    for name in ruled:
        assert sum(found == name for found, _ in FLIPPED) >= 64


@pytest.mark.parametrize(("name", "arguments"), GIVEN, ids=lambda value: str(value)[:60])
def test_what_programs_need(compiled, name, arguments):
    assert compiled(number_of(name), *arguments) == ALLOW


@pytest.mark.parametrize(("name", "arguments", "number"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_no_program_gets(compiled, name, arguments, number):
    assert compiled(number_of(name), *arguments) == ERRNO | number


@pytest.mark.parametrize("flag", CLONE_NAMESPACES.values(), ids=CLONE_NAMESPACES)
def test_no_namespace_comes_of_clone(compiled, flag):
    for others in (0, 0x11, 0x3D0F00, 0xFFFF_FFFF_0000_0000):
        assert compiled(number_of("clone"), flag | others) != ALLOW


@pytest.mark.parametrize("arch", [I386, AARCH64, 0, 0xFFFF_FFFF])
def test_no_other_architectures_calls_are_answered(compiled, arch):
    """32-bit calls have other numbers for the same things: 11 is execve there and munmap here."""
    for number in [*range(0, 470, 7), 11, 102, 120, 310]:
        assert compiled(number, arch=arch) != ALLOW


def test_x32_calls_are_not_answered(compiled):
    for number in [*all_calls().values(), *range(512, 550)]:
        assert compiled(X32 | number) != ALLOW
        assert compiled(X32 | number - (1 << 31)) != ALLOW
