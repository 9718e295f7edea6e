"""Keys over HTTP: made, looked at, made anew, ended; plans, quotas and shares; what the operator may do."""

from __future__ import annotations

import itertools
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from api.keys.key_format import new_key_text
from tests.support.service import ADMIN_TOKEN
from tests.support.workers import until

ME = "/v1/keys/me"
HELLO = {"language": "bash", "code": "echo hi"}
_addresses = itertools.count(os.getpid() * 1000)


def address():
    """Somebody who has never asked before, as far as these tests go."""
    number = next(_addresses)
    return {"X-Forwarded-For": f"2001:db8:{number >> 16 & 0xFFFF:x}:{number & 0xFFFF:x}::1"}


def made(service, plan="unlimited", **fields):
    reply = service.post("/v1/admin/keys", json={"plan": plan, **fields}, token=ADMIN_TOKEN)
    assert reply.status == 201, reply.body
    return reply.body


def admin(service, method, path="", body=None):
    call = {"GET": service.get, "DELETE": lambda p, **k: service.request("DELETE", p, **k)}.get(method)
    if call is not None:
        return call(f"/v1/admin/keys{path}", token=ADMIN_TOKEN)
    import json

    data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    return service.request(method, f"/v1/admin/keys{path}", data, headers, token=ADMIN_TOKEN)


def refused(reply, status, code, param=None):
    assert (reply.status, reply.body["error"]["code"]) == (status, code), reply.body
    assert reply.body["error"]["param"] == param
    assert reply.body["error"]["message"]
    return reply


def test_a_key_is_made_without_sign_up_and_runs_a_program(service):
    reply = service.request("POST", "/v1/keys", headers=address(), token=None)
    assert reply.status == 201
    assert list(reply.body) == ["id", "object", "key", "plan", "created_at"]
    assert (reply.body["object"], reply.body["plan"]) == ("key", "free")
    assert re.fullmatch(r"ry_[0-9A-Za-z]{38}", reply.body["key"])
    run = service.post("/v1/runs", json=HELLO, token=reply.body["key"])
    assert (run.status, run.body["stdout"]) == (200, "hi\n")
    assert run.headers["x-ratelimit-limit-requests"] == "10"
    me = service.get(ME, token=reply.body["key"])
    assert (me.body["id"], me.body["plan"], me.body["disabled"]) == (reply.body["id"], "free", False)
    assert (me.body["runs_left"], me.body["runs_reset_at"]) == (49, None)
    assert me.body["limits"]["timeout_ms"] == 10_000
    assert reply.body["key"].startswith(me.body["prefix"])
    assert len(me.body["prefix"]) < 12
    assert "key" not in me.body
    assert me.headers["x-ratelimit-limit-requests"] == "100"
    assert service.get(f"/v1/runs/{run.body['id']}", token=service.token).status == 404


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b'{"plan":"pro"}', 400, "unknown_field", "plan"),
        (b'{"label":1}', 400, "invalid_type", "label"),
        (b'{"label":" a"}', 400, "invalid_value", "label"),
        (b'{"label":"a\\nb"}', 400, "invalid_value", "label"),
        (b'{"label":"=1+1"}', 400, "invalid_value", "label"),
        (b'{"label":"' + b"x" * 65 + b'"}', 400, "invalid_value", "label"),
        (b"[]", 400, "invalid_json", None),
        (b"{", 400, "invalid_json", None),
        (b'{"label":"' + b"x" * 20_000 + b'"}', 413, "request_too_large", None),
    ],
)
def test_what_a_new_key_cannot_be_asked_with(service, body, status, code, param):
    reply = service.post("/v1/keys", data=body, headers=address(), token=None)
    refused(reply, status, code, param)


