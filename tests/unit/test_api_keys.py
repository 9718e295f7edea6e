"""Keys in process: what the real service cannot be asked for here — self-service off, no admin token, a gone plan."""

from __future__ import annotations

import time

import pytest

from api.keys.admin_routes import ADMIN
from api.keys.key_format import digest, new_key_text
from protocol.result import Refusal
from records.keys import Actor, NewKey
from tests.unit.test_api_app import Api, assert_envelope

ADMIN_TOKEN = "an-admin-token-1"
RUN = {"language": "python", "code": "print(1+1)"}


@pytest.fixture
def make_api():
    made = []

    def make(**settings):
        made.append(Api(**settings))
        return made[-1]

    yield make
    for api in made:
        api.close()


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def made(api, plan="unlimited"):
    reply = api.client.post("/v1/admin/keys", json={"plan": plan}, headers=bearer(ADMIN_TOKEN))
    assert reply.status_code == 201, reply.json
    return reply.json["key"]


def test_self_service_is_off_in_production(make_api):
    assert_envelope(make_api().client.post("/v1/keys"), 403, "self_service_off")


def test_self_service_where_it_is_on(make_api):
    api = make_api(self_service_keys=True)
    key = api.client.post("/v1/keys", json={"label": "mine"}).json["key"]
    assert api.client.get("/v1/keys/me", headers=bearer(key)).json["label"] == "mine"


def test_without_an_admin_token_the_admin_calls_are_off_and_say_so(make_api):
    api = make_api()
    for headers in (*(bearer(token) for token in ("tok", "None", "an-admin-token-1")), {}):
        reply = api.client.get("/v1/admin/keys", headers=headers)
        assert_envelope(reply, 403, "admin_off")
        assert "ADMIN_TOKEN" in reply.json["error"]["message"]
    assert_envelope(api.client.post("/v1/admin/keys", json={"plan": "pro"}), 403, "admin_off")


STATIC = "s3cret-1:team a@x.org:5:5,s3cret-2:team a@x.org,s3cret-3"


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize("order", ["desc", "asc"])
def test_static_keys_are_listed_beside_stored_ones(make_api, order, limit):
    api = make_api(admin_token=ADMIN_TOKEN, api_keys=STATIC)
    for _ in range(2):
        made(api)
    rows, after = [], ""
    while True:
        page = api.client.get(f"/v1/admin/keys?limit={limit}&order={order}{after}", headers=bearer(ADMIN_TOKEN))
        assert "s3cret" not in page.text
        assert len(page.json["data"]) <= limit
        rows += page.json["data"]
        if not page.json["has_more"]:
            break
        after = f"&after={page.json['last_id']}"
    if order == "asc":
        rows.reverse()
    assert [(row["static"], row["label"]) for row in rows] == [
        (True, "team a@x.org"), (True, "key3"), (False, ""), (False, ""),
    ]  # fmt: skip
    assert len({row["id"] for row in rows}) == 4
    assert rows[2]["created_at"] >= rows[3]["created_at"]


def test_a_static_key_is_read_only(make_api):
    api = make_api(admin_token=ADMIN_TOKEN, api_keys=STATIC)
    mine = api.client.get("/v1/keys/me", headers=bearer("s3cret-2")).json
    path = f"/v1/admin/keys/{mine['id']}"
    shown = api.client.get(path, headers=bearer(ADMIN_TOKEN)).json
    assert (shown["id"], shown["static"], shown["plan"], shown["label"]) == (mine["id"], True, None, "team a@x.org")
    change = api.client.patch(path, json={"disabled": True}, headers=bearer(ADMIN_TOKEN))
    assert_envelope(change, 409, "static_key")
    assert_envelope(api.client.delete(path, headers=bearer(ADMIN_TOKEN)), 409, "static_key")
    assert api.client.get("/v1/keys/me", headers=bearer("s3cret-1")).status_code == 200


def test_entries_of_one_label_share_rate_limit_and_history(make_api):
    api = make_api(api_keys="s3cret-1:team:0.001:2,s3cret-2:team")
    first, second = (api.client.post("/v1/runs", json=RUN, headers=bearer(f"s3cret-{n}")) for n in (1, 2))
    assert (first.status_code, second.status_code) == (200, 200)
    assert_envelope(api.client.post("/v1/runs", json=RUN, headers=bearer("s3cret-1")), 429, "rate_limit_exceeded")
    listed = api.client.get("/v1/runs", headers=bearer("s3cret-2")).json["data"]
    assert [run["id"] for run in listed] == [second.json["id"], first.json["id"]]


