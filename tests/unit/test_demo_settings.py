"""The variables of the demo, and its bounds by address."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from web.demo import bounds
from web.demo.bounds import Places, Rate
from web.demo.settings import DemoSettingsError, read_settings

REPO = Path(__file__).resolve().parents[2]
GIVEN = {"DEMO_TINIRUN_URL": "http://localhost:8080/api", "DEMO_TINIRUN_API_KEY": "n33dle-key"}


def test_two_variables_suffice():
    found = read_settings(GIVEN)
    assert (found.url, found.key, found.bind, found.port) == (
        GIVEN["DEMO_TINIRUN_URL"],
        "n33dle-key",
        "127.0.0.1",
        3000,
    )
    assert (found.runs, found.rate_per_minute, found.timeout_s, found.trusted_proxies) == (8, 20, 30, ())
    assert found.frame_ancestors == "'self'"
    assert "n33dle" not in repr(found)


def test_a_slash_at_the_end_of_the_address_and_empty_variables_do_not_matter():
    found = read_settings({**GIVEN, "DEMO_TINIRUN_URL": "https://run.example.org/api/", "DEMO_PORT": " "})
    assert (found.url, found.port) == ("https://run.example.org/api", 3000)


@pytest.mark.parametrize(
    "text", ["'none'", "'self'", "*", "https://docs.example.org", "'self' https://*.example.org http://x:81"]
)
def test_pages_that_may_embed(text):
    assert read_settings({**GIVEN, "DEMO_FRAME_ANCESTORS": text}).frame_ancestors == text


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DEMO_TINIRUN_URL", "", "must be set"),
        ("DEMO_TINIRUN_API_KEY", "", "must be set"),
        ("DEMO_TINIRUN_API_KEY", "n33dle key", "must be 1 to 256"),
        ("DEMO_TINIRUN_API_KEY", "n33dle\r\nX: y", "must be 1 to 256"),
        ("DEMO_TINIRUN_URL", "ftp://x/api", "must be http://"),
        ("DEMO_TINIRUN_URL", "http://user:n33dle@x/api", "must be http://"),
        ("DEMO_TINIRUN_URL", "http://x/api?x=1", "must be http://"),
        ("DEMO_PORT", "70000", "must be an integer from 0 to 65535"),
        ("DEMO_PORT", "x", "must be an integer"),
        ("DEMO_RUNS", "0", "must be an integer from 1 to 256"),
        ("DEMO_RATE_PER_MINUTE", "-1", "must be an integer from 1 to 6000"),
        ("DEMO_TIMEOUT_S", "4", "must be an integer from 5 to 300"),
        ("DEMO_TRUSTED_PROXIES", "x", "entry 1 is not an address"),
        ("DEMO_FRAME_ANCESTORS", "*; script-src *", "must be 'none', or origins"),
        ("DEMO_FRAME_ANCESTORS", "'self' 'none'", "must be 'none', or origins"),
        ("DEMO_FRAME_ANCESTORS", "https://x,y", "must be 'none', or origins"),
        ("DEMO_FRAME_ANCESTORS", "javascript:x", "must be 'none', or origins"),
    ],
)
def test_what_cannot_be_is_refused_by_name_without_the_key(name, value, words):
    with pytest.raises(DemoSettingsError, match=f"{name}: .*{words}") as refused:
        read_settings({**GIVEN, name: value})
    assert "n33dle" not in str(refused.value)


def test_a_start_with_wrong_settings_ends_with_a_sentence():
    env = {"PATH": "/usr/bin:/bin", **GIVEN, "DEMO_RUNS": "many"}
    argv = [sys.executable, "-m", "web.demo"]
    done = subprocess.run(argv, cwd=REPO, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (78, "demo: DEMO_RUNS: must be an integer from 1 to 256\n")


def test_a_rate_is_of_one_address_and_comes_back_evenly():
    now = [0.0]
    rate = Rate(6, clock=lambda: now[0])
    assert [rate.wait_s("a") for _ in range(8)] == [0] * 6 + [10, 10]
    assert rate.wait_s("b") == 0
    now[0] = 9.0
    assert rate.wait_s("a") == 1
    now[0] = 10.0
    assert [rate.wait_s("a"), rate.wait_s("a")] == [0, 10]


def test_no_more_addresses_are_remembered_than_may_be(monkeypatch):
    monkeypatch.setattr(bounds, "MAX_ADDRESSES", 3)
    rate = Rate(1, clock=lambda: 0.0)
    assert [rate.wait_s(name) for name in "abcd"] == [0] * 4
    assert (rate.wait_s("d"), rate.wait_s("a")) == (60, 0)


def test_one_address_holds_a_part_of_the_places():
    places = Places(3, 2)
    assert [places.take("a"), places.take("a"), places.take("a")] == [True, True, False]
    assert [places.take("b"), places.take("c")] == [True, False]
    places.free("a")
    assert places.take("c")


def test_an_address_of_many_may_hold_all_places():
    places = Places(3, 1)
    assert [places.take("proxy", is_shared=True) for _ in range(4)] == [True, True, True, False]