def test_twenty_keys_an_hour_of_one_address(service):
    here, elsewhere = address(), address()
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: service.request("POST", "/v1/keys", headers=here, token=None), range(25)))
    assert sorted(reply.status for reply in replies) == [201] * 20 + [429] * 5
    late = next(reply for reply in replies if reply.status == 429)
    refused(late, 429, "rate_limit_exceeded")
    assert 3000 < int(late.headers["retry-after"]) <= 3600
    assert late.headers["x-ratelimit-limit-requests"] == "20"
    assert service.request("POST", "/v1/keys", headers=elsewhere, token=None).status == 201


def test_rotating_keeps_the_old_key_good_for_a_while(service):
    first = made(service)
    reply = service.post(f"{ME}/rotate", token=first["key"], json={})
    assert reply.status == 201
    assert list(reply.body) == ["id", "object", "key", "plan", "created_at", "previous_valid_until"]
    second = reply.body["key"]
    assert reply.body["id"] == first["id"]
    assert second != first["key"]
    assert [service.get(ME, token=key).status for key in (first["key"], second)] == [200, 200]
    refused(service.post(f"{ME}/rotate", token=first["key"], json={}), 409, "key_already_rotated")
    third = service.post(f"{ME}/rotate", token=second, json={}).body["key"]
    assert [service.get(ME, token=key).status for key in (first["key"], second, third)] == [401, 200, 200]


def test_of_rotations_at_once_one_wins(service):
    key = made(service)["key"]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: service.post(f"{ME}/rotate", token=key, json={}), range(8)))
    assert sorted(reply.status for reply in replies) == [201] + [409] * 7


def test_a_revoked_key_is_good_no_more_at_once(service):
    first = made(service)["key"]
    second = service.post(f"{ME}/rotate", token=first, json={}).body["key"]
    reply = service.request("DELETE", ME, token=first)
    assert reply.status == 200
    assert list(reply.body.values())[1:] == ["key", True]
    for key in (first, second):
        refused(service.get(ME, token=key), 401, "invalid_token")
        refused(service.post("/v1/runs", json=HELLO, token=key), 401, "invalid_token")


def test_a_static_key_is_itself_and_stays_so(service):
    me = service.get(ME).body
    assert (me["plan"], me["runs_left"], me["prefix"], me["disabled"]) == (None, None, None, False)
    assert me["limits"]["timeout_ms"] == 60_000
    refused(service.post(f"{ME}/rotate", json={}), 409, "static_key")
    refused(service.request("DELETE", ME), 409, "static_key")
    assert service.get(ME).status == 200


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(new_key_text(), id="as new ones are made"),
        "ry_" + "a" * 38,
        "ry_",
        "sk-proj-" + "x" * 40,
        "ghp_" + "y" * 36,
    ],
)
def test_a_key_that_nobody_made(service, token):
    reply = service.request("GET", ME, headers=address() | {"Authorization": f"Bearer {token}"}, token=None)
    refused(reply, 401, "invalid_token")
    assert reply.headers["www-authenticate"].startswith("Bearer")


def test_too_many_wrong_tokens_of_an_address(service):
    here = address()
    statuses = []

    def guess(_):
        headers = here | {"Authorization": f"Bearer {new_key_text()}"}
        statuses.append(service.request("GET", ME, headers=headers, token=None).status)

    with ThreadPoolExecutor(8) as pool:
        while 429 not in statuses:
            assert len(statuses) < 20_000, "an address may guess for ever"
            list(pool.map(guess, range(200)))
    assert set(statuses) == {401, 429}
    headers = here | {"Authorization": f"Bearer {service.token}"}
    assert service.request("GET", ME, headers=headers, token=None).status == 200, "a good one still gets in"


def test_fifty_at_once_on_the_last_run_admit_one(service):
    key = made(service, "test-one")["key"]
    start = threading.Barrier(50)

    def ask(_):
        start.wait(60)
        return service.post("/v1/runs", json=HELLO, token=key)

    with ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(ask, range(50)))
    assert sorted(reply.status for reply in replies) == [200] + [429] * 49
    for reply in replies:
        if reply.status == 429:
            refused(reply, 429, "quota_exceeded")
            assert reply.headers["x-quota-reset-runs"] == "never"
            assert int(reply.headers["retry-after"]) > 0
            assert "does not reset" in reply.body["error"]["message"]
    assert service.get(ME, token=key).body["runs_left"] == 0
    assert service.get("/v1/usage", token=key).body["runs"] == 1


