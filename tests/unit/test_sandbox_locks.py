"""The watch on file locks, on files that stand in for the kernel's."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from sandbox.engines import EngineError
from sandbox.engines.pid1_status import ProcessView
from sandbox.lock_watch import MOST_NEW, MOST_OF_A_RUN, SHARED_WEIGHT, LockWatch, shared_inodes


class Box:
    """A sandbox with these processes; None: it has ended."""

    def __init__(self, name, pids):
        self.id, self.pids, self.killed = name, pids, False

    def process_view(self):
        if self.pids is None:
            raise EngineError("gone")
        return ProcessView(self.pids[0], tuple(self.pids), None)

    def kill(self):
        self.killed = True


@pytest.fixture
def kernel(tmp_path):
    """What sets the kernel's files: so many objects, and the locks of each pid."""
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nSUnreclaim:      1000 kB\n")

    def put(objects, locks, inode="00:01:1"):
        if objects is None:
            (tmp_path / "objects").unlink(missing_ok=True)
        else:
            (tmp_path / "objects").write_text(f"{objects} N0={objects}\n")
        lines = [
            f"{n}: {'-> ' if n % 5 == 0 else ''}POSIX  ADVISORY  WRITE {pid} {inode} {n} {n}"
            for pid, count in locks.items()
            for n in range(count)
        ]
        (tmp_path / "locks").write_text("\n".join(lines) + "\n")

    put(100, {})
    put.proc = tmp_path
    put.watch = LockWatch(tmp_path, tmp_path / "objects")
    put.watch._floor = put.watch.count()
    return put


def test_who_holds_thousands_when_there_are_many_new_ones_is_killed(kernel):
    guilty, other, gone = Box("a", [10, 11]), Box("b", [12]), Box("c", None)
    with kernel.watch.over(guilty), kernel.watch.over(other), kernel.watch.over(gone):
        kernel(100 + MOST_NEW, {10: 1500, 11: 1500, 12: MOST_OF_A_RUN - 1, 1: 9})
        assert kernel.watch.look() == ["a"]
    assert (guilty.killed, other.killed) == (True, False)
    assert kernel.watch.look() == []  # its run is over


@pytest.mark.parametrize("inode", sorted(shared_inodes()))
def test_a_few_on_an_inode_of_the_whole_machine_are_enough(kernel, inode):
    """They slow down the close of every such descriptor on the machine."""
    guilty, other = Box("a", [10]), Box("b", [11])
    with kernel.watch.over(guilty), kernel.watch.over(other):
        kernel(100 + MOST_NEW, {10: MOST_OF_A_RUN // SHARED_WEIGHT + 1, 11: 9}, inode.decode())
        assert kernel.watch.look() == ["a"]
    assert not other.killed


def test_the_inodes_of_the_whole_machine_are_those_that_the_kernel_lists():
    fd = os.eventfd(0)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX, 1, 7)
        mine = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        assert shared_inodes() & {words[5].encode() for words in mine if words[4] == str(os.getpid())}
    finally:
        os.close(fd)


def test_nobody_is_looked_for_while_there_are_few(kernel):
    box = Box("a", [10])
    with kernel.watch.over(box):
        kernel(99 + MOST_NEW, {10: 5000})
        assert kernel.watch.look() == []
    assert not box.killed


def test_what_is_nobodys_is_not_looked_for_again_until_it_has_grown(kernel):
    box = Box("a", [10])
    with kernel.watch.over(box):
        kernel(50_000, {1: 5000})
        assert kernel.watch.look() == []
        kernel(50_000, {10: 5000})
        assert kernel.watch.look() == []
        kernel(50_000 + MOST_NEW, {10: 5000})
        assert kernel.watch.look() == ["a"]


def test_locks_whose_maker_is_gone_are_found_by_descriptors(kernel):
    box, other = Box("a", [10]), Box("b", [11])
    for pid, count in ((10, 700), (11, 1)):
        folder = kernel.proc / str(pid) / "fdinfo"
        folder.mkdir(parents=True)
        for fd in range(4):
            (folder / str(fd)).write_text("pos:\t0\n" + "lock:\t1: POSIX  ADVISORY  WRITE 9 00:01:1 0 0\n" * count)
    with kernel.watch.over(box), kernel.watch.over(other):
        kernel(100 + MOST_NEW, {9: 3000})
        assert kernel.watch.look() == ["a"]
    assert not other.killed


def test_a_kernel_that_does_not_tell_their_number_is_asked_for_its_memory(kernel):
    kernel(None, {})
    assert kernel.watch.count() == 1000 * 1024 // 192
