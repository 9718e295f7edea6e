"""The callers of other services' routes: by a key in either header, without one, or refused, in each one's shape."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.unit.test_api_app import Api

ADMIN = "admin-token-of-the-tests"


@dataclass(frozen=True)
class Dialect:
    path: str
    body: dict[str, Any]

    def send(self, api, *, address="192.0.2.1", **headers):
        sent = {"Content-Type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        reply = api.client.post(
            self.path, data=json.dumps(self.body), headers=sent, environ_base={"REMOTE_ADDR": address}
        )
        reply.get_data()  # a stream to its end
        return reply


PISTON = Dialect("/api/v2/execute", {"language": "python", "version": "*", "files": [{"content": "1"}]})
RUNAKODE = Dialect("/api", {"language": "python", "source_code": "1"})
RUNTOOLS = Dialect("/v1/execute", {"runtime": "python", "code": "1"})
TINIRUN = Dialect("/api/code/run", {"lang": "python", "code": "1"})
AGENT_CODERUNNER = Dialect("/api/execute", {"language": "python", "code": "1"})
DIALECTS = {
    "piston": PISTON,
    "runakode": RUNAKODE,
    "runtools": RUNTOOLS,
    "agent-coderunner": AGENT_CODERUNNER,
    "tinirun": TINIRUN,
}


def check_shape(dialect, reply):
    """Hold an error against the shape of its service."""
    if dialect is RUNAKODE:
        assert reply.content_type == "text/plain; charset=utf-8"
        assert reply.text.endswith("\n")
        assert len(reply.text.splitlines()) == 1
    elif dialect is RUNTOOLS:
        assert list(reply.json) == ["error"]
        assert list(reply.json["error"]) == ["code", "message", "requestId"]
        assert reply.json["error"]["requestId"] == reply.headers["x-request-id"]
    elif dialect is TINIRUN and reply.status_code == 401:
        assert (reply.content_type, reply.text) == ("text/plain; charset=utf-8", "Unauthorized")
    elif dialect is AGENT_CODERUNNER:
        assert list(reply.json) == ["error", "message"]
    else:
        assert list(reply.json) == ["message"]


@pytest.fixture(params=DIALECTS.values(), ids=DIALECTS)
def dialect(request):
    return request.param


@pytest.fixture
def make_api():
    made = []

    def make(**settings):
        made.append(Api(admin_token=ADMIN, **settings))
        made[-1].worker.languages[0]["version"] = "3.13.5"
        return made[-1]

    yield make
    for api in made:
        api.close()


@pytest.fixture(scope="module")
def kept():
    """An application that serves nobody without a key: made once, since that takes longer than a test."""
    made = Api(admin_token=ADMIN, self_service_keys=False)
    made.worker.languages[0]["version"] = "3.13.5"
    yield made
    made.close()


@pytest.fixture
def closed(kept):
    """That application as it was made, but for its records."""
    settings = kept.settings
    kept.worker.jobs.clear()
    yield kept
    kept.app.extensions["runyard"].settings = settings


def charge(api, key_id):
    """Set DIALECT_KEY."""
    deps = api.app.extensions["runyard"]
    deps.settings = deps.settings.model_copy(update={"dialect_key": key_id})


def stored_key(api, plan="pro"):
    reply = api.client.post("/v1/admin/keys", json={"plan": plan}, headers={"Authorization": f"Bearer {ADMIN}"})
    assert reply.status_code == 201
    return reply.json


@pytest.mark.parametrize("header", ["Authorization", "X_API_Key"])
def test_a_key_in_either_header_has_the_history_of_the_key(dialect, closed, header):
    api = closed
    key = stored_key(api)
    value = key["key"] if header == "X_API_Key" else f"Bearer {key['key']}"
    reply = dialect.send(api, **{header: value})
    assert reply.status_code == 200, reply.text
    job = api.worker.jobs[0]
    assert job.key == key["id"]
    # The answers of these never have files.
    assert ("max_artifact_files" in job.limits) is (dialect in (PISTON, AGENT_CODERUNNER, TINIRUN))
    assert api.get(job.run_id, token=key["key"]).json["status"] == "succeeded"
    assert dialect.send(api, **{header: value[:-1] + "!"}).status_code == 401


def test_tinirun_has_a_header_of_its_own(closed):
    key = stored_key(closed)
    assert TINIRUN.send(closed, X_Runner_Api_Key=key["key"]).status_code == 200
    assert closed.worker.jobs[0].key == key["id"]
    for wrong in ("", "no", f"{key['key']}x", "\u00e9"):
        reply = TINIRUN.send(closed, X_Runner_Api_Key=wrong)
        assert reply.status_code == 401
        check_shape(TINIRUN, reply)
    # A wrong key is not saved by a right one elsewhere.
    assert TINIRUN.send(closed, X_Runner_Api_Key="no", Authorization="Bearer tok").status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/function"),
        ("POST", "/api/function"),
        ("GET", "/api/function/f/info"),
        ("GET", "/api/function/f/detail"),
        ("POST", "/api/function/f"),
        ("POST", "/api/function/f/run"),
        ("POST", "/api/function/f/run/stream"),
    ],
)
def test_the_functions_of_tinirun_need_a_key_where_programs_do_not(make_api, method, path):
    api = make_api(self_service_keys=True)
    reply = api.client.open(path, method=method, json={})
    assert (reply.status_code, reply.text) == (401, "Unauthorized")
    assert TINIRUN.send(api).status_code == 200


def test_without_a_key_ten_a_minute_of_an_address(dialect, make_api):
    api = make_api(self_service_keys=True)
    here, neighbour, elsewhere = "2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1"
    replies = [dialect.send(api, address=here) for _ in range(10)]
    assert [reply.status_code for reply in replies] == [200] * 10
    assert replies[0].headers["x-ratelimit-limit-requests"] == "10"
    for address in (here, neighbour):
        refused = dialect.send(api, address=address)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 6
        check_shape(dialect, refused)
    assert dialect.send(api, address=elsewhere).status_code == 200
    keys = [job.key for job in api.worker.jobs]
    assert len(set(keys)) == 2
    assert not any("2001" in key for key in keys)
    # What the plan `anonymous` allows, and no files, which nobody could fetch.
    job = api.worker.jobs[0]
    assert (job.most_running, job.most_waiting, job.limits["max_artifact_files"]) == (2, 4, 0)
    # A key of somebody at that address has a bucket of its own.
    assert dialect.send(api, address=here, X_API_Key="tok").status_code == 200


def test_the_services_share_the_bucket_of_an_address(make_api):
    api = make_api(self_service_keys=True)
    asked = [PISTON, RUNAKODE, RUNTOOLS] * 4
    assert [one.send(api).status_code for one in asked] == [200] * 10 + [429] * 2


def test_a_wrong_key_is_refused_where_none_is_needed(make_api):
    api = make_api(self_service_keys=True)
    for dialect in DIALECTS.values():
        for headers in ({"Authorization": "Bearer no"}, {"X_API_Key": "no"}, {"X_API_Key": ""}):
            reply = dialect.send(api, **headers)
            assert reply.status_code == 401
            check_shape(dialect, reply)


def test_a_stored_key_is_charged_for_requests_without_one(dialect, closed):
    api = closed
    key = stored_key(api)
    charge(api, key["id"])
    assert dialect.send(api).status_code == 200
    assert api.worker.jobs[0].key == key["id"]
    assert api.get(api.worker.jobs[0].run_id, token=key["key"]).status_code == 200
    url, admin = f"/v1/admin/keys/{key['id']}", {"Authorization": f"Bearer {ADMIN}"}
    assert api.client.patch(url, json={"disabled": True}, headers=admin).status_code == 200
    disabled = dialect.send(api)
    assert disabled.status_code == 401
    check_shape(dialect, disabled)
    assert api.client.patch(url, json={"disabled": False}, headers=admin).status_code == 200
    assert dialect.send(api).status_code == 200
    assert api.client.delete(url, headers=admin).status_code == 200
    assert dialect.send(api).status_code == 401
    # The key of the request comes first.
    assert dialect.send(api, X_API_Key="tok").status_code == 200


def test_nobody_is_charged_where_the_named_key_is_none(dialect, closed):
    charge(closed, "key_that_is_not_there")
    reply = dialect.send(closed)
    assert reply.status_code == 401
    check_shape(dialect, reply)
    assert closed.worker.jobs == []


def test_without_either_a_key_is_required(dialect, closed):
    reply = dialect.send(closed)
    assert reply.status_code == 401
    assert reply.headers["WWW-Authenticate"].startswith("Bearer")
    check_shape(dialect, reply)
    assert closed.worker.jobs == []


def test_a_plans_file_without_anonymous_serves_no_such_requests(make_api, tmp_path):
    plans = tmp_path / "plans.toml"
    plans.write_text("[free]\nrate_per_minute = 60\nburst = 5\n")
    api = make_api(self_service_keys=True, plans_file=plans)
    assert [one.send(api).status_code for one in DIALECTS.values()] == [401] * len(DIALECTS)


def test_where_a_program_may_come_without_a_key(make_api):
    served = make_api(self_service_keys=True).app.extensions["runyard"].is_keyless
    assert [served(one.path) for one in DIALECTS.values()] == [True] * len(DIALECTS)
    assert not served("/v1/runs")
    refused = make_api(self_service_keys=False).app.extensions["runyard"].is_keyless
    assert [refused(one.path) for one in DIALECTS.values()] == [False] * len(DIALECTS)
    none = make_api(self_service_keys=True, dialects="none").app.extensions["runyard"].is_keyless
    assert [none(one.path) for one in DIALECTS.values()] == [False] * len(DIALECTS)