def test_what_never_ran_is_not_counted(service):
    key = made(service, "test-one")["key"]
    bad = [
        HELLO | {"language": "cobol"},
        HELLO | {"limits": {"pids": 0}},
        HELLO | {"files": [{"path": "x", "id": "file_none"}]},
    ]
    assert {service.post("/v1/runs", json=body, token=key).status for body in bad} == {400}
    assert service.get(ME, token=key).body["runs_left"] == 1
    headers = {"Idempotency-Key": "once"}
    first = service.post("/v1/runs", json=HELLO, headers=headers, token=key)
    again = service.post("/v1/runs", json=HELLO, headers=headers, token=key)
    assert (first.status, again.status, first.body["id"]) == (200, 200, again.body["id"])
    refused(service.post("/v1/runs", json=HELLO, token=key), 429, "quota_exceeded")
    refused(service.post("/v1/runs", json=HELLO | {"background": True}, token=key), 429, "quota_exceeded")
    refused(service.post("/v1/runs", json=HELLO | {"stream": True}, token=key), 429, "quota_exceeded")


def test_a_months_quota_says_when_it_begins_anew_and_another_plan_ends_the_wait(service):
    key = made(service, "test-month")
    assert service.post("/v1/runs", json=HELLO, token=key["key"]).status == 200
    reply = refused(service.post("/v1/runs", json=HELLO, token=key["key"]), 429, "quota_exceeded")
    reset = reply.headers["x-quota-reset-runs"]
    assert reset.endswith("-01T00:00:00.000Z")
    assert reset == service.get(ME, token=key["key"]).body["runs_reset_at"]
    assert reset in reply.body["error"]["message"]
    assert 0 < int(reply.headers["retry-after"]) <= 31 * 86_400
    assert admin(service, "PATCH", f"/{key['id']}", {"plan": "unlimited"}).body["plan"] == "unlimited"
    assert service.post("/v1/runs", json=HELLO, token=key["key"]).status == 200


def test_the_plans_ceilings_hold_and_its_defaults_follow(service):
    key = made(service, "test-small")["key"]
    reply = service.post("/v1/runs", json=HELLO | {"limits": {"timeout_ms": 2001}}, token=key)
    refused(reply, 400, "limit_exceeds_maximum", "limits.timeout_ms")
    assert reply.body["error"]["message"] == "limits.timeout_ms: 2001 exceeds this key's maximum of 2000"
    run = service.post("/v1/runs", json=HELLO, token=key).body
    assert [run["limits"][name] for name in ("timeout_ms", "memory_mb", "pids", "cpu_ms")] == [2000, 128, 32, 2000]
    late = service.post("/v1/runs", json={"language": "bash", "code": "sleep 20"}, token=key).body
    assert (late["status"], late["timed_out"]) == ("timeout", True)


def test_the_plans_storage_bounds_uploads_and_artifacts(service):
    key = made(service, "test-small")["key"]

    def upload(size):
        return service.upload(bytes(size), token=key)

    refused(upload(1024 * 1024 + 1), 413, "storage_quota_exceeded", "file")
    assert upload(600_000).status == 200
    refused(upload(600_000), 413, "storage_quota_exceeded", "file")
    fill = {"language": "bash", "code": "head -c 500000 /dev/zero > outputs/x"}
    assert len(service.post("/v1/runs", json=fill, token=key).body["artifacts"]) == 1
    reply = refused(service.post("/v1/runs", json=fill, token=key), 413, "storage_quota_exceeded")
    assert "max_artifact_files" in reply.body["error"]["message"]
    without = service.post("/v1/runs", json=HELLO | {"limits": {"max_artifact_files": 0}}, token=key)
    assert (without.status, without.body["stdout"]) == (200, "hi\n")


