"""The life of sessions, on the real service: frozen, paused, changed, bounded by plans, and reached by tokens."""

from __future__ import annotations

import json
import time

import pytest

from tests.support.service import ADMIN_TOKEN

JSON = {"Content-Type": "application/json"}


def refused(reply, status, code, param=None):
    assert (reply.status, reply.body["error"]["code"]) == (status, code), reply.body
    assert reply.body["error"]["param"] == param


def create(service, *, token=None, **fields):
    reply = service.post("/v1/sessions", json={"language": "bash", **fields}, token=token or service.token)
    assert reply.status == 201, reply.body
    return reply.body


def patch(service, path, token=None, **fields):
    return service.request("PATCH", path, json.dumps(fields).encode(), JSON, token=token or service.token)


@pytest.fixture
def made(service):
    """Create sessions, and delete them at the end."""
    paths = []

    def make(*, token=None, **fields):
        path = f"/v1/sessions/{create(service, token=token, **fields)['id']}"
        paths.append((path, token or service.token))
        return path

    yield make
    for path, token in paths:
        service.request("DELETE", path, token=token)


def status_of(service, path, token=None):
    return service.get(path, token=token or service.token).body["status"]


def until_status(service, path, wanted, seconds=15, token=None):
    deadline = time.monotonic() + seconds
    while (found := status_of(service, path, token)) != wanted:
        assert time.monotonic() < deadline, f"{path} is {found}, not {wanted}"
        time.sleep(0.1)


def run(service, path, code, token=None):
    reply = service.post(f"{path}/runs", json={"code": code}, token=token or service.token)
    assert reply.status == 200, reply.body
    return reply.body["stdout"]


# -- frozen ------------------------------------------------------------------------------------------


def test_an_idle_session_is_frozen_and_what_runs_in_it_stands_still(service, made):
    path = made(freeze_after_s=1)
    counting = {"command": "while :; do date +%s%N >> ticks; sleep 0.05; done", "tag": "clock"}
    assert service.post(f"{path}/processes", json=counting).status == 201
    deadline = time.monotonic() + 15
    while not service.get(f"{path}/files/stat?path=ticks").body.get("size") and time.monotonic() < deadline:
        time.sleep(0.1)
    until_status(service, path, "frozen")
    frozen_at = time.time_ns()
    time.sleep(1.5)
    thawed_at = time.time_ns()
    time.sleep(0.2)
    ticks = [int(line) for line in service.get(f"{path}/files?path=ticks").raw.split()]
    assert ticks[0] < frozen_at
    during = [tick for tick in ticks if frozen_at + 10**8 < tick < thawed_at - 10**8]
    assert during == []


@pytest.mark.parametrize(
    "look",
    ["", "/processes", "/processes/tag:waits", "/processes/tag:over/events"],
)
def test_looking_does_not_thaw(service, made, look):
    path = made(freeze_after_s=1)
    service.post(f"{path}/processes", json={"command": "exec sleep 300", "tag": "waits"})
    service.post(f"{path}/processes", json={"command": "echo over", "tag": "over", "wait": True})
    until_status(service, path, "frozen")
    assert service.get(path + look).status == 200
    assert status_of(service, path) == "frozen"


@pytest.mark.parametrize(
    ("method", "call", "body"),
    [
        ("POST", "/runs", {"code": "true"}),
        ("POST", "/processes", {"command": "true"}),
        ("POST", "/processes/tag:waits/signal", {"signal": "SIGUSR1"}),
        ("GET", "/files/list?path=/work", None),
        ("DELETE", "/processes/tag:waits", None),
    ],
)
def test_any_use_thaws(service, made, method, call, body):
    path = made(freeze_after_s=1)
    service.post(f"{path}/processes", json={"command": "trap '' USR1; while :; do sleep 1; done", "tag": "waits"})
    until_status(service, path, "frozen")
    before = service.get(path).body["last_active_at"]
    reply = service.request(method, path + call) if body is None else service.post(path + call, json=body)
    assert reply.status in (200, 201), reply.body
    after = service.get(path).body
    assert (after["status"] in ("ready", "busy"), after["last_active_at"] > before) == (True, True)


