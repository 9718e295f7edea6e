"""The settings table: what is taken, and what is refused by name."""

from __future__ import annotations

import pytest

from config.settings import DOCUMENT_PLACES, SettingsError, load_settings
from config.static_keys import parse_api_keys


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in (
        "API_KEYS",
        "PORT",
        "BIND",
        "RUNYARD_ENV",
        "STATE_DIR",
        "ENGINE",
        "ALLOW_INSECURE_BIND",
        "DATABASE_URL",
        "SELF_SERVICE_KEYS",
        "API_PROCESSES",
        "RATELIMIT_URL",
        "TRUSTED_PROXIES",
        "ADMIN_TOKEN",
    ):
        monkeypatch.delenv(name, raising=False)


def test_development_has_the_development_token_and_production_has_none(monkeypatch):
    assert load_settings().keys() == ()
    monkeypatch.setenv("RUNYARD_ENV", "development")
    (key,) = load_settings().keys()
    assert key.token == "dev_123"


def test_given_keys_replace_the_development_token(monkeypatch):
    monkeypatch.setenv("RUNYARD_ENV", "development")
    monkeypatch.setenv("API_KEYS", "a:alice:5:10, b:bob")
    keys = load_settings().keys()
    assert [(key.token, key.label, key.rps, key.burst) for key in keys] == [
        ("a", "alice", 5.0, 10),
        ("b", "bob", 1000.0, 1000),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("ENGINE", "podman"),
        ("RUNTIME", "kata"),
        ("QUEUE_MAX", "-1"),
        ("MAX_RUNS", "0"),
        ("RUNYARD_ENV", "staging"),
        ("MEMORY_BUDGET_MB", "1"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_the_variables_name(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load_settings()


@pytest.mark.parametrize(
    "text",
    [
        "secret_token_1:b:1:1",
        "a:b:c:d",
        "a:b:0:5",
        "a:b:nan:5",
        "a:b:1:0",
        "a:b:1:1:1",
        "a b:x",
        "a:b\nc",
        "a,a",
        ",",
        ":x",
        "a:=1",
        "a:sp ace :1:1",
        "a:" + "x" * 1_000_000,
        "a:ok:5:5",
        "a:two:5:5,b:two:6:5",
        "a:two:5:5,b:two:5:6",
    ],
)
def test_a_key_that_cannot_be_read_is_refused_without_showing_it(monkeypatch, text):
    monkeypatch.setenv("API_KEYS", "secret_token_1:ok:1:1," + text)
    if text == ",":
        monkeypatch.setenv("API_KEYS", text)
    with pytest.raises(SettingsError, match="API_KEYS") as refused:
        load_settings()
    assert "secret_token_1" not in str(refused.value)


def test_entries_of_one_label_have_one_rate(monkeypatch):
    keys = parse_api_keys("a:team one@x.org:5:7,b:team one@x.org,c,d:team one@x.org::7")
    assert [(key.label, key.rps, key.burst, key.is_labelled) for key in keys] == [
        ("team one@x.org", 5, 7, True),
        ("team one@x.org", 5, 7, True),
        ("key3", 1000, 1000, False),
        ("team one@x.org", 5, 7, True),
    ]
    monkeypatch.setenv("API_KEYS", "s3cret:team:5:7,s3cret2:team:6")
    with pytest.raises(SettingsError, match="entries 1 and 2 have one label and a different rps") as refused:
        load_settings()
    assert "s3cret" not in str(refused.value)


def test_the_development_token_stays_on_loopback(monkeypatch):
    monkeypatch.setenv("RUNYARD_ENV", "development")
    monkeypatch.setenv("BIND", "0.0.0.0")
    with pytest.raises(SettingsError, match="BIND"):
        load_settings()
    monkeypatch.setenv("API_KEYS", "a_real_token:x")
    assert load_settings().bind == "0.0.0.0"
    monkeypatch.setenv("API_KEYS", "dev_123:x")
    with pytest.raises(SettingsError, match="dev_123"):
        load_settings()
    monkeypatch.setenv("ALLOW_INSECURE_BIND", "1")
    assert load_settings().bind == "0.0.0.0"


def test_threads_cover_all_who_run_and_wait_and_a_reserve(monkeypatch):
    monkeypatch.setenv("QUEUE_MAX", "100")
    monkeypatch.setenv("MAX_RUNS", "8")
    assert load_settings().api_threads > 108
    monkeypatch.setenv("EVENT_READERS", "24")
    monkeypatch.setenv("UPLOADS_MAX", "16")
    settings = load_settings()
    assert (settings.reading_places, settings.upload_places) == (24 + 3, 16 + 2)
    pools = settings.waiting_places + settings.reading_places + settings.upload_places + DOCUMENT_PLACES
    assert settings.api_threads > pools


def test_keys_do_not_show_their_token():
    (key,) = parse_api_keys("s3cret:label")
    assert "s3cret" not in repr(key)


def test_the_database_is_a_file_beneath_the_state_directory_or_the_one_given(monkeypatch):
    monkeypatch.setenv("STATE_DIR", "/srv/runyard")
    assert load_settings().database == "sqlite:////srv/runyard/db/runyard.sqlite"
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:secret@db/runyard")
    assert load_settings().database == "postgresql://user:secret@db/runyard"
    monkeypatch.setenv("DATABASE_URL", "")
    assert load_settings().database.startswith("sqlite:")


@pytest.mark.parametrize("url", ["mysql://user:secret@db/x", "sqlite:///relative.db", "/var/lib/secret.db"])
def test_a_database_of_another_kind_is_refused_without_showing_its_url(monkeypatch, url):
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(SettingsError, match="DATABASE_URL") as refused:
        load_settings()
    assert "secret" not in str(refused.value)


def test_anybody_may_make_a_key_in_development_on_loopback_or_where_it_is_said(monkeypatch):
    assert not load_settings().self_service
    monkeypatch.setenv("SELF_SERVICE_KEYS", "1")
    assert load_settings().self_service
    monkeypatch.setenv("SELF_SERVICE_KEYS", "")
    monkeypatch.setenv("RUNYARD_ENV", "development")
    assert load_settings().self_service
    monkeypatch.setenv("SELF_SERVICE_KEYS", "0")
    assert not load_settings().self_service


def test_open_self_service_stays_on_loopback(monkeypatch):
    monkeypatch.setenv("RUNYARD_ENV", "development")
    monkeypatch.setenv("API_KEYS", "a_real_token:x")
    monkeypatch.setenv("BIND", "0.0.0.0")
    assert not load_settings().self_service, "the default of development is for this machine alone"
    monkeypatch.setenv("SELF_SERVICE_KEYS", "1")
    with pytest.raises(SettingsError, match="SELF_SERVICE_KEYS"):
        load_settings()
    monkeypatch.setenv("ALLOW_INSECURE_BIND", "1")
    assert load_settings().self_service


def test_several_processes_need_a_place_for_their_buckets(monkeypatch):
    monkeypatch.setenv("API_PROCESSES", "2")
    with pytest.raises(SettingsError, match="API_PROCESSES=2 without RATELIMIT_URL"):
        load_settings()
    monkeypatch.setenv("RATELIMIT_URL", "redis://127.0.0.1:6379/0")
    assert load_settings().api_processes == 2


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://u:p@h:1/2", "valkey://h/3", "redis+unix:///run/x", "valkeys://[::1]:7"]
)
def test_where_buckets_may_be(monkeypatch, url):
    monkeypatch.setenv("RATELIMIT_URL", url)
    assert load_settings().ratelimit_url == url


@pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "http://secret@h",
        "redis://",
        "redis://:secret@h:99999",
        "redis+unix://",
        "redis://h/secret",
        "x",
    ],
)
def test_where_they_may_not_is_refused_without_showing_it(monkeypatch, url):
    monkeypatch.setenv("RATELIMIT_URL", url)
    with pytest.raises(SettingsError, match="RATELIMIT_URL") as refused:
        load_settings()
    assert "secret" not in str(refused.value)


def test_proxies_and_the_admin_token(monkeypatch):
    assert load_settings().trusted() == ()
    monkeypatch.setenv("TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8,2001:db8::/32")
    assert [str(network) for network in load_settings().trusted()] == [
        "127.0.0.1/32",
        "10.0.0.0/8",
        "2001:db8::/32",
    ]
    for wrong in ("10.0.0.1/8", "localhost", "*", "10.0.0.0/33"):
        monkeypatch.setenv("TRUSTED_PROXIES", wrong)
        with pytest.raises(SettingsError, match="TRUSTED_PROXIES: entry 1"):
            load_settings()
    monkeypatch.delenv("TRUSTED_PROXIES")
    for wrong in ("short-secret", "s p a c e s secret 1234", "é" * 20):
        monkeypatch.setenv("ADMIN_TOKEN", wrong)
        with pytest.raises(SettingsError, match="ADMIN_TOKEN") as refused:
            load_settings()
        assert "secret" not in str(refused.value)
