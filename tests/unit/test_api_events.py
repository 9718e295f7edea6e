"""Events as they are answered: their forms, their numbers, live and again."""

from __future__ import annotations

import json
import threading

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from api.errors import ApiError
from api.files.links import ArtifactLinkSigner
from api.http.media import NDJSON, SSE, media_type
from api.runs.events import RunFollower, encode_events, parse_after, replay_events
from dispatch import EventsUnknown, WorkerLost, WorkerUnavailable
from records import migrate, open_records
from records.runs import NewRun, Run, RunEnd, StoredEvent
from storage.links import Links

SIGNER = ArtifactLinkSigner(Links(("k" * 48,), base_url="http://runs.example", ttl_s=60, now=lambda: 1_000.0))


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("", NDJSON),
        ("*/*", NDJSON),
        ("application/*", NDJSON),
        ("application/x-ndjson", NDJSON),
        ("text/event-stream", SSE),
        ("text/event-stream, */*;q=0.1", SSE),
        ("text/*", SSE),
        ("text/event-stream;q=0.5, application/x-ndjson", NDJSON),
    ],
)
def test_the_form_that_is_asked_for(accept, media):
    assert media_type(parse_accept_header(accept, MIMEAccept)) == media


@pytest.mark.parametrize("accept", ["application/json", "text/html", "*/*;q=0", "image/*, text/plain"])
def test_a_form_that_cannot_be_had(accept):
    with pytest.raises(ApiError) as caught:
        media_type(parse_accept_header(accept, MIMEAccept))
    assert (caught.value.status, caught.value.error.param) == (400, "Accept")


@pytest.mark.parametrize(("text", "number"), [(None, 0), ("0", 0), ("17", 17), ("2147483648", 2**31)])
def test_after(text, number):
    assert parse_after(text, "after") == number


@pytest.mark.parametrize(
    "text", ["", "-1", "1.0", "x", " 1", "1 ", "+1", "²", "٣", "2147483649", "9" * 5000, "1e3", "0x1", "null"]
)
def test_an_after_that_is_none(text):
    with pytest.raises(ApiError) as caught:
        parse_after(text, "after")
    assert (caught.value.status, caught.value.error.param) == (400, "after")
    assert "integer" in caught.value.error.message


def test_the_two_forms_hold_the_same_object():
    message = {"seq": 3, "event": "stdout", "data": "a\r\nevent: x\n\n\u2028é", "t_ms": 12}
    assert json.loads(b"".join(encode_events(iter([message]), NDJSON))) == message
    sse = b"".join(encode_events(iter([message]), SSE)).decode()
    number, kind, data, end, rest = sse.split("\n")
    assert (number, kind, end, rest) == ("id: 3", "event: stdout", "", "")
    assert json.loads(data.removeprefix("data: ")) == message


def record(*, status="succeeded", stdout="", stderr="", artifacts=(), ended=True, error=None):
    run = {"id": "run_1", "status": status, "stdout": stdout, "stderr": stderr, "artifacts": list(artifacts)}
    run |= {"skipped_artifacts": []}
    document = orjson.dumps(run | {"error": error})
    return Run("run_1", "key_1", status, "bash", 1, 1, 2 if ended else None, document)


def kept(*entries):
    return [StoredEvent(seq, orjson.dumps(entry)) for seq, entry in enumerate(entries, start=1)]


def plain(messages):
    return [orjson.loads(orjson.dumps(message)) for message in messages]


TIMELINE = [
    ["info", {"status": "running"}, 0],
    ["stdout", 2, 1],
    ["stderr", 1, 2],
    ["stdout", 1, 3],
    ["artifact", None, 4],
]
ARTIFACT = {"id": "f", "name": "a", "path": "a", "size": 3, "sha256": "0", "content_type": "text/plain"}
RECORDED = ARTIFACT | {"url": None, "expires_at": 2_000_000}
SHOWN = SIGNER.artifact(RECORDED)
ENDED = record(stdout="abc", stderr="x", artifacts=[RECORDED])


def test_an_ended_runs_events_are_told_again_as_they_were():
    events = plain(replay_events(ENDED, kept(*TIMELINE), 0, SIGNER))
    assert [(e["seq"], e["event"], e["t_ms"]) for e in events] == [
        (1, "info", 0),
        (2, "stdout", 1),
        (3, "stderr", 2),
        (4, "stdout", 3),
        (5, "artifact", 4),
        (6, "result", 4),
    ]
    assert [e["data"] for e in events[1:5]] == ["ab", "x", "c", SHOWN]
    assert events[5]["data"] == orjson.loads(ENDED.document) | {"artifacts": [SHOWN]}


@pytest.mark.parametrize("after", range(9))
def test_after_is_exclusive(after):
    assert (
        plain(replay_events(ENDED, kept(*TIMELINE), after, SIGNER))
        == plain(replay_events(ENDED, kept(*TIMELINE), 0, SIGNER))[after:]
    )