def test_zero_is_never_frozen(service, made):
    path = made(freeze_after_s=0)
    time.sleep(2.5)
    assert status_of(service, path) == "ready"


def test_a_process_out_of_time_ends_in_a_frozen_session(service, made):
    path = made(freeze_after_s=1)
    service.post(f"{path}/processes", json={"command": "exec sleep 300", "tag": "late", "timeout_ms": 4000})
    until_status(service, path, "frozen", seconds=3.5)
    deadline = time.monotonic() + 15
    while (process := service.get(f"{path}/processes/tag:late").body)["status"] != "ended":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert process["timed_out"] is True
    until_status(service, path, "frozen")


@pytest.mark.parametrize("state", ["frozen", "paused"])
def test_a_session_at_rest_is_deleted_at_once(service, state):
    path = f"/v1/sessions/{create(service, freeze_after_s=1)['id']}"
    service.post(f"{path}/processes", json={"command": "exec sleep 300"})
    if state == "paused":
        assert service.post(f"{path}/pause").status == 200
    until_status(service, path, state)
    began = time.monotonic()
    assert service.request("DELETE", path).status == 200
    assert time.monotonic() - began < 5
    assert service.get(path).body["end_reason"] == "deleted"


# -- paused ------------------------------------------------------------------------------------------


def test_a_paused_session_refuses_every_use_and_its_idle_time_stands_still(service, made):
    path = made(idle_timeout_s=3)
    run(service, path, "echo kept > kept")
    paused = service.post(f"{path}/pause").body
    assert paused["status"] == "paused"
    assert service.post(f"{path}/pause").status == 200
    for reply in (
        service.post(f"{path}/runs", json={"code": "true"}),
        service.post(f"{path}/processes", json={"command": "true"}),
        service.get(f"{path}/files?path=kept"),
        service.request("PUT", f"{path}/files?path=new", b"x" * 100_000),
    ):
        refused(reply, 409, "session_paused")
    time.sleep(4)
    assert status_of(service, path) == "paused"
    assert service.post(f"{path}/resume").body["status"] == "ready"
    assert run(service, path, "cat kept") == "kept\n"
    assert service.post(f"{path}/resume").body["status"] == "ready"
    until_status(service, path, "ended")
    assert service.get(path).body["end_reason"] == "idle"


def test_a_session_with_a_run_under_way_is_not_paused(service, made):
    path = made()
    under_way = service.post(f"{path}/runs", json={"code": "sleep 20", "background": True}).body
    until_status(service, path, "busy")
    refused(service.post(f"{path}/pause"), 409, "session_busy")
    service.post(f"/v1/runs/{under_way['id']}/cancel")


def test_on_idle_pause_pauses_where_others_end(service, made):
    path = made(idle_timeout_s=1, on_idle="pause", max_age_s=8)
    until_status(service, path, "paused")
    service.post(f"{path}/resume")
    assert run(service, path, "echo back") == "back\n"
    until_status(service, path, "ended", seconds=20)
    assert service.get(path).body["end_reason"] == "age"


# -- changed -----------------------------------------------------------------------------------------


