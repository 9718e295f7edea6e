"""The watch over live sessions: what is counted of them and when, and whose are ended."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace

import orjson
import pytest

from api.sessions import watch as watch_module
from api.sessions.watch import SessionWatch
from records.sessions import StoredSession
from records.usage import SessionUsed


def stored(name, owner):
    return StoredSession(f"sess_{name}", owner, None, "bash", 0, None, b"{}", b"")


class World:
    """A worker, its sessions and their keys, with what was asked of them."""

    def __init__(self, **owners):
        self.records = {name: stored(name, owner) for name, owner in owners.items()}
        self.used = {record.id: SessionUsed() for record in self.records.values()}
        self.counted, self.ends = [], []
        self.adoptions = 0
        self.stored_keys = {}
        plans = SimpleNamespace(get=lambda _name: None)
        self.watch = SessionWatch(self, self, self, SimpleNamespace(get=self.stored_keys.get), plans)

    def key(self, owner, *, disabled=False, revoked_at_ms=None):
        self.stored_keys[owner] = SimpleNamespace(plan="p", disabled=disabled, revoked_at_ms=revoked_at_ms)

    # as the store of sessions
    def adopt(self):
        self.adoptions += 1
        return 0

    def live(self):
        return tuple(record for record in self.records.values() if record.id in self.used and not record.ended)

    def find(self, session_id):
        return next((record for record in self.records.values() if record.id == session_id), None)

    def count(self, uses, _at_ms):
        self.counted.append({use.id: use.used for use in uses})

    # as both
    def end(self, session_id, *rest):
        if len(rest) == 2:  # the worker
            self.ends.append((session_id, rest[1]))
            facts = self.facts(session_id) | {"end_reason": rest[1]}
            del self.used[session_id]
            return facts
        return True

    # as the worker
    def facts(self, session_id):
        used = self.used[session_id]
        usage = {"cpu_ms": used.cpu_ms, "egress_bytes": used.egress_bytes}
        return {
            "id": session_id, "awake_ms": used.awake_ms, "charged_mb_ms": used.memory_mb_ms, "usage": usage, "end_reason": None,
        }  # fmt: skip

    def all_facts(self):
        return [self.facts(name) for name in self.used]

    def look(self, times=watch_module.COUNT_EVERY):
        for _ in range(times):
            self.watch._look()


@pytest.fixture
def clock(monkeypatch):
    found = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: found[0])
    return found


def test_sessions_of_disabled_and_revoked_keys_are_killed_and_static_keys_are_not_stored():
    world = World(a="key_good", b="key_disabled", c="key_revoked", d="static")
    world.key("key_good")
    world.key("key_disabled", disabled=True)
    world.key("key_revoked", revoked_at_ms=5)
    world.look(1)
    assert sorted(world.ends) == [("sess_b", "killed"), ("sess_c", "killed")]
    world.look(1)
    assert len(world.ends) == 2


@pytest.mark.parametrize("others", [{}, {"b": "static"}])
def test_a_session_that_was_given_up_is_ended_at_its_worker(others):
    world = World(a="static", **others)
    world.records["a"] = replace(world.records["a"], ended_at_ms=5)
    world.used["sess_unknown"] = SessionUsed()  # of a record that is about to be written, or another's
    world.look(watch_module.STRAYS_EVERY)
    assert world.ends == [("sess_a", "killed")]


def test_an_instance_that_is_alone_adopts_what_an_earlier_one_has_left_and_others_go_on_to():
    world = World(a="static")
    world.look(3)
    assert world.adoptions == 1
    world.watch._instances = True
    world.look(3)
    assert world.adoptions == 4


def test_what_was_used_is_counted_when_it_has_changed(clock):
    world = World(a="static")
    world.used["sess_a"] = SessionUsed(10, 1, 100, 0)
    world.look()
    world.look()
    assert world.counted == [{"sess_a": SessionUsed(10, 1, 100, 0)}]
    world.used["sess_a"] = SessionUsed(10, 1, 100, 7)
    world.look()
    assert world.counted[1:] == [{"sess_a": SessionUsed(10, 1, 100, 7)}]


def test_memory_of_sessions_at_rest_is_counted_now_and_then(clock):
    world = World(a="static")
    world.look()
    for _ in range(10):
        clock[0] += watch_module.COUNT_AT_REST_S / 10 - 1
        world.used["sess_a"] = world.used["sess_a"]._replace(memory_mb_ms=world.used["sess_a"].memory_mb_ms + 5)
        world.look()
    assert len(world.counted) == 1
    clock[0] += 20
    world.look()
    assert world.counted[1:] == [{"sess_a": SessionUsed(0, 0, 50, 0)}]


def test_a_session_that_waits_for_its_packages_is_not_given_up():
    world = World(a="k", b="k")
    moment = time.time() * 1000
    waiting = orjson.dumps({"packages": ["numpy"]})
    world.records = {
        "a": replace(stored("a", "k"), created_at_ms=round(moment - 100_000), document=waiting),
        "b": replace(stored("b", "k"), created_at_ms=round(moment - 100_000)),
        "c": replace(stored("c", "k"), created_at_ms=round(moment - 100_000), document=waiting, facts=b"{}"),
        "d": replace(stored("d", "k"), created_at_ms=round(moment - 300_000), document=waiting),
    }
    lost = []
    world.live = lambda: tuple(world.records.values())
    world.all_facts, world.facts = list, lambda _name: None
    world.end = lambda name, *_rest: lost.append(name)
    world.watch._look()
    assert lost == ["sess_b", "sess_c", "sess_d"]
