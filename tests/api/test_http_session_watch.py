"""The changes beneath a session's directories, streamed and kept, on the real service."""

from __future__ import annotations

import json
import time

import pytest


def refused(reply, status, code, param="path"):
    assert (reply.status, reply.body["error"]["code"]) == (status, code), reply.body
    assert reply.body["error"]["param"] == param


@pytest.fixture
def inside(service):
    """The path of a session of its own."""
    reply = service.post("/v1/sessions", json={"language": "bash"})
    assert reply.status == 201, reply.body
    yield f"/v1/sessions/{reply.body['id']}"
    service.request("DELETE", f"/v1/sessions/{reply.body['id']}")


def run(service, inside, code):
    reply = service.post(f"{inside}/runs", json={"code": code})
    assert reply.status == 200, reply.body
    return reply.body["stdout"]


def watching(service, inside, path, **fields):
    reply = service.post(f"{inside}/files/watchers", json={"path": path, **fields})
    assert reply.status == 201, reply.body
    return f"{inside}/files/watchers/{reply.body['id']}"


def told(service, watcher, wanted, after=0):
    """The events of a watcher as (event, path, to), once `wanted` of them have been seen."""
    deadline = time.monotonic() + 10
    while True:
        found = service.get(f"{watcher}/events?after={after}").body
        if len(found["data"]) >= wanted or time.monotonic() > deadline:
            return [(item["event"], item["path"], item["to"]) for item in found["data"]]
        time.sleep(0.05)


def test_a_directory_is_watched(service, inside):
    run(service, inside, "mkdir -p d/sub")
    watcher = watching(service, inside, "d")
    run(
        service,
        inside,
        "echo 1 > d/a; sleep 0.2; echo 2 >> d/a; sleep 0.2; mv d/a d/b; sleep 0.2; rm d/b; touch d/sub/x",
    )
    assert told(service, watcher, 5) == [
        ("create", "a", None), ("modify", "a", None), ("modify", "a", None), ("move", "a", "b"), ("remove", "b", None)
    ]  # fmt: skip
    assert told(service, watcher, 1, after=3) == [("move", "a", "b"), ("remove", "b", None)]
    assert service.request("DELETE", watcher).body["deleted"] is True
    refused(service.get(f"{watcher}/events"), 404, "watcher_not_found", None)
    refused(service.request("DELETE", watcher), 404, "watcher_not_found", None)


def test_all_beneath_is_watched_also_what_comes_later(service, inside):
    run(service, inside, "mkdir -p d/sub")
    watcher = watching(service, inside, "/work/d", recursive=True)
    run(
        service,
        inside,
        "mkdir -p d/new/deep; sleep 0.2; echo 1 > d/new/deep/f; echo 1 > d/sub/g; sleep 0.2; mv d/new d/sub/",
    )
    run(service, inside, "sleep 0.2; echo 2 > d/sub/new/deep/h; mv d/sub/g /tmp/; sleep 0.2")
    found = told(service, watcher, 10)
    for event in (
        ("create", "new", None), ("create", "new/deep", None), ("create", "new/deep/f", None),
        ("move", "new", "sub/new"), ("create", "sub/new/deep/h", None), ("remove", "sub/g", None),
    ):  # fmt: skip
        assert event in found, found


def test_a_stream_of_changes(service, inside):
    with service.events(f"{inside}/files/watch?path=/work&recursive=1", timeout=20) as events:
        service.request("PUT", f"{inside}/files?path=odd%FF", b"1")
        seen = []
        while not any(item["event"] == "move" for item in seen):
            seen.append(next(events)[1])
        # The file is written beside its place and moved there.
        assert seen[-1]["to"] == "odd%FF"
        assert seen[-1]["raw"] is True
    deadline = time.monotonic() + 15
    while service.get(inside).body["usage"]["processes"] and time.monotonic() < deadline:
        time.sleep(0.2)
    assert service.get(inside).body["usage"]["processes"] == 0


def test_a_stream_ends_with_its_directory_and_says_that_it_is_alive(service, inside):
    run(service, inside, "mkdir d")
    with service.events(f"{inside}/files/watch?path=d", timeout=20) as events:
        assert next(events)[1]["event"] == "keepalive"
        run(service, inside, "rmdir d")
        assert list(events) == []


def test_a_watcher_whose_directory_is_gone_says_so(service, inside):
    run(service, inside, "mkdir d")
    watcher = watching(service, inside, "d")
    run(service, inside, "touch d/x; rm -r d; sleep 0.3")
    found = service.get(f"{watcher}/events").body
    assert (found["data"][-1]["event"], found["ended"]) == ("remove", True)


def test_a_thousand_events_are_kept(service, inside):
    run(service, inside, "mkdir d")
    watcher = watching(service, inside, "d")
    run(service, inside, "for i in $(seq 3000); do : > d/f$i; [ $((i % 500)) = 0 ] && sleep 0.2; done; sleep 0.5")
    found = service.get(f"{watcher}/events").body["data"]
    assert (len(found), found[0]["event"], found[0]["path"]) == (1001, "overflow", None)
    assert found[-1]["path"] == "f3000"
    assert [item["seq"] for item in found] == list(range(found[0]["seq"], found[-1]["seq"] + 1))
    again = service.get(f"{watcher}/events?after={found[-3]['seq']}").body["data"]
    assert [item["event"] for item in again] == ["create", "create"]


def test_eight_watchers_and_streams_are_the_most(service, inside):
    watchers = [watching(service, inside, "/work") for _ in range(8)]
    refused(service.post(f"{inside}/files/watchers", json={"path": "/work"}), 409, "session_busy", None)
    refused(service.get(f"{inside}/files/watch?path=/work"), 409, "session_busy", None)
    service.request("DELETE", watchers[0])
    watching(service, inside, "/work")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("absent", 404, "file_not_found"),
        ("/etc/passwd", 409, "not_a_directory"),
        ("closed", 403, "file_not_permitted"),
        ("", 400, "invalid_path"),
        ("x" * 1025, 400, "invalid_path"),
    ],
)
def test_what_cannot_be_watched_is_refused(service, inside, path, status, code):
    run(service, inside, "mkdir closed; chmod 000 closed")
    refused(service.post(f"{inside}/files/watchers", json={"path": path}), status, code)
    refused(service.get(f"{inside}/files/watch?path={path}"), status, code)


def test_bodies_that_name_nothing_to_watch(service, inside):
    for body in ({}, {"path": 1}, {"path": "x", "recursive": "1"}, {"path": "x", "depth": 1}):
        assert service.post(f"{inside}/files/watchers", json=body).status == 400
    assert service.get(f"{inside}/files/watch?path=/work&recursive=2").status == 400
    assert json.loads(service.get(f"{inside}/files/watchers/x/events?after=-1").raw)["error"]["param"] == "after"
