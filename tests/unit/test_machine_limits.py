"""Limits of the machine that are raised at the start, on files that stand in for the kernel's; and lingering groups."""

from __future__ import annotations

import os

import pytest

from sandbox.engines import machine
from sandbox.engines.cgroups.lingering import COUNT_EVERY, MOST_LINGERING, Lingering
from sandbox.engines.cgroups.v1 import directories_beneath


@pytest.fixture
def sysctl(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "SYSCTL", tmp_path)
    for name, text in {
        "fs/file-max": "9223372036854775807",
        "kernel/pid_max": "32768",
        "kernel/threads-max": "190000",
        "net/core/bpf_jit_limit": "528482304",
        "net/ipv4/tcp_mem": "10\t20\t30",
        "net/ipv4/udp_mem": "10 20 99999999",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return lambda name: (tmp_path / name).read_text().strip()


def test_each_limit_holds_what_all_runs_can_take_and_none_is_lowered(sysctl):
    machine.raise_limits(max_runs=64, memory_mb=1024)
    assert sysctl("fs/file-max") == "9223372036854775807"
    assert int(sysctl("kernel/pid_max")) == 64 * 512 + 32_768
    assert sysctl("kernel/threads-max") == "190000"
    assert int(sysctl("net/core/bpf_jit_limit")) == 1 << 30
    assert sysctl("net/ipv4/tcp_mem") == f"10 20 {20 + 128 * 256}"
    assert sysctl("net/ipv4/udp_mem") == "10 20 99999999"


def test_the_first_that_the_kernel_takes_is_kept(sysctl, monkeypatch):
    def write(path, text):
        if int(text) > 600:
            raise OSError(22, "invalid")
        written.append((path.name, text))

    written = []
    monkeypatch.setattr(machine.Path, "write_text", write)
    machine.raise_limit("kernel/pid_max", (99_000, 40_000))
    assert written == []
    monkeypatch.setattr(machine.Path, "read_text", lambda path: "100")
    machine.raise_limit("kernel/pid_max", (99_000, 500))
    assert written == [("pid_max", "500")]


def test_a_kernel_without_a_limit_needs_none(sysctl):
    machine.raise_limit("net/core/none", (1,))
    machine.raise_pages("net/ipv4/none_mem", 1)


@pytest.mark.parametrize("directory", ["/sys/kernel/mm", "/sys/module", "/sys/kernel/mm/transparent_hugepage"])
def test_directories_are_counted_by_their_links(directory):
    """As in a hierarchy of groups, which is a file system of the same kind."""
    assert directories_beneath(directory) == sum(1 for _ in os.walk(directory)) - 1


def test_groups_are_emptied_while_more_than_a_few_linger():
    counts = iter([500, 500 + MOST_LINGERING, 501 + MOST_LINGERING, 500])
    groups = Lingering(lambda: next(counts))
    answers = [groups.empties_next() for _ in range(3 * COUNT_EVERY)]
    assert answers == [False] * (2 * COUNT_EVERY - 1) + [True] * COUNT_EVERY + [False]