def test_a_patch_changes_times_and_metadata(service, made):
    path = made(idle_timeout_s=600, metadata={"a": "1"}, external_id=f"ext-{time.time_ns()}")
    reply = patch(service, path, idle_timeout_s=700, freeze_after_s=1, on_idle="pause", metadata={"b": "2"})
    assert reply.status == 200, reply.body
    until_status(service, path, "frozen")
    for body in (reply.body, service.get(path).body):
        told = {name: body[name] for name in ("idle_timeout_s", "freeze_after_s", "on_idle", "metadata")}
        assert told == {"idle_timeout_s": 700, "freeze_after_s": 1, "on_idle": "pause", "metadata": {"b": "2"}}
    assert service.get(f"/v1/sessions?metadata.a=1&external_id={reply.body['external_id']}").body["data"] == []
    listed = service.get(f"/v1/sessions?metadata.b=2&status=frozen&external_id={reply.body['external_id']}").body
    assert [one["id"] for one in listed["data"]] == [reply.body["id"]]


def test_expires_in_s_sets_the_end_whatever_happens(service, made):
    path = made(idle_timeout_s=600)
    patch(service, path, expires_in_s=2)
    for _ in range(4):
        service.get(f"{path}/files/stat?path=/work")
        time.sleep(0.3)
    until_status(service, path, "ended", seconds=6)
    assert service.get(path).body["end_reason"] == "idle"


def test_an_old_session_ends_with_its_age_and_its_run_is_killed(service):
    path = f"/v1/sessions/{create(service, max_age_s=2)['id']}"
    under_way = service.post(f"{path}/runs", json={"code": "sleep 60", "background": True}).body
    until_status(service, path, "ended")
    assert service.get(path).body["end_reason"] == "age"
    assert service.ended(under_way["id"])["status"] == "killed"
    refused(patch(service, path, idle_timeout_s=5), 410, "session_ended", "id")
    for call in ("pause", "resume", "token"):
        refused(service.post(f"{path}/{call}"), 410, "session_ended", "id")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"idle_timeout_s": 0}, "invalid_value", "idle_timeout_s"),
        ({"max_age_s": 604_801}, "invalid_value", "max_age_s"),
        ({"expires_in_s": 0}, "invalid_value", "expires_in_s"),
        ({"freeze_after_s": -1}, "invalid_value", "freeze_after_s"),
        ({"freeze_after_s": 86_401}, "invalid_value", "freeze_after_s"),
        ({"on_idle": "explode"}, "invalid_value", "on_idle"),
        ({"network": {"allow": ["A"]}}, "invalid_value", "network.allow.0"),
        ({"env": {}}, "unknown_field", "env"),
        ({"limits": {"memory_mb": 4096}}, "unknown_field", "limits"),
        ({"metadata": {"x": 1}}, "invalid_type", "metadata.x"),
    ],
)
def test_a_wrong_patch_names_its_field(service, made, body, code, param):
    refused(patch(service, made(), **body), 400, code, param)


@pytest.mark.parametrize("text", ["", "x" * 129, "line\nfeed"])
def test_a_wrong_external_id_is_refused(service, text):
    refused(
        service.post("/v1/sessions", json={"language": "bash", "external_id": text}),
        400,
        "invalid_value",
        "external_id",
    )


def test_an_external_id_is_of_one_session_of_a_key(service, made):
    name = f"ext-{time.time_ns()}"
    made(external_id=name)
    again = service.post("/v1/sessions", json={"language": "bash", "external_id": name})
    refused(again, 409, "external_id_in_use", "external_id")
    assert made(external_id=name, token=service.other_token)


# -- created in other ways ---------------------------------------------------------------------------


def test_a_session_is_created_in_the_background(service):
    reply = service.post("/v1/sessions", json={"language": "bash", "background": True})
    assert (reply.status, reply.body["status"]) == (202, "creating")
    path = f"/v1/sessions/{reply.body['id']}"
    until_status(service, path, "ready")
    assert run(service, path, "echo here") == "here\n"
    service.request("DELETE", path)


def test_what_fails_in_the_background_says_why(service):
    body = {
        "language": "bash",
        "background": True,
        "files": [{"path": "a", "content": "x"}, {"path": "a/b", "content": "y"}],
    }
    reply = service.post("/v1/sessions", json=body)
    if reply.status == 202:
        path = f"/v1/sessions/{reply.body['id']}"
        until_status(service, path, "ended")
        ended = service.get(path).body
        assert (ended["end_reason"], ended["error"]["code"]) == ("failed", "not_a_directory")
    else:
        assert reply.body["error"]["param"].startswith("files")


