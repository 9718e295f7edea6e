"""Runs in the background, their events, and cancel in every state, on the real service."""

from __future__ import annotations

import json
import threading
import time

import pytest

from tests.support.service import unsigned

SLEEP = {"code": "echo begun; sleep 50", "limits": {"timeout_ms": 60_000}}


def cancel(service, run_id, **more):
    return service.post(f"/v1/runs/{run_id}/cancel", data=b"", **more)


def events_of(service, run_id, query="", **headers):
    with service.events(f"/v1/runs/{run_id}/events{query}", headers=headers) as events:
        return [event for _, event in events]


def wait_for_output(service, run_id):
    with service.events(f"/v1/runs/{run_id}/events") as events:
        while next(events)[1]["event"] != "stdout":
            pass


def test_a_background_run_is_accepted_at_once_and_ends(service):
    began = time.monotonic()
    reply = service.post("/v1/runs", json={"language": "bash", "code": "sleep 4; echo done", "background": True})
    assert (reply.status, reply.body["status"], time.monotonic() - began < 3.5) == (202, "queued", True)
    run = service.ended(reply.body["id"])
    assert (run["status"], run["stdout"]) == ("succeeded", "done\n")
    assert run["created_at"] <= run["started_at"] <= run["finished_at"]


def test_a_background_run_is_seen_running(service):
    run_id = service.submit("bash", **SLEEP)
    wait_for_output(service, run_id)
    run = service.get(f"/v1/runs/{run_id}").body
    assert (run["status"], run["started_at"] is not None, run["finished_at"]) == ("running", True, None)
    cancel(service, run_id)


def test_what_is_wrong_is_said_at_once(service):
    reply = service.post("/v1/runs", json={"language": "nope", "code": "x", "background": True})
    assert (reply.status, reply.body["error"]["param"]) == (400, "language")


def test_events_live_and_again_are_the_same(service):
    run_id = service.submit("bash", "for i in 1 2 3; do echo $i; sleep 0.3; done; echo x > outputs/f; exit 2")
    live = events_of(service, run_id)
    again = events_of(service, run_id)
    assert [event["event"] for event in live] == ["info", "phase", *["stdout"] * 3, "artifact", "result"]
    assert unsigned(again) == unsigned(live)
    assert [event["seq"] for event in live] == list(range(1, 8))
    assert unsigned(live[-1]["data"]) == unsigned(service.get(f"/v1/runs/{run_id}").body)


def test_a_waiting_runs_events_can_be_had_too(service):
    run = service.run("bash", "echo out; echo err >&2")
    events = events_of(service, run["id"])
    assert sorted(event["data"] for event in events if event["event"] in ("stdout", "stderr")) == ["err\n", "out\n"]
    assert events[-1]["data"] == run


def test_a_reader_goes_on_where_it_was(service):
    run_id = service.submit("bash", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.2; done")
    got = []
    with service.events(f"/v1/runs/{run_id}/events") as events:
        while len(got) < 4:
            got.append(next(events)[1])
    got += events_of(service, run_id, f"?after={got[-1]['seq']}")
    assert [event["seq"] for event in got] == list(range(1, len(got) + 1))
    assert "".join(e["data"] for e in got if e["event"] == "stdout") == "1\n2\n3\n4\n5\n6\n"


def test_last_event_id(service):
    run = service.run("bash", "echo hi")
    reply = service.get(
        f"/v1/runs/{run['id']}/events", headers={"Accept": "text/event-stream", "Last-Event-ID": "3"}
    )
    assert reply.raw.startswith(b"id: 4\nevent: result\n")


def test_a_reader_that_leaves_does_not_end_a_background_run(service):
    run_id = service.submit("bash", "echo begun; sleep 1; echo done")
    wait_for_output(service, run_id)
    assert service.ended(run_id)["stdout"] == "begun\ndone\n"


def test_a_stream_can_be_followed_by_another_reader(service):
    seen = {}
    with service.events(
        json={"language": "bash", "code": "sleep 0.3; echo hi; sleep 0.5", "stream": True}
    ) as events:
        run_id = next(events)[1]["data"]["id"]
        follower = threading.Thread(target=lambda: seen.update(events=events_of(service, run_id)))
        follower.start()
        own = [event for _, event in events]
    follower.join(30)
    assert seen["events"][1:] == own


# -- cancel -------------------------------------------------------------------------------------------


def test_a_running_run(service):
    run_id = service.submit("bash", "trap '' TERM INT; " + SLEEP["code"], limits=SLEEP["limits"])
    wait_for_output(service, run_id)
    began = time.monotonic()
    reply = cancel(service, run_id)
    assert (reply.status, reply.body["status"], reply.body["cancelled"]) == (200, "cancelled", True)
    assert reply.body["stdout"] == "begun\n"
    assert time.monotonic() - began < 3
    assert service.get(f"/v1/runs/{run_id}").body == reply.body


def test_an_ended_run_stays_as_it_is(service):
    run = service.run("bash", "echo hi")
    assert cancel(service, run["id"]).body == run


@pytest.mark.parametrize("pause_s", [0, 0.002, 0.005, 0.01, 0.02, 0.05])
def test_at_any_moment_of_its_life(service, pause_s):
    run_id = service.submit("python", "import time; time.sleep(0.01); print('done')")
    time.sleep(pause_s)
    run = cancel(service, run_id).body
    assert run["status"] in ("cancelled", "succeeded")
    assert run["cancelled"] == (run["status"] == "cancelled")
    assert service.ended(run_id) == run
    assert [e["event"] for e in events_of(service, run_id)][-1] == "result"


def test_by_twenty_at_once(service):
    run_id = service.submit("bash", **SLEEP)
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(cancel(service, run_id))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {reply.status for reply in replies} == {200}
    assert {json.dumps(reply.body) for reply in replies} == {json.dumps(replies[0].body)}
    assert replies[0].body["status"] == "cancelled"


def test_a_waited_for_run_from_elsewhere(service):
    answer = {}
    with service.events(json={"language": "bash", "stream": True, **SLEEP}) as events:
        run_id = next(events)[1]["data"]["id"]
        threading.Thread(target=lambda: answer.update(run=cancel(service, run_id).body)).start()
        *_, (_, last) = events
    assert (last["event"], last["data"]["status"]) == ("result", "cancelled")


def test_a_fork_bomb(service):
    run_id = service.submit("bash", "bomb() { bomb | bomb & }; echo begun; bomb; sleep 50", limits=SLEEP["limits"])
    wait_for_output(service, run_id)
    assert cancel(service, run_id).body["status"] == "cancelled"


@pytest.mark.parametrize("what", ["cancel", "events"])
def test_anothers_run_and_none(service, what):
    run_id = service.run("bash", "true")["id"]
    call = service.post if what == "cancel" else service.get
    for name, token in ((run_id, service.other_token), ("run_" + "A" * 28, service.token), ("x", service.token)):
        reply = call(f"/v1/runs/{name}/{what}", token=token)
        assert (reply.status, reply.body["error"]["code"]) == (404, "run_not_found")
    assert call(f"/v1/runs/{run_id}/{what}", token="nobody").status == 401


@pytest.mark.parametrize("after", ["-1", "x", "1.5", "99999999999", "%00", ""])
def test_a_bad_after(service, after):
    run_id = service.run("bash", "true")["id"]
    reply = service.get(f"/v1/runs/{run_id}/events?after={after}")
    assert (reply.status, reply.body["error"]["param"]) == (400, "after")
