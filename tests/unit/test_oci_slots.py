"""Slots are waited for while the dead still hold theirs."""

from __future__ import annotations

import threading

import pytest

from sandbox.engines import EngineError
from sandbox.engines.oci import slots as module
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
    slots.give_back(first)
    assert slots.take() is first


def test_a_slot_that_is_given_back_in_time_was_worth_the_wait(slots):
    first, _ = slots.take(), slots.take()
    threading.Timer(0.2, slots.give_back, [first]).start()
    assert slots.take() is first


def test_none_that_comes_free_is_an_error(slots, monkeypatch):
    monkeypatch.setattr(module, "SLOT_WAIT_S", 0.05)
    slots.take(), slots.take()
    with pytest.raises(EngineError, match="no free slot"):
        slots.take()