def test_a_streamed_creation_ends_with_the_session(service):
    with service.events(path="/v1/sessions", json={"language": "bash", "stream": True}) as lines:
        events = [event for _, event in lines]
    assert [event["event"] for event in events] == ["info", "result"]
    made = events[-1]["data"]
    assert (made["status"], made["object"]) == ("ready", "session")
    service.request("DELETE", f"/v1/sessions/{made['id']}")


# -- tokens ------------------------------------------------------------------------------------------


def test_a_token_opens_its_session_alone(service, made):
    path, other = made(), made()
    reply = service.post(f"{path}/token")
    token = reply.body["token"]
    assert service.post(f"{path}/token").body["token"] == token
    assert token.startswith("st_")
    assert run(service, path, "echo by token", token=token) == "by token\n"
    assert service.get(path, token=token).body["id"] == path.rpartition("/")[2]
    for reply in (
        service.get(other, token=token),
        service.get("/v1/sessions", token=token),
        service.get("/v1/runs", token=token),
        service.post("/v1/runs", json={"language": "bash", "code": "true"}, token=token),
        service.post("/v1/sessions", json={"language": "bash"}, token=token),
        service.post(f"{other}/token", token=token),
        service.get(path, token=token[:-1] + ("0" if token[-1] != "0" else "1")),
        service.get(path, token="st_"),
    ):
        refused(reply, 401, "invalid_token")
    assert service.request("DELETE", path, token=token).status == 200
    refused(service.get(path, token=token), 401, "invalid_token")


def test_a_token_is_void_while_its_key_is_disabled(service, new_key):
    key = new_key(plan="unlimited")
    path = f"/v1/sessions/{create(service, token=key['key'])['id']}"
    token = service.post(f"{path}/token", token=key["key"]).body["token"]
    assert service.get(path, token=token).status == 200
    disable(service, key, disabled=True)
    refused(service.get(path, token=token), 401, "invalid_token")
    disable(service, key, disabled=False)
    assert service.get(path, token=token).status == 200
    assert service.request("DELETE", f"/v1/admin/keys/{key['id']}", token=ADMIN_TOKEN).status == 200
    refused(service.get(path, token=token), 401, "invalid_token")


def disable(service, key, *, disabled):
    reply = patch(service, f"/v1/admin/keys/{key['id']}", token=ADMIN_TOKEN, disabled=disabled)
    assert reply.status == 200, reply.body


# -- plans -------------------------------------------------------------------------------------------


@pytest.fixture
def new_key(service):
    """Make a key of a plan."""

    def make(plan):
        reply = service.post("/v1/admin/keys", json={"plan": plan, "label": "life"}, token=ADMIN_TOKEN)
        assert reply.status == 201, reply.body
        return reply.body

    return make


def test_a_plan_bounds_sessions(service, new_key):
    token = new_key("test-sessions")["key"]
    made = create(service, token=token)
    path = f"/v1/sessions/{made['id']}"
    assert (made["max_age_s"], made["limits"]["memory_mb"]) == (60, 128)
    refused(service.post("/v1/sessions", json={"language": "bash"}, token=token), 429, "too_many_sessions")
    for body, param in (
        ({"max_age_s": 61}, "max_age_s"),
        ({"limits": {"memory_mb": 129}}, "limits.memory_mb"),
    ):
        reply = service.post("/v1/sessions", json={"language": "bash", **body}, token=token)
        refused(reply, 400, "limit_exceeds_maximum", param)
    refused(patch(service, path, token=token, max_age_s=61), 400, "limit_exceeds_maximum", "max_age_s")
    run = service.post(f"{path}/runs", json={"code": "true", "limits": {"timeout_ms": 3000}}, token=token)
    assert (run.status, run.body["limits"]["timeout_ms"]) == (200, 3000)
    assert service.request("DELETE", path, token=token).status == 200


