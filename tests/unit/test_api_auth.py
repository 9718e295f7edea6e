"""Tokens: every malformed one is a 401 that says so, and none is told from another by its wording."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import ApiError
from api.keys.authentication import REMEMBERED, AdminAuthenticator, Authenticator
from api.keys.key_format import digest, new_key_text
from api.keys.plans import load_plans
from api.keys.service import KeyService
from api.keys.static_keys import static_callers
from config.settings import Settings
from config.static_keys import ApiKey, parse_api_keys
from records import migrate, open_records
from records.keys import Actor, NewKey

KEYS = (ApiKey("dev_123", "dev", 1000, 1000), ApiKey("other-token", "other", 1, 1))
PLANS = load_plans(Settings())


class Counting:
    """The key store, and how often it was asked."""

    def __init__(self, keys):
        self._keys = keys
        self.asked = 0

    def find(self, given):
        self.asked += 1
        return self._keys.find(given)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('db')}/db.sqlite"
    migrate(url)
    opened = open_records(url)
    yield opened
    opened.close()


@pytest.fixture
def store(records):
    return Counting(records.keys)


@pytest.fixture
def keyring(records):
    return KeyService(records.keys, records.usage, PLANS)


@pytest.fixture(scope="module")
def static(records):
    return static_callers(KEYS, records.tenants)


@pytest.fixture
def authenticator(static, store):
    return Authenticator(static, store, PLANS)


def refused(authenticator, header, **options):
    with pytest.raises(ApiError) as caught:
        authenticator.authenticate(header, **options)
    return caught.value


@pytest.mark.parametrize("header", ["Bearer dev_123", "bearer dev_123", "BEARER  dev_123", "Bearer dev_123 "])
def test_known(authenticator, store, header):
    assert authenticator.authenticate(header).label == "dev"
    assert store.asked == 0


MALFORMED = [
    (None, "missing_token"),
    ("", "missing_token"),
    ("Bearer", "malformed_token"),
    ("Bearer ", "malformed_token"),
    ("dev_123", "malformed_token"),
    ("Basic dev_123", "malformed_token"),
    ("Bearer a b", "malformed_token"),
    ("Bearer dev_12", "invalid_token"),
    ("Bearer dev_1234", "invalid_token"),
    ("Bearer DEV_123", "invalid_token"),
    ("Bearer é\xff", "invalid_token"),
    ("Bearer \ud800", "invalid_token"),
    ("Bearer " + "x" * 1_000_000, "invalid_token"),
    ("Bearer dev_123\0", "invalid_token"),
    ("Bearer ry_" + "a" * 38, "invalid_token"),
    ("Bearer ry_" + "a" * 1_000_000, "invalid_token"),
    ("Bearer sk-proj-" + "a" * 40, "invalid_token"),
    ("Bearer ghp_" + "a" * 36, "invalid_token"),
]


@pytest.mark.parametrize(("header", "code"), MALFORMED)
def test_refused_without_a_look_at_the_database(authenticator, store, header, code):
    e = refused(authenticator, header)
    assert (e.status, e.error.code) == (401, code)
    assert e.headers["WWW-Authenticate"].startswith("Bearer")
    assert "dev_123" not in e.error.message
    assert store.asked == 0


@pytest.mark.parametrize(("header", "code"), MALFORMED)
def test_the_admin_token_is_read_the_same_way(header, code):
    for administrator in (AdminAuthenticator("an-admin-token-1"),):
        with pytest.raises(ApiError) as caught:
            administrator.check(header)
        assert (caught.value.status, caught.value.error.code) == (401, code)


def test_the_admin_token():
    AdminAuthenticator("an-admin-token-1").check("Bearer an-admin-token-1")
    with pytest.raises(ApiError):
        AdminAuthenticator("a" * 16).check("Bearer " + "a" * 15)
    for header in (None, "", "Bearer an-admin-token-1", "nonsense"):
        with pytest.raises(ApiError) as off:
            AdminAuthenticator(None).check(header)
        assert (off.value.status, off.value.error.code) == (403, "admin_off")


@given(header=st.text())
def test_no_text_is_a_token_or_an_accident(records, static, header):
    assert refused(Authenticator(static, records.keys, PLANS), header).status == 401


def test_a_label_is_one_owner_whatever_its_tokens(authenticator, records):
    first = authenticator.authenticate("Bearer dev_123")
    second = authenticator.authenticate("Bearer other-token")
    assert first.id != second.id
    assert "dev_123" not in first.id
    assert (first.plan, first.stored) == (None, None)
    rotated = static_callers(parse_api_keys("new:dev:1000:1000,old:dev"), records.tenants)
    both = [Authenticator(rotated, records.keys, PLANS).authenticate(f"Bearer {token}") for token in ("new", "old")]
    assert [(caller.id, caller.runs) for caller in both] == [(first.id, first.runs)] * 2


def test_an_entry_without_a_label_is_its_token(records):
    def of(text):
        return [caller.id for _, caller in static_callers(parse_api_keys(text), records.tenants)]

    one, two = of("lone-1,lone-2")
    assert one != two
    assert of("lone-2,lone-1") == [two, one], "not its number"
    assert of("lone-1:key1") != [one], "a label that looks like the name of an entry is a label"


def test_no_key_no_entry(records):
    refused(Authenticator((), records.keys, PLANS), "Bearer dev_123")


def test_reading_and_running_have_buckets_of_their_own(authenticator):
    caller = authenticator.authenticate("Bearer other-token")
    assert (caller.runs.rate, caller.runs.burst) == (1, 1)
    assert (caller.reads.rate, caller.reads.burst) == (10, 10)


def test_a_stored_key_is_what_its_row_says_at_each_request(authenticator, keyring):
    made = keyring.make("free", "test", label="ci")
    header = f"Bearer {made.text}"
    caller = authenticator.authenticate(header)
    assert (caller.id, caller.label, caller.plan.name) == (made.stored.id, "ci", "free")
    assert caller.runs == PLANS.get("free").bucket
    keyring.change(made.stored.id, "admin", plan="pro", disabled=None)
    assert authenticator.authenticate(header).plan.name == "pro"
    keyring.change(made.stored.id, "admin", plan=None, disabled=True)
    assert refused(authenticator, header).error.code == "disabled_key"
    assert authenticator.authenticate(header, disabled_too=True).stored.disabled
    keyring.change(made.stored.id, "admin", plan=None, disabled=False)
    assert authenticator.authenticate(header).id == made.stored.id
    keyring.revoke(made.stored.id, "admin")
    assert refused(authenticator, header).error.code == "invalid_token"


def test_a_plan_that_is_gone_is_said_and_is_no_401(authenticator, records):
    text = new_key_text()
    now_ms = time.time_ns() // 1_000_000
    new = NewKey("key_" + "p" * 28, digest(text), text[:8], "gone", now_ms)
    records.keys.create(new, Actor("test", now_ms))
    e = refused(authenticator, f"Bearer {text}")
    assert (e.status, e.error.code) == (403, "unknown_plan")


def test_an_invented_key_is_looked_up_once(authenticator, store):
    header = f"Bearer {new_key_text()}"
    for _ in range(5):
        assert refused(authenticator, header).error.code == "invalid_token"
    assert store.asked == 1


def test_a_flood_of_invented_keys_is_not_looked_up_at_all(authenticator, store, keyring):
    made = keyring.make("free", "test")
    authenticator.authenticate(f"Bearer {made.text}")
    asked = store.asked
    for _ in range(100):
        assert refused(authenticator, f"Bearer {new_key_text()}", may_ask=lambda: False).status == 429
    assert store.asked == asked
    caller = authenticator.authenticate(f"Bearer {made.text}", may_ask=lambda: False)
    assert caller.id == made.stored.id, "one that was good before is not locked out by its neighbours"


def test_what_is_remembered_is_bounded(authenticator):
    for number in range(REMEMBERED + 100):
        authenticator._unknown.add(b"%d" % number)
    assert len(authenticator._unknown._digests) == REMEMBERED
    assert b"0" not in authenticator._unknown
