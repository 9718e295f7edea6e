"""Closing a stream sends no request: neither its start again, nor a cancellation."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import pytest
from runyard import AsyncClient, BadRequest, Client, ConnectionFailed, RunyardError
from runyard.cli import main

from tests.clients.conftest import HASTY

START = "POST /v1/runs"
REFUSED = {"limits": {"timeout_ms": 10**9}}


def typed(monkeypatch, capfd, *arguments, url, key="dev_123"):
    """Run the command in this process: (exit code, lines of stderr)."""
    monkeypatch.setenv("RUNYARD_URL", url)
    monkeypatch.setenv("RUNYARD_API_KEY", key)
    capfd.readouterr()
    code = main(list(arguments))
    return code, capfd.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("arguments", "key", "said"),
    [
        (["-r", "bash", "true", "--timeout", "999s"], "dev_123", "limits.timeout_ms"),
        (["-r", "bash", "true", "--limit", "nonsense=1"], "dev_123", "limits.nonsense"),
        (["-r", "cobol", "true"], "dev_123", "language"),
        (["-r", "bash", "true", "--detach", "--timeout", "999s"], "dev_123", "limits.timeout_ms"),
        (["-r", "bash", "true"], "wrong", "Invalid token"),
    ],
)
def test_a_refused_exec_sends_its_request_once_and_says_so_once(cut, monkeypatch, capfd, arguments, key, said):
    code, lines = typed(monkeypatch, capfd, "exec", *arguments, url=cut.url, key=key)
    assert (code, cut.requests) == (125, [START])
    (message,) = (line for line in lines if not line.startswith("runyard:  "))
    assert said in message
    assert len(lines) == len(set(lines)) <= 3, lines


def test_an_exec_without_an_answer_is_one_message(faults, monkeypatch, capfd):
    monkeypatch.setattr("runyard._retry.RetryPolicy.pause_s", lambda *_: 0.0)
    for _ in range(5):
        faults.hang_up()
    code, lines = typed(monkeypatch, capfd, "exec", "-r", "bash", "true", url=faults.url)
    assert (code, len(faults.seen), len({seen.headers["idempotency-key"] for seen in faults.seen})) == (125, 5, 1)
    assert [line for line in lines if "resuming" not in line] == lines[-2:]
    assert "runyard doctor" in lines[-1]


def test_a_stream_that_was_refused_sends_nothing_when_it_is_closed(service, cut):
    with Client(cut.url, service.token) as client:
        stream = client.runs.stream("bash", "true", **REFUSED)
        with pytest.raises(BadRequest), stream:
            next(stream)
        stream.close()
        assert stream.cancel() is None  # nothing was started
        assert cut.requests == [START]


def test_a_stream_that_was_not_begun_sends_nothing(service, cut):
    with Client(cut.url, service.token) as client:
        with client.runs.stream("bash", "true") as stream:
            pass
        stream.close()
        assert stream.cancel() is None
    assert cut.requests == []


def test_closing_a_live_stream_leaves_the_run_alone_and_cancelling_ends_it(service, cut):
    with Client(cut.url, service.token) as client:
        stream = client.runs.stream("bash", "echo up; sleep 50")
        assert any(event.text for event in stream)
        sent = list(cut.requests)
        stream.close()
        assert cut.requests == sent
        assert client.runs.get(stream.run_id).status == "running"
        assert stream.cancel().status == "cancelled"
        with client.runs.stream("bash", "echo up; sleep 50") as left:
            assert any(event.text for event in left)
        assert client.runs.get(left.run_id).status == "cancelled"


def test_the_asyncio_client_closes_in_the_same_way(service, cut):
    async def story():
        async with AsyncClient(cut.url, service.token) as client:
            refused = client.runs.stream("bash", "true", **REFUSED)
            with suppress(BadRequest):
                async with refused:
                    await anext(refused)
            await refused.close()
            assert await refused.cancel() is None
            assert cut.requests == [START]
            stream = client.runs.stream("bash", "echo up; sleep 50")
            async for event in stream:
                if event.text:
                    break
            sent = list(cut.requests)
            await stream.close()
            assert cut.requests == sent
            assert (await client.runs.get(stream.run_id)).status == "running"
            assert (await stream.cancel()).status == "cancelled"

    asyncio.run(story())


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 429, 500, 503])
def test_no_refusal_of_a_start_makes_the_end_of_the_block_send(faults, faulty, status):
    for _ in range(9):
        faults.refuse(status, "refused", Retry_After="3600")
    with pytest.raises(RunyardError), faulty.runs.stream("bash", "true") as stream:
        next(stream)
    assert [(seen.method, seen.path) for seen in faults.seen] == [("POST", "/v1/runs")]


def test_a_start_that_was_interrupted_is_cancelled_but_one_that_was_turned_away_is_not(faults):
    """An interrupt, unlike an answer, leaves open whether the run was started: only then is it looked for."""
    interrupted = []

    def interrupt(seconds):
        interrupted.append(seconds)
        raise KeyboardInterrupt

    for lost in (False, True):
        faults.seen.clear()
        if lost:
            faults.hang_up()
            faults.answer(202, {"id": "run_1", "status": "queued", "language": "bash"})
            faults.answer(200, {"id": "run_1", "status": "cancelled", "language": "bash"})
        else:
            faults.refuse(503, "overloaded", Retry_After="1")
        with pytest.MonkeyPatch.context() as patch, Client(faults.url, "key_1", retries=HASTY) as client:
            patch.setattr("runyard._sync.time.sleep", interrupt)
            with pytest.raises(KeyboardInterrupt), client.runs.stream("bash", "true") as stream:
                next(stream)
        paths = [seen.path for seen in faults.seen]
        assert paths == (["/v1/runs", "/v1/runs", "/v1/runs/run_1/cancel"] if lost else ["/v1/runs"])
    assert len(interrupted) == 2


def test_a_lost_stream_is_one_message_and_one_cancellation(faults, monkeypatch, capfd):
    run = {"id": "run_1", "status": "queued", "language": "bash"}
    faults.answer(202, run)
    event = json.dumps({"seq": 1, "event": "error", "data": {"id": "run_1"}, "t_ms": 1}).encode()
    faults.answer(200, event + b"\n")
    faults.refuse(404, "run_not_found")
    code, lines = typed(monkeypatch, capfd, "exec", "-r", "bash", "true", url=faults.url)
    assert (code, [seen.method for seen in faults.seen]) == (125, ["POST", "GET", "GET"])
    assert len(lines) == len(set(lines)), lines


def test_a_stream_that_cannot_be_opened_is_said_once(faults, monkeypatch, capfd):
    faults.answer(202, {"id": "run_1", "status": "queued", "language": "bash"})
    faults.refuse(404, "run_not_found")
    faults.refuse(404, "run_not_found")
    code, lines = typed(monkeypatch, capfd, "exec", "-r", "bash", "true", url=faults.url)
    assert (code, [seen.path for seen in faults.seen][2:]) == (125, ["/v1/runs/run_1/cancel"])
    assert len(lines) == len(set(lines)), lines
    assert sum("no: run_not_found" in line for line in lines) == 1, lines


def test_nobody_there_is_said_once(monkeypatch, capfd):
    monkeypatch.setattr("runyard._retry.RetryPolicy.pause_s", lambda *_: 0.0)
    code, lines = typed(monkeypatch, capfd, "exec", "-r", "bash", "true", url="http://127.0.0.1:9")
    assert code == 125
    assert sum("127.0.0.1:9" in line for line in lines) == 1, lines


def test_a_start_that_is_never_answered_sends_its_attempts_and_no_more(faults, faulty):
    for _ in range(4):
        faults.hang_up()
    with pytest.raises(ConnectionFailed), faulty.runs.stream("bash", "true") as stream:
        next(stream)
    assert len(faults.seen) == 4