def test_a_session_counts_as_a_run(service, new_key):
    token = new_key("test-sessions")["key"]
    for _ in range(4):
        path = f"/v1/sessions/{create(service, token=token)['id']}"
        service.request("DELETE", path, token=token)
    refused(service.post("/v1/sessions", json={"language": "bash"}, token=token), 429, "quota_exceeded")
    refused(service.post("/v1/runs", json={"language": "bash", "code": "true"}, token=token), 429, "quota_exceeded")


def test_sessions_beyond_their_seconds_end_and_are_not_created(service, new_key):
    token = new_key("test-session-seconds")["key"]
    path = f"/v1/sessions/{create(service, token=token)['id']}"
    until_status(service, path, "ended", seconds=30, token=token)
    assert service.get(path, token=token).body["end_reason"] == "quota"
    refused(service.post("/v1/sessions", json={"language": "bash"}, token=token), 429, "quota_exceeded")
    used = service.get("/v1/usage", token=token).body
    assert used["sessions"] == 1
    assert 3 <= used["session_seconds"] < 30
    assert used["by_language"]["bash"]["session_seconds"] == used["session_seconds"]
    # It was never frozen, so it was charged for its limit all the time.
    charged = used["session_seconds"] * 512 / 1024
    assert charged * 0.9 < used["session_gb_seconds"] < charged * 1.5
    assert used["egress_bytes"] == 0


def test_sessions_of_a_disabled_key_are_killed_and_those_of_others_are_not(service, new_key, made):
    key, other = new_key("unlimited"), made()
    path = f"/v1/sessions/{create(service, token=key['key'])['id']}"
    run = service.post(f"{path}/runs", json={"code": "sleep 60", "background": True}, token=key["key"]).body

    def disable(disabled):
        body = json.dumps({"disabled": disabled}).encode()
        assert service.request("PATCH", f"/v1/admin/keys/{key['id']}", body, JSON, token=ADMIN_TOKEN).status == 200

    disable(True)
    deadline = time.monotonic() + 20
    while service.get(f"/v1/admin/runs?key={key['id']}", token=ADMIN_TOKEN).body["data"][0]["status"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    disable(False)
    assert service.get(path, token=key["key"]).body["end_reason"] == "killed"
    assert service.get(f"/v1/runs/{run['id']}", token=key["key"]).body["status"] == "killed"
    assert status_of(service, other) in ("ready", "frozen")


# -- history -----------------------------------------------------------------------------------------


def test_runs_are_found_by_their_session(service, made):
    path, other = made(), made()
    ids = [service.post(f"{path}/runs", json={"code": "true"}).body["id"] for _ in range(3)]
    service.post(f"{other}/runs", json={"code": "true"})
    listed = service.get(f"/v1/runs?session_id={path.rpartition('/')[2]}&limit=2").body
    assert [run["id"] for run in listed["data"]] == ids[:0:-1]
    following = service.get(f"/v1/runs?session_id={path.rpartition('/')[2]}&limit=2&after={ids[1]}").body
    assert [run["id"] for run in following["data"]] == ids[:1]


def test_a_run_is_found_by_its_external_id(service):
    name = f"run-{time.time_ns()}"
    body = {"language": "bash", "code": "true", "external_id": name}
    made = service.post("/v1/runs", json=body).body
    assert made["external_id"] == name
    listed = service.get(f"/v1/runs?external_id={name}").body
    assert [run["id"] for run in listed["data"]] == [made["id"]]
    refused(service.post("/v1/runs", json=body), 409, "external_id_in_use", "external_id")
    assert service.get(f"/v1/runs?external_id={name}", token=service.other_token).body["data"] == []
