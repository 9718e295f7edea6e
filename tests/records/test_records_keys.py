"""Stored keys: found by digest while they are good; every change is written down with it."""

from __future__ import annotations

import hashlib
import json

import pytest

from records.errors import UnknownCursor
from records.keys import Actor, NewKey
from tests.records.builders import NOW_MS, unique

ADMIN = Actor("admin", NOW_MS)
HOUR_MS = 3_600_000


def digest(text):
    return hashlib.sha256(text.encode()).digest()


def new_key(token, **fields):
    given = {"id": unique("key"), "digest": digest(token), "prefix": "ry_abcd", "plan": "free"}
    return NewKey(**(given | {"created_at_ms": NOW_MS, "label": "it\0s"} | fields))


def test_a_key_is_found_by_its_digest_and_by_nothing_else(records):
    token = unique("ry")
    made = records.keys.create(new_key(token), ADMIN)
    assert (made.plan, made.label, made.disabled, made.revoked_at_ms) == ("free", "it\0s", False, None)
    assert records.keys.find(digest(token)) == made
    assert records.keys.get(made.id) == made
    for other in (digest("other"), b"", token.encode(), b"\0" * 32):
        assert records.keys.find(other) is None


def test_a_rotated_key_is_good_with_both_until_the_grace_ends(records, clock):
    first, second, third = unique("ry"), unique("ry"), unique("ry")
    made = records.keys.create(new_key(first), ADMIN)
    until = clock.now_ms + HOUR_MS
    turned = records.keys.rotate(made.id, ADMIN, digest=digest(second), prefix="ry_new", previous_until_ms=until)
    assert (turned.id, turned.prefix, turned.previous_until_ms) == (made.id, "ry_new", until)
    assert records.keys.find(digest(first)).id == records.keys.find(digest(second)).id == made.id
    clock.now_ms = until
    assert records.keys.find(digest(first)) is None
    assert records.keys.find(digest(second)).id == made.id
    clock.now_ms = NOW_MS
    records.keys.rotate(made.id, ADMIN, digest=digest(third), prefix="ry_3", previous_until_ms=until)
    assert records.keys.find(digest(first)) is None
    assert records.keys.find(digest(second)).id == records.keys.find(digest(third)).id == made.id


def test_a_revoked_key_is_good_no_more_in_any_form(records):
    first, second = unique("ry"), unique("ry")
    made = records.keys.create(new_key(first), ADMIN)
    rotation = {"digest": digest(second), "prefix": "p", "previous_until_ms": NOW_MS + HOUR_MS}
    records.keys.rotate(made.id, ADMIN, **rotation)
    assert records.keys.revoke(made.id, ADMIN)
    assert records.keys.find(digest(first)) is None
    assert records.keys.find(digest(second)) is None
    assert not records.keys.revoke(made.id, ADMIN)
    assert records.keys.rotate(made.id, ADMIN, **rotation | {"digest": digest(unique("ry"))}) is None
    assert records.keys.update(made.id, ADMIN, disabled=False) is None
    assert records.keys.get(made.id).revoked_at_ms == NOW_MS


def test_plan_and_disabled_change_alone_and_together(records):
    made = records.keys.create(new_key(unique("ry")), ADMIN)
    assert records.keys.update(made.id, ADMIN, disabled=True).disabled
    changed = records.keys.update(made.id, ADMIN, plan="pro")
    assert (changed.plan, changed.disabled) == ("pro", True)
    changed = records.keys.update(made.id, ADMIN, plan="free", disabled=False)
    assert (changed.plan, changed.disabled) == ("free", False)
    assert records.keys.update(made.id, ADMIN) == changed
    assert records.keys.update("key_unknown", ADMIN, plan="pro") is None


def test_the_trail_has_every_change_and_no_digest(records):
    made = records.keys.create(new_key(unique("ry")), Actor("192.0.2.1", NOW_MS))
    records.keys.update(made.id, Actor("admin", NOW_MS + 1), plan="pro")
    records.keys.update("key_unknown", ADMIN, plan="pro")
    records.keys.revoke(made.id, Actor(made.id, NOW_MS + 2))
    entries = records.keys.audit(limit=10, subject=made.id).items
    assert [(entry.action, entry.actor, entry.at_ms) for entry in entries] == [
        ("key.revoke", made.id, NOW_MS + 2),
        ("key.update", "admin", NOW_MS + 1),
        ("key.create", "192.0.2.1", NOW_MS),
    ]
    assert json.loads(entries[1].detail) == {"plan": "pro"}
    assert records.keys.audit(limit=10, subject="key_unknown").items == ()


def test_lists_are_paged_newest_first(own_records):
    keys = own_records.keys
    made = [keys.create(new_key(unique("ry")), ADMIN).id for _ in range(5)]
    page = keys.list(limit=3)
    assert ([key.id for key in page.items], page.has_more) == (made[:1:-1], True)
    page = keys.list(limit=3, after=page.items[-1].id)
    assert ([key.id for key in page.items], page.has_more) == (made[1::-1], False)
    trail = keys.audit(limit=4)
    rest = keys.audit(limit=4, after=trail.items[-1].id)
    assert [entry.subject for entry in (*trail.items, *rest.items)] == made[::-1]
    for cursor in ("", "x", "-1", "1" * 30, "\0"):
        with pytest.raises(UnknownCursor):
            keys.audit(limit=1, after=cursor)
    with pytest.raises(UnknownCursor):
        keys.list(limit=1, after="key_unknown")