def test_a_keys_share_of_the_places_and_of_the_queue(service):
    key, other = made(service, "test-share")["key"], made(service)["key"]
    code = "while [ ! -e outputs/stop ]; do sleep 0.05; done"
    first = service.submit("bash", code, token=key)
    until(lambda: service.get(f"/v1/runs/{first}", token=key).body["status"] == "running", 60)
    second = service.submit("bash", "echo second", token=key)
    reply = refused(service.post("/v1/runs", json=HELLO, token=key), 429, "too_many_runs")
    assert int(reply.headers["retry-after"]) >= 1
    assert service.post("/v1/runs", json=HELLO, token=other).status == 200, "nobody else waits for it"
    assert service.get(f"/v1/runs/{second}", token=key).body["status"] == "queued"
    service.post(f"/v1/runs/{first}/cancel", token=key, json={})
    assert service.ended(second, token=key)["stdout"] == "second\n"
    assert service.get("/v1/usage", token=key).body["runs"] == 2


def test_a_disabled_key_mid_run_ends_that_run_and_no_other(service):
    key = made(service)
    run = service.submit("bash", "sleep 1; echo done", token=key["key"])
    until(lambda: service.get(f"/v1/runs/{run}", token=key["key"]).body["status"] == "running", 60)
    assert admin(service, "PATCH", f"/{key['id']}", {"disabled": True}).body["disabled"] is True
    refused(service.post("/v1/runs", json=HELLO, token=key["key"]), 401, "disabled_key")
    refused(service.get(f"/v1/runs/{run}", token=key["key"]), 401, "disabled_key")
    assert service.get(ME, token=key["key"]).body["disabled"] is True
    until(lambda: _runs_used(service, key) == 1, 60)
    assert admin(service, "PATCH", f"/{key['id']}", {"disabled": False}).status == 200
    assert service.ended(run, token=key["key"])["stdout"] == "done\n"


def _runs_used(service, key):
    # Enabled for a moment only: what was counted is told to the key alone.
    admin(service, "PATCH", f"/{key['id']}", {"disabled": False})
    used = service.get("/v1/usage", token=key["key"]).body["runs"]
    admin(service, "PATCH", f"/{key['id']}", {"disabled": True})
    return used


# -- the operator ----------------------------------------------------------------------------------


CALLS = [
    ("GET", "/v1/admin/keys"),
    ("POST", "/v1/admin/keys"),
    ("GET", "/v1/admin/keys/key_x"),
    ("PATCH", "/v1/admin/keys/key_x"),
    ("DELETE", "/v1/admin/keys/key_x"),
    ("GET", "/v1/admin/audit"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_the_admin_calls_want_the_admin_token(service, method, path):
    body = b"{}" if method in ("POST", "PATCH") else None
    headers = address() | {"Content-Type": "application/json"}
    for token, code in (
        (None, "missing_token"),
        (service.token, "invalid_token"),
        (made(service)["key"], "invalid_token"),
    ):
        reply = service.request(method, path, body, headers, token=token)
        refused(reply, 401, code)
        assert reply.headers["www-authenticate"].startswith("Bearer")


def test_the_admin_token_is_no_key(service):
    refused(service.post("/v1/runs", json=HELLO, token=ADMIN_TOKEN), 401, "invalid_token")


def test_list_look_and_change(service):
    keys = [made(service, "pro", label=f"n{n}") for n in range(3)]
    statics = [key for key in admin(service, "GET", "?limit=100").body["data"] if key["static"]]
    page = admin(service, "GET", f"?limit=2&after={statics[-1]['id']}").body
    assert [key["id"] for key in page["data"]] == [keys[2]["id"], keys[1]["id"]]
    assert (page["object"], page["has_more"], page["last_id"]) == ("list", True, keys[1]["id"])
    page = admin(service, "GET", f"?limit=1&after={page['last_id']}").body
    assert [key["label"] for key in page["data"]] == ["n0"]
    one = admin(service, "GET", f"/{keys[0]['id']}").body
    assert (one["plan"], one["runs_left"], one["revoked_at"], one["previous_valid_until"]) == (
        "pro",
        10_000,
        None,
        None,
    )
    assert "key" not in one
    changed = admin(service, "PATCH", f"/{one['id']}", {"plan": "free", "disabled": True}).body
    assert (changed["plan"], changed["disabled"], changed["runs_left"]) == ("free", True, 50)
    assert admin(service, "DELETE", f"/{one['id']}").body == {"id": one["id"], "object": "key", "deleted": True}
    assert admin(service, "GET", f"/{one['id']}").body["revoked_at"]
    refused(admin(service, "DELETE", f"/{one['id']}"), 409, "key_revoked", "id")
    refused(admin(service, "PATCH", f"/{one['id']}", {"disabled": False}), 409, "key_revoked", "id")
    refused(service.get(ME, token=keys[0]["key"]), 401, "invalid_token")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"plan": "gold"}, "unknown_plan", "plan"),
        ({"plan": "../free"}, "unknown_plan", "plan"),
        ({"plan": ""}, "unknown_plan", "plan"),
        ({"plan": 1}, "invalid_type", "plan"),
        ({"plan": "free", "key": "ry_x"}, "unknown_field", "key"),
    ],
)
def test_what_a_key_cannot_be_made_or_changed_to(service, body, code, param):
    reply = refused(service.post("/v1/admin/keys", json=body, token=ADMIN_TOKEN), 400, code, param)
    if code == "unknown_plan":
        assert "free" in reply.body["error"]["message"]
    key = made(service)["id"]
    refused(admin(service, "PATCH", f"/{key}", body), 400, code, param)


