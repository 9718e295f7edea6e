"""Slots are waited for while the dead still hold theirs."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import threading

import pytest

from sandbox.engines import EngineError
from sandbox.engines.oci import slots as module
from sandbox.engines.oci.namespace_maker import NamespaceMaker
from sandbox.engines.oci.slots import Slots

BASE = 0x7A00_0000


@pytest.fixture
def slots(monkeypatch):
    """Two of them, without their namespaces: those take root."""
    monkeypatch.setattr(module, "make_user_namespace", lambda _owner, _mapping: -1)
    return Slots(BASE, 2)


def test_a_slot_is_nobody_elses_until_it_is_given_back(slots):
    first, second = slots.take(), slots.take()
    assert first.first_uid != second.first_uid
    slots.release(first)
    assert slots.take() is first


def test_a_slot_that_is_given_back_in_time_was_worth_the_wait(slots):
    first, _ = slots.take(), slots.take()
    threading.Timer(0.2, slots.release, [first]).start()
    assert slots.take() is first


def test_none_that_comes_free_is_an_error(slots, monkeypatch):
    monkeypatch.setattr(module, "SLOT_WAIT_S", 0.05)
    slots.take(), slots.take()
    with pytest.raises(EngineError, match="no free slot"):
        slots.take()


# -- slots that are made later -----------------------------------------------------------------------

NS_GET_OWNER_UID = 0xB704
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="user namespaces of other owners take root")


class FakeMaker:
    """Makes descriptors out of numbers, or fails."""

    def __init__(self):
        self.made = []
        self.fails = False

    def make(self, owner, mapping):
        if self.fails:
            raise EngineError("no more")
        self.made.append((owner, mapping))
        return -1


def test_slots_beyond_the_first_are_made_before_they_are_needed_and_no_more_than_may_be(monkeypatch):
    maker = FakeMaker()
    monkeypatch.setattr(module, "make_user_namespace", lambda _owner, _mapping: -1)
    monkeypatch.setattr(module, "NamespaceMaker", lambda: maker)
    monkeypatch.setattr(module, "MADE_AT_START", 2)
    monkeypatch.setattr(module, "AHEAD", 1)
    monkeypatch.setattr(module, "SLOT_WAIT_S", 0.2)
    slots = Slots(BASE, 5)
    assert maker.made == []
    first, second, third = (slots.take() for _ in range(3))
    assert maker.made[0] == (BASE + 3 * 65_536, [(0, BASE + 3 * 65_536, 65_536)])
    assert [slot.number for slot in (first, second, third)] == [0, 1, 2]
    assert [slots.take().number for _ in range(2)] == [3, 4]
    with pytest.raises(EngineError, match="no free slot"):
        slots.take()
    assert len(maker.made) == 3
    slots.release(second)
    assert slots.take() is second


def test_a_slot_that_cannot_be_made_is_tried_again(monkeypatch):
    maker = FakeMaker()
    maker.fails = True
    monkeypatch.setattr(module, "make_user_namespace", lambda _owner, _mapping: -1)
    monkeypatch.setattr(module, "NamespaceMaker", lambda: maker)
    monkeypatch.setattr(module, "MADE_AT_START", 1)
    monkeypatch.setattr(module, "SLOT_WAIT_S", 0.2)
    slots = Slots(BASE, 3)
    assert slots.take().number == 0
    with pytest.raises(EngineError, match="no free slot"):
        slots.take()
    maker.fails = False
    assert [slots.take().number for _ in range(2)] == [1, 2]


@pytest.fixture
def maker():
    made = NamespaceMaker()
    yield made
    made.close()
    os.waitpid(made.pid, 0)


@needs_root
def test_a_namespace_is_its_slots_own_and_maps_its_range(maker):
    made = [maker.make(BASE + n * 65_536, [(0, BASE + n * 65_536, 65_536)]) for n in range(3)]
    for n, fd in enumerate(made):
        owner = fcntl.ioctl(fd, NS_GET_OWNER_UID, bytes(4))
        assert struct.unpack("I", owner)[0] == BASE + n * 65_536
        shown = subprocess.run(
            ["nsenter", f"--user=/proc/self/fd/{fd}", "cat", "/proc/self/uid_map"],
            pass_fds=(fd,), capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert shown.stdout.split() == ["0", str(BASE + n * 65_536), "65536"]
        os.close(fd)


@needs_root
def test_what_cannot_be_made_is_an_error_and_the_next_one_can(maker):
    with pytest.raises(EngineError, match="Invalid argument"):
        maker.make(BASE, [(0, BASE, 0)])
    os.close(maker.make(BASE, [(0, BASE, 1)]))


@needs_root
def test_the_process_holds_nothing_of_the_workers_and_ends_with_it():
    with open("/dev/zero") as other:
        assert other.fileno() > 2
        made = NamespaceMaker()
        namespace = made.make(BASE, [(0, BASE, 1)])
        # A runtime that inherited it would keep it for as long as its sandbox lives.
        assert not os.get_inheritable(namespace)
        os.close(namespace)
        held = {os.readlink(f"/proc/{made.pid}/fd/{name}") for name in os.listdir(f"/proc/{made.pid}/fd")}
    assert "/dev/zero" not in held
    assert sum(name.startswith("socket:") for name in held) <= 1 + 2  # its own, and what stdout and stderr may be
    made.close()
    assert os.waitpid(made.pid, 0)[1] == 0
    with pytest.raises(EngineError):
        made.make(BASE, [(0, BASE, 1)])
