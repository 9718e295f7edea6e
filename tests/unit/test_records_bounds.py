"""The bytes of ended runs that each owner may keep: by a stored key's plan, by that of addresses, or without bound."""

from __future__ import annotations

from types import SimpleNamespace

from api.keys.anonymous import anonymous_id, is_anonymous_id
from api.keys.plans import load_plans
from api.runs.mount import policy_of
from config.ids import new_id
from config.settings import Settings

FILE = """
[free]
rate_per_minute = 1
burst = 1
records_mb = 3
[open]
rate_per_minute = 1
burst = 1
"""
ANONYMOUS = "[anonymous]\nrate_per_minute = 1\nburst = 1\nrecords_mb = 2\n"


def policy(tmp_path, text):
    path = tmp_path / "plans.toml"
    path.write_text(text)
    plans = load_plans(Settings(plans_file=path))
    stored = {"key_of_free": "free", "key_of_open": "open", "key_of_lost": "lost", anonymous_id("stored"): "open"}
    keys = SimpleNamespace(get=lambda owner: SimpleNamespace(plan=stored[owner]) if owner in stored else None)
    return policy_of(Settings(), plans, keys)


def test_each_owner_has_the_bound_of_its_plan(tmp_path):
    found = policy(tmp_path, FILE + ANONYMOUS)
    assert found.least_key_bytes == 2 * 2**20
    assert found.key_bytes("key_of_free") == 3 * 2**20
    assert found.key_bytes("key_of_open") is found.key_bytes("key_of_lost") is None
    assert found.key_bytes("key_static") is None
    assert found.key_bytes(anonymous_id("203.0.113.9")) == 2 * 2**20
    # A stored key is one, whatever its id looks like.
    assert found.key_bytes(anonymous_id("stored")) is None


def test_without_the_plan_an_address_has_no_bound_of_its_own(tmp_path):
    assert policy(tmp_path, FILE).key_bytes(anonymous_id("203.0.113.9")) is None


def test_an_address_has_an_id_that_is_no_keys_and_does_not_tell_it():
    assert anonymous_id("203.0.113.9") != anonymous_id("203.0.113.8")
    assert anonymous_id("203.0.113.9") == anonymous_id("203.0.113.9")
    assert "203" not in anonymous_id("203.0.113.9")[:15]
    assert is_anonymous_id(anonymous_id(""))
    assert not any(is_anonymous_id(new_id("key")) for _ in range(1000))
