"""Several processes of api over one Redis: one bucket a key, and a key that is revoked is so in all of them."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.apiprocess import ADMIN, Api
from tests.support.workers import until

ME = "/v1/keys/me"


def test_it_does_not_start_with_several_processes_on_memory(start_api):
    api = start_api(API_PROCESSES="2")
    assert api.process.wait(60) != 0
    assert "API_PROCESSES=2 without RATELIMIT_URL is refused" in api.said()


def test_it_does_not_start_with_plans_that_cannot_be_read(start_api, tmp_path):
    (tmp_path / "plans.toml").write_text("[free]\nburst = 1\n")
    api = start_api(PLANS_FILE=str(tmp_path / "plans.toml"))
    assert api.process.wait(60) != 0
    assert "free.rate_per_minute: is required" in api.said()


@pytest.fixture(scope="module")
def two(redis):
    """Two processes of api."""
    api = Api({"API_PROCESSES": "2", "RATELIMIT_URL": redis.url})
    try:
        api.wait()
        until(lambda: len(api.workers()) == 2, 30)
        yield api
    finally:
        api.end()


def everybody(api, ask, number=24):
    """Ask until both processes have answered: each in turn is made to sit still."""
    answers = []
    for pid in api.workers():
        os.kill(pid, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(4) as pool:
                answers += pool.map(lambda _: ask(), range(number))
        finally:
            os.kill(pid, signal.SIGCONT)
    return answers


def new_key(api):
    reply = api.service.post("/v1/admin/keys", json={"plan": "free"}, token=ADMIN)
    assert reply.status == 201, reply.body
    return reply.body["key"]


def test_one_bucket_for_both(two):
    key = new_key(two)
    # The free plan's reading: 100 at once, and one and two thirds a second.
    began = time.monotonic()
    answers = everybody(two, lambda: two.service.get(ME, token=key), 70)
    came_back = (time.monotonic() - began) * 100 / 60 + 1
    allowed = sum(answer.status == 200 for answer in answers)
    assert {answer.status for answer in answers} == {200, 429}
    assert 100 <= allowed <= 100 + came_back


def test_revoked_rotated_and_disabled_are_so_at_once_in_both(two):
    service, keys = two.service, [new_key(two) for _ in range(2)]
    for key in keys:
        assert {reply.status for reply in everybody(two, lambda key=key: service.get(ME, token=key), 3)} == {200}
    assert service.request("DELETE", ME, token=keys[0]).status == 200
    assert {reply.status for reply in everybody(two, lambda: service.get(ME, token=keys[0]), 3)} == {401}
    body, headers = b'{"disabled":true}', {"Content-Type": "application/json"}
    key_id = service.get(ME, token=keys[1]).body["id"]
    assert service.request("PATCH", f"/v1/admin/keys/{key_id}", body, headers, token=ADMIN).status == 200
    for reply in everybody(two, lambda: service.get("/v1/usage", token=keys[1]), 3):
        assert (reply.status, reply.body["error"]["code"]) == (401, "disabled_key")


def test_keys_an_hour_are_counted_over_both(two):
    headers = {"X-Forwarded-For": "198.51.100.1"}  # nobody is believed: all of these are one address's
    service = two.service
    answers = everybody(two, lambda: service.request("POST", "/v1/keys", headers=headers, token=None), 15)
    assert sorted(answer.status for answer in answers) == [201] * 20 + [429] * 10


def test_redis_gone_and_come_back_is_no_error_to_anybody(two, redis):
    key = new_key(two)
    redis.stop()
    try:
        answers = everybody(two, lambda: two.service.get(ME, token=key), 5)
        assert {answer.status for answer in answers} == {200}
        assert "this process limits by itself" in two.said()
    finally:
        redis.start()
    until(lambda: "can be reached again" in (two.service.get(ME, token=key) and two.said()), 60)
