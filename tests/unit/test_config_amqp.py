"""The settings of the broker: what an address may be, and what is refused without showing a password."""

from __future__ import annotations

import os

import pytest

from config.amqp_url import MAX_HOSTS, MAX_QUEUE_NAME, AmqpAddress, parse_amqp_url
from config.settings import SettingsError, load_settings


@pytest.fixture(autouse=True)
def _no_broker(monkeypatch):
    for name in list(os.environ):
        if name.upper().startswith("AMQP_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("amqp://h", AmqpAddress(False, (("h", 5672),), "guest", "guest", "/")),
        ("amqps://h/", AmqpAddress(True, (("h", 5671),), "guest", "guest", "/")),
        ("amqp://u:p@a,b:7,[::1]:8/v", AmqpAddress(False, (("a", 5672), ("b", 7), ("::1", 8)), "u", "p", "v")),
        ("amqp://u%40x:p%2Fq%3A@h:1/%2Fv", AmqpAddress(False, (("h", 1),), "u@x", "p/q:", "/v")),
        ("amqp://u:@h", AmqpAddress(False, (("h", 5672),), "u", "", "/")),
    ],
)
def test_an_address_is_hosts_and_an_account(monkeypatch, url, address):
    assert parse_amqp_url(url) == address
    monkeypatch.setenv("AMQP_URL", url)
    assert load_settings().amqp_address == address


@pytest.mark.parametrize(
    "url",
    [
        "http://u:secret@h",
        "amqp://",
        "amqp://u:secret@",
        "amqp://u:secret@h:0",
        "amqp://u:secret@h:65536",
        "amqp://u:secret@h:x",
        "amqp://u:secret@a,,b",
        "amqp://u:secret@a,amqp://b",
        "amqp://u:secret@h/v/w",
        "amqp://u:secret@h/v?heartbeat=1",
        "amqp://u:secret@x@h",
        "amqp://u:secret%@h",
        "amqp://u:secret @h",
        "amqp://u:secret\u00e9@h",
        "amqp://secret@h",
        "amqp://u:secret@" + ",".join("h" * (MAX_HOSTS + 1)),
    ],
)
def test_another_address_is_refused_without_showing_it(monkeypatch, url):
    monkeypatch.setenv("AMQP_URL", url)
    with pytest.raises(SettingsError, match="AMQP_URL") as refused:
        load_settings()
    assert "secret" not in str(refused.value)


def test_without_an_address_there_is_no_broker(monkeypatch):
    assert load_settings().amqp_address is None
    monkeypatch.setenv("AMQP_URL", "")
    assert load_settings().amqp_address is None
    assert load_settings().amqp_queue == "runner_jobs"


@pytest.mark.parametrize("name", ["x" * (MAX_QUEUE_NAME + 1), "amq.jobs", "a b", ".a", "a/b", "a#", "a*"])
def test_a_name_that_no_queue_may_have_is_refused_with_its_bound(monkeypatch, name):
    monkeypatch.setenv("AMQP_QUEUE", name)
    with pytest.raises(SettingsError, match=f"AMQP_QUEUE: must be 1 to {MAX_QUEUE_NAME}"):
        load_settings()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"AMQP_CA_FILE": "/ca"}, "AMQP_CA_FILE: is for AMQP_URL=amqps"),
        ({"AMQP_URL": "amqp://h", "AMQP_CA_FILE": "/ca"}, "AMQP_CA_FILE: is for AMQP_URL=amqps"),
        ({"AMQP_URL": "amqps://h", "AMQP_CERT_FILE": "/c"}, "AMQP_CERT_FILE and AMQP_KEY_FILE"),
        ({"AMQP_URL": "amqps://h", "AMQP_KEY_FILE": "/k"}, "AMQP_CERT_FILE and AMQP_KEY_FILE"),
    ],
)
def test_certificates_go_together_and_with_tls(monkeypatch, given, message):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=message):
        load_settings()