def test_an_error_closes_the_stream_of_a_failed_run():
    error = {"message": "m", "type": "server_error", "param": None, "code": "queue_timeout"}
    events = plain(replay_events(record(status="error", error=error), kept(TIMELINE[0]), 0, SIGNER))
    assert [(e["seq"], e["event"]) for e in events] == [(1, "info"), (2, "error")]
    assert events[1]["data"] == error


def test_of_a_lost_run_the_end_is_told_wherever_one_was():
    lost = record(status="error", error={"code": "worker_lost"})
    assert [(e["seq"], e["event"]) for e in replay_events(lost, [], 7, SIGNER)] == [(8, "error")]


@given(
    st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.text(max_size=5)), max_size=20), st.integers(0, 25)
)
def test_whatever_was_written_comes_again(pieces, after):
    texts = {kind: "".join(text for name, text in pieces if name == kind) for kind in ("stdout", "stderr")}
    timeline = kept(["info", {}, 0], *([kind, len(text), 0] for kind, text in pieces))
    events = plain(replay_events(record(**texts), timeline, after + 1, SIGNER))
    assert [(e["event"], e["data"]) for e in events[:-1]] == pieces[after:]


class Worker:
    """A dispatcher that has a run's events, or fails, in the order given."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def events(self, run_id, after, *, client_fd=None, source=None):
        self.asked.append(after)
        answer = self.answers.pop(0) if self.answers else EventsUnknown(run_id)
        for item in answer if isinstance(answer, list) else [answer]:
            if isinstance(item, Exception):
                raise item
            yield item


def event(seq, kind="stdout", data="x"):
    return {"seq": seq, "event": kind, "data": data, "t_ms": seq}


@pytest.fixture
def store(tmp_path):
    url = f"sqlite:///{tmp_path}/db.sqlite"
    migrate(url)
    records = open_records(url)
    yield records.runs
    records.close()


@pytest.fixture
def running(store):
    """A run that is under way."""
    made = record(status="running", ended=False)
    store.accept(NewRun(made.id, made.owner, made.language, made.created_at_ms, made.document, b"{}", "running"))
    return made


def end(store, run, *entries):
    assert store.finish(run.id, 1, RunEnd(run.status, 2, run.document, tuple(kept(*entries))))


def test_a_live_run_is_followed_to_its_recorded_end(store, running):
    ended = record(stdout="xx")
    threading.Timer(0.1, end, [store, ended, ["stdout", 1, 1], ["stdout", 1, 2]]).start()
    worker = Worker([event(1), event(2)])
    events = plain(RunFollower(worker, store, lambda run: run).follow(running, 0, SIGNER, client_fd=None))
    assert [(e["seq"], e["event"]) for e in events] == [(1, "stdout"), (2, "stdout"), (3, "result")]


def test_a_follower_goes_on_where_it_was_when_the_worker_is_gone(store, running):
    lost = record(status="error", error={"code": "worker_lost"})
    threading.Timer(0.1, end, [store, lost]).start()
    worker = Worker([event(1), event(2), WorkerLost("x")], WorkerUnavailable("y"))
    events = plain(RunFollower(worker, store, lambda run: run).follow(running, 0, SIGNER, client_fd=None))
    assert [(e["seq"], e["event"]) for e in events] == [(1, "stdout"), (2, "stdout"), (3, "error")]
    assert worker.asked[:2] == [0, 2]


def test_a_run_that_was_never_started_is_followed_to_nowhere(store):
    running = record(status="running", ended=False)
    assert plain(RunFollower(Worker(), store, lambda run: run).follow(running, 0, SIGNER, client_fd=None)) == []


def test_an_artifact_is_told_once_it_can_be_fetched(store, running):
    ended = record(stdout="x", artifacts=[RECORDED])
    told = []

    def live():
        yield event(1)
        yield event(2, "artifact", ARTIFACT)
        yield event(3, "keepalive", None)
        told.append(len(events))
        end(store, ended, ["stdout", 1, 1], ["artifact", None, 2], ["keepalive", None, 3])

    events = []
    worker = Worker()
    worker.events = lambda run_id, after, *, client_fd=None, source=None: live()
    events.extend(RunFollower(worker, store, lambda run: run).follow(running, 0, SIGNER, client_fd=None))
    assert told == [1]
    assert [(e["seq"], e["event"]) for e in events] == [
        (1, "stdout"), (2, "artifact"), (3, "keepalive"), (4, "result"),
    ]  # fmt: skip
    assert events[1]["data"] == SHOWN


def test_a_long_timeline_is_read_page_by_page(store, running):
    entries = [["stdout", 1, n] for n in range(5000)]
    end(store, record(stdout="x" * 5000), *entries)
    run = store.get("key_1", "run_1")
    events = plain(RunFollower(Worker(), store, lambda run: run).follow(run, 10, SIGNER, client_fd=None))
    assert [e["seq"] for e in events] == list(range(11, 5002))
