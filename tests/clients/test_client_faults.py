"""The Python client against a server that fails as it is told: what is tried again, and what is not."""

from __future__ import annotations

import json
import time

import pytest
from runyard import (
    Client,
    Conflict,
    ConnectionFailed,
    DownloadError,
    ProtocolError,
    RetryPolicy,
    ServerError,
    StreamLost,
    Unavailable,
)
from runyard.errors import RateLimited
from runyard.models import File

RUN = {"id": "run_1", "object": "run", "status": "succeeded", "language": "bash"}


def event(seq, kind, data):
    return json.dumps({"seq": seq, "event": kind, "data": data, "t_ms": 1}).encode() + b"\n"


@pytest.mark.parametrize("status", [429, 503])
def test_a_run_that_was_turned_away_is_asked_for_again_with_the_same_key(faults, faulty, status):
    faults.refuse(status, "overloaded", Retry_After="1")
    faults.answer(200, RUN)
    begun = time.monotonic()
    assert faulty.runs.create("bash", "true").id == "run_1"
    assert time.monotonic() - begun >= 1  # as the service said
    first, second = faults.seen
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body
    assert first.headers["authorization"] == "Bearer key_1"


def test_a_lost_answer_of_a_run_is_asked_for_again_with_the_same_key(faults, faulty):
    faults.hang_up()
    faults.refuse(409, "idempotency_key_in_use")
    faults.answer(200, RUN)
    assert faulty.runs.create("bash", "true").id == "run_1"
    assert len({seen.headers["idempotency-key"] for seen in faults.seen}) == 1


def test_a_conflict_that_is_not_of_our_own_making_is_not_tried_again(faults, faulty):
    faults.refuse(409, "idempotency_key_in_use")
    with pytest.raises(Conflict):
        faulty.runs.create("bash", "true", idempotency_key="theirs")
    assert len(faults.seen) == 1


def test_each_run_has_a_key_of_its_own(faults, faulty):
    for _ in range(2):
        faults.answer(200, RUN)
        faulty.runs.create("bash", "true")
    assert len({seen.headers["idempotency-key"] for seen in faults.seen}) == 2


def test_it_gives_up_after_its_attempts(faults, faulty):
    for _ in range(4):
        faults.refuse(503, "overloaded")
    with pytest.raises(Unavailable) as refused:
        faulty.runs.create("bash", "true")
    assert (refused.value.code, refused.value.param, len(faults.seen)) == ("overloaded", "p", 4)


def test_it_does_not_wait_longer_than_it_may(faults, faulty):
    faults.refuse(429, "rate_limit_exceeded", Retry_After="3600")
    with pytest.raises(RateLimited) as refused:
        faulty.runs.create("bash", "true")
    assert (refused.value.retry_after_s, len(faults.seen)) == (3600, 1)


def test_a_failed_run_is_not_run_again(faults, faulty):
    faults.answer(
        500,
        {
            "error": {"message": "lost", "type": "server_error", "param": None, "code": "worker_lost"},
            "run_id": "run_9",
        },
    )
    with pytest.raises(ServerError) as failed:
        faulty.runs.create("bash", "true")
    assert (failed.value.run_id, failed.value.code, len(faults.seen)) == ("run_9", "worker_lost", 1)


def test_an_upload_is_sent_again_when_it_was_turned_away_but_not_when_its_answer_was_lost(faults, faulty):
    faults.refuse(503, "storage_unavailable", Retry_After="0")
    faults.answer(200, {"id": "file_1", "name": "a", "size": 3, "sha256": "", "content_type": ""})
    assert faulty.files.upload(b"abc", name="a").id == "file_1"
    assert all(b"abc" in seen.body for seen in faults.seen)
    faults.hang_up()
    with pytest.raises(ConnectionFailed):
        faulty.files.upload(b"abc", name="a")
    assert len(faults.seen) == 3


def test_nobody_there_is_a_sentence_with_the_address(faults):
    client = Client("http://127.0.0.1:9", retries=RetryPolicy(retries=0))
    with client, pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:9"):
        client.runs.list()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"id": 1}', b"[" * 100_000])
def test_a_server_that_is_another_is_a_protocol_error(faults, faulty, body):
    faults.answer(200, body)
    with pytest.raises(ProtocolError):
        faulty.runs.create("bash", "true")


def test_an_error_that_is_not_the_apis_is_shown_in_part(faults, faulty):
    faults.answer(404, b"<html>" + b"x" * 10_000)
    with pytest.raises(Exception, match="404") as refused:
        faulty.runs.get("run_1")
    assert len(str(refused.value)) < 500


