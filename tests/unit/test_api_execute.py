"""`Runs.execute` without a request of HTTP: what a dialect of another service is given."""

from __future__ import annotations

import pytest

from api.errors import ApiError
from api.files.links import ArtifactLinkSigner
from api.runs.requests import parse_run
from api.runs.submission import RunSubmission, parse_idempotency_key
from dispatch import ClientGone, WorkerLost
from records.errors import RecordsUnavailable
from records.runs import Run
from tests.unit.test_api_app import Api

BODY = b'{"language": "python", "code": "print(1+1)"}'


class Dialect:
    """A caller of the service that knows no Flask."""

    def __init__(self, api):
        self.context = api.app.extensions["runyard"]
        self.caller = self.context.authenticator.authenticate("Bearer tok", may_ask=lambda: True)
        self.signer = ArtifactLinkSigner(self.context.links, "http://dialect.example")

    def execute(self, wait="result", key=None):
        request = parse_run({"language": "python", "code": "print(1+1)"})
        order = RunSubmission(request, self.caller, BODY, parse_idempotency_key(key, BODY))
        return self.context.runs.execute(order, wait=wait, signer=self.signer)

    def held(self):
        return sum(
            sum(places._held.values()) for places in (self.context.places.waiters, self.context.places.readers)
        )


@pytest.fixture
def api():
    made = Api(max_runs=4, queue_max=4)
    yield made
    made.close()


@pytest.fixture
def dialect(api):
    return Dialect(api)


def test_a_result_is_a_run_and_holds_a_place_until_it_is_released(dialect):
    done = dialect.execute()
    assert isinstance(done.outcome, Run)
    assert (done.outcome.status, done.is_replay, dialect.held()) == ("succeeded", False, 1)
    done.release()
    done.release()
    assert dialect.held() == 0


def test_events_are_an_iterator_and_hold_a_place(dialect):
    done = dialect.execute("events")
    assert [message["event"] for message in done.outcome] == ["result"]
    assert dialect.held() == 1
    done.release()
    assert dialect.held() == 0


def test_a_run_in_the_background_holds_no_place(dialect):
    done = dialect.execute("background")
    assert (done.outcome.status, dialect.held()) == ("queued", 0)
    done.release()


def test_a_replay_is_told_as_one_in_any_form(dialect):
    first = dialect.execute(key="k").outcome
    for wait in ("result", "background"):
        again = dialect.execute(wait, key="k")
        assert (again.outcome.id, again.is_replay) == (first.id, True)
        again.release()
    again = dialect.execute("events", key="k")
    assert again.is_replay
    assert [message["event"] for message in again.outcome] == ["result"]
    assert len(dialect.context.dispatcher.jobs) == 1
    again.release()


@pytest.mark.parametrize("wait", ["result", "events"])
@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [(WorkerLost("gone"), 500, "worker_lost"), (RecordsUnavailable(), 503, "records_unavailable")],
)
def test_a_failure_has_a_status_and_a_code_and_holds_nothing(
    api, dialect, monkeypatch, wait, failure, status, code
):
    if isinstance(failure, RecordsUnavailable):

        def fail(*_arguments):
            raise failure

        monkeypatch.setattr(dialect.context.runs._store, "accept", fail)
    api.worker.answer = failure
    with pytest.raises(ApiError) as raised:
        dialect.execute(wait)
    assert (raised.value.status, raised.value.error.code) == (status, code)
    assert (raised.value.run_id is not None) == (code == "worker_lost")
    assert dialect.held() == 0


def test_a_replay_of_a_failed_run_names_it(api, dialect):
    api.worker.answer = WorkerLost("gone")
    for _ in range(2):
        with pytest.raises(ApiError) as raised:
            dialect.execute(key="k")
        assert (raised.value.error.code, raised.value.run_id) == ("worker_lost", api.worker.jobs[0].run_id)
    assert dialect.execute("background", key="k").outcome.status == "error"
    assert dialect.held() == 0


def test_a_client_that_is_gone_is_an_exception_of_its_own(api, dialect):
    api.worker.answer = ClientGone()
    with pytest.raises(ClientGone):
        dialect.execute()
    assert dialect.held() == 0