def test_nobodys_word_about_his_address_is_believed_by_default(make_api):
    api = make_api(self_service_keys=True, keys_per_hour=2)
    replies = [
        api.client.post("/v1/keys", headers={"X-Forwarded-For": f"198.51.100.{n}"}).status_code for n in range(4)
    ]
    assert replies == [201, 201, 429, 429]


def test_a_proxy_that_is_trusted_is_believed(make_api):
    api = make_api(self_service_keys=True, keys_per_hour=2, trusted_proxies="127.0.0.1")
    asked = ["198.51.100.1", "198.51.100.1", "198.51.100.1", "198.51.100.2", "198.51.100.1, 198.51.100.3"]
    replies = [api.client.post("/v1/keys", headers={"X-Forwarded-For": name}).status_code for name in asked]
    assert replies == [201, 201, 429, 201, 201]


def test_wrong_tokens_of_one_address_cost_no_more_lookups_than_its_bucket_has(make_api):
    api = make_api(address_rps=0.001, address_burst=5)
    asked = []
    store, find = api.app.extensions["runyard"].authenticator, None
    find = store._store.find
    store._store = type("Counted", (), {"find": lambda _, given: asked.append(given) or find(given)})()
    statuses = [api.client.get("/v1/runs", headers=bearer(new_key_text())).status_code for _ in range(50)]
    assert statuses == [401] * 5 + [429] * 45
    assert len(asked) == 5
    reply = api.client.get("/v1/runs", headers=bearer("wrong"))
    assert_envelope(reply, 429, "rate_limit_exceeded")
    assert int(reply.headers["Retry-After"]) > 1
    assert api.client.get("/v1/runs", headers=bearer("tok")).status_code == 200


def test_looking_around_has_a_bucket_ten_times_as_wide(make_api):
    api = make_api(address_rps=0.001, address_burst=2)
    statuses = [api.client.get("/v1/languages").status_code for _ in range(22)]
    assert statuses == [200] * 20 + [429] * 2
    assert api.client.get("/v1/health").status_code == 200, "health is always told"


def test_a_key_whose_plan_is_gone(make_api):
    api = make_api(admin_token=ADMIN_TOKEN)
    text, now_ms = new_key_text(), time.time_ns() // 1_000_000
    key_id = "key_" + "g" * 28
    api.records.keys.create(NewKey(key_id, digest(text), text[:8], "gone", now_ms), Actor("test", now_ms))
    assert_envelope(api.client.post("/v1/runs", json=RUN, headers=bearer(text)), 403, "unknown_plan")
    shown = api.client.get(f"/v1/admin/keys/{key_id}", headers=bearer(ADMIN_TOKEN)).json
    assert (shown["plan"], shown["runs_left"]) == ("gone", None)
    changed = api.client.patch(f"/v1/admin/keys/{key_id}", json={"plan": "pro"}, headers=bearer(ADMIN_TOKEN))
    assert changed.json["plan"] == "pro"
    assert api.client.post("/v1/runs", json=RUN, headers=bearer(text)).status_code == 200


def test_what_the_worker_refuses_is_not_counted(make_api):
    api = make_api(admin_token=ADMIN_TOKEN)
    key = made(api, "free")
    api.worker.answer = Refusal(503, "full", "overloaded")
    assert api.client.post("/v1/runs", json=RUN, headers=bearer(key)).status_code == 503
    assert api.client.get("/v1/keys/me", headers=bearer(key)).json["runs_left"] == 50


def test_the_worker_is_told_the_keys_share_and_a_static_key_has_none(make_api):
    api = make_api(admin_token=ADMIN_TOKEN)
    api.client.post("/v1/runs", json=RUN, headers=bearer(made(api, "free")))
    api.post()
    assert [(job.most_running, job.most_waiting) for job in api.worker.jobs] == [(2, 4), (None, None)]
    assert api.worker.jobs[1].limits == {}


def test_the_admin_calls_spend_no_bucket_of_a_key(make_api):
    reply = make_api(admin_token=ADMIN_TOKEN).client.get("/v1/admin/keys", headers=bearer(ADMIN_TOKEN))
    assert (reply.status_code, [row["static"] for row in reply.json["data"]]) == (200, [True, True])
    assert ADMIN == "admin"