def test_a_stream_that_ends_early_is_resumed_and_repeats_nothing(faults, faulty):
    faults.answer(202, RUN | {"status": "queued"})
    faults.answer(200, event(1, "info", {}) + event(2, "stdout", "a") + event(3, "stdout", "cut")[:-9])
    faults.answer(200, event(2, "stdout", "a") + event(3, "stdout", "b") + event(4, "result", RUN))
    with faulty.runs.stream("bash", "true") as stream:
        events = list(stream)
    assert [(one.seq, one.text) for one in events] == [(1, ""), (2, "a"), (3, "b"), (4, "")]
    assert [seen.path for seen in faults.seen[1:]] == [f"/v1/runs/run_1/events?after={n}" for n in (0, 2)]


def test_a_start_whose_answer_was_lost_is_followed_by_what_the_conflict_names(faults, faulty):
    faults.hang_up()
    faults.answer(409, {"error": {"message": "", "code": "idempotency_key_in_use"}, "run_id": "run_7"})
    faults.answer(200, event(1, "result", RUN | {"id": "run_7"}))
    with faulty.runs.stream("bash", "true") as stream:
        assert stream.result().id == stream.run_id == "run_7"
    assert [seen.path for seen in faults.seen[1:]] == ["/v1/runs", "/v1/runs/run_7/events?after=0"]


def test_a_stream_that_brings_nothing_is_given_up(faults, faulty):
    faults.answer(202, RUN)
    for _ in range(4):
        faults.answer(200, b"")
    faults.answer(200, RUN)  # the cancelling of what nobody follows any more
    stream = faulty.runs.stream("bash", "true")
    with stream, pytest.raises(StreamLost) as lost:
        list(stream)
    assert (lost.value.run_id, lost.value.after) == ("run_1", 0)


def test_what_is_downloaded_is_what_the_service_said_it_is(faults, faulty):
    file = File("file_1", "a", 3, "00" * 32, "", None, {})
    faults.answer(200, b"abc")
    with pytest.raises(DownloadError, match="hash"):
        faulty.files.read(file)
    faults.answer(200, b"abcd")
    with pytest.raises(DownloadError, match="received more"):
        faulty.files.read(file)


def test_a_file_that_is_in_another_store_is_fetched_there_without_the_key(faults, faulty):
    faults.answer(302, b"", Location=f"{faults.url}/bucket/blob?X-Signature=a%2Bb")
    faults.answer(200, b"abc")
    assert faulty.files.read("file_1") == b"abc"
    assert faults.seen[1].path == "/bucket/blob?X-Signature=a%2Bb"
    assert ["authorization" in seen.headers for seen in faults.seen] == [True, False]
    for _ in range(2):
        faults.answer(302, b"", Location="file:///etc/passwd")
        with pytest.raises(Exception, match=r"link"):
            faulty.files.read("file_1")
        faults.answers.clear()


def test_keys_and_usage_are_asked_for_as_the_api_has_them(faults, faulty):
    key = {"id": "key_1", "object": "key", "key": "ry_x", "plan": "free", "created_at": "2026-01-01T00:00:00Z"}
    known = {"id": "key_1", "object": "key", "prefix": "ry_x", "plan": "free", "created_at": "", "runs_left": 3}
    for status, body in (
        (201, key),
        (200, known),
        (201, key),
        (200, {"id": "key_1", "deleted": True}),
        (200, {"runs": 1}),
    ):
        faults.answer(status, body)
    assert faulty.keys.create().key == "ry_x"
    assert faulty.keys.me().raw["runs_left"] == 3
    assert faulty.keys.rotate().key == "ry_x"
    faulty.keys.delete()
    assert faulty.usage("2026-01-01")["runs"] == 1
    assert [(seen.method, seen.path) for seen in faults.seen] == [
        ("POST", "/v1/keys"),
        ("GET", "/v1/keys/me"),
        ("POST", "/v1/keys/me/rotate"),
        ("DELETE", "/v1/keys/me"),
        ("GET", "/v1/usage?from=2026-01-01"),
    ]


def test_ids_never_leave_their_place_in_the_path(faults, faulty):
    faults.refuse(404, "run_not_found")
    with pytest.raises(Exception, match="run_not_found"):
        faulty.runs.get("../keys/me?x=1#")
    assert faults.seen[0].path == "/v1/runs/..%2Fkeys%2Fme%3Fx%3D1%23"
    with pytest.raises(ValueError, match="id"):
        faulty.runs.get("..")