def test_what_else_is_wrong_with_an_admin_call(service):
    key = made(service)["id"]
    refused(admin(service, "PATCH", f"/{key}", {}), 400, "missing_field", "plan")
    refused(admin(service, "PATCH", f"/{key}", {"disabled": None}), 400, "missing_field", "plan")
    refused(admin(service, "PATCH", f"/{key}", {"disabled": "yes"}), 400, "invalid_type", "disabled")
    refused(service.post("/v1/admin/keys", json={}, token=ADMIN_TOKEN), 400, "missing_field", "plan")
    for unknown in ("key_" + "x" * 28, "x", "key_%00", "..%2f"):
        reply = admin(service, "GET", f"/{unknown}")
        assert reply.status == 404
    refused(admin(service, "GET", "?after=key_x"), 400, "invalid_cursor", "after")
    refused(service.get("/v1/admin/audit?order=asc", token=ADMIN_TOKEN), 400, "invalid_value", "order")


def test_the_trail_is_kept_and_told_and_holds_no_key(service):
    key = made(service, label="trail")
    admin(service, "PATCH", f"/{key['id']}", {"plan": "pro"})
    new = service.post(f"{ME}/rotate", token=key["key"], json={}).body["key"]
    admin(service, "DELETE", f"/{key['id']}")
    reply = service.get(f"/v1/admin/audit?subject={key['id']}", token=ADMIN_TOKEN)
    entries = reply.body["data"]
    assert [(entry["action"], entry["actor"]) for entry in entries] == [
        ("key.revoke", "admin"),
        ("key.rotate", key["id"]),
        ("key.update", "admin"),
        ("key.create", "admin"),
    ]
    assert entries[2]["detail"] == {"plan": "pro"}
    page = service.get(f"/v1/admin/audit?subject={key['id']}&limit=3", token=ADMIN_TOKEN).body
    rest = service.get(f"/v1/admin/audit?subject={key['id']}&after={page['last_id']}", token=ADMIN_TOKEN).body
    assert (page["has_more"], [entry["action"] for entry in rest["data"]]) == (True, ["key.create"])
    log = (service.state / "log" / "service.log").read_text()
    for event in ("key.created", "key.changed", "key.rotated", "key.revoked"):
        assert f'"event":"{event}"' in log
    for text in (key["key"], new, ADMIN_TOKEN):
        assert text not in log
        assert text not in reply.raw.decode()
