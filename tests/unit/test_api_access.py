"""The lines about requests: what they say, what they never say, and how many there may be."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder

from api.http import access_log
from api.http.access_log import BURST, AccessLog, LineBudget
from api.http.metrics import ApiMetrics
from config.logging import Formatter, _add_context
from tests.unit.test_api_app import Api

BODY = '{"language":"python","code":"print(1)"}'
TOKEN = "tok-en-0123456789"


class Lines(logging.Handler):
    """What would be written, line by line."""

    def __init__(self):
        super().__init__()
        self.setFormatter(Formatter("api", frozenset()))  # nothing is masked by its value
        self.addFilter(_add_context)
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


@pytest.fixture
def lines():
    handler = Lines()
    loggers = [logging.getLogger(name) for name in ("access", "audit")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    yield handler.lines
    for logger in loggers:
        logger.removeHandler(handler)


@pytest.fixture(scope="module")
def api():
    made = Api(api_keys=f"{TOKEN}:me:1000000:1000000,slow-0123456789:slow:0.001:1")
    yield made
    made.close()


def ask(api, method="GET", path="/v1/runs", *, token=TOKEN, headers=(), **more):
    """One request with its end, as the server tells it; the answer's headers."""
    sent = [*headers, *([("Authorization", f"Bearer {token}")] if token is not None else [])]
    environ = EnvironBuilder(path, method=method, headers=sent, **more).get_environ()
    environ["REMOTE_ADDR"] = "192.0.2.1"
    answered = []
    response = api.app.wsgi_app(environ, lambda status, headers, *_: answered.extend((status, headers)))
    sent_bytes = sum(map(len, response))
    response.close()
    status, headers = answered
    api.app.extensions["runyard"].access.end(environ, int(status.split()[0]), 0.0125, sent_bytes)
    return {name.lower(): value for name, value in headers}


def run(api):
    """A run of the key `me`; its id."""
    ask(api, "POST", data=BODY, content_type="application/json")
    return api.worker.jobs[-1].run_id


def read(lines):
    return [json.loads(line) for line in lines]


def test_a_request_is_a_line_with_its_key_and_the_pattern_of_its_route(api, lines):
    run_id = run(api)
    lines.clear()
    answered = ask(api, path=f"/v1/runs/{run_id}?token=abc", headers=[("x-request-id", "mine-1")])
    (line,) = read(lines)
    assert {
        name: line[name] for name in ("request_id", "method", "route", "status", "label", "remote", "run_id")
    } == {
        "request_id": "mine-1",
        "method": "GET",
        "route": "/v1/runs/<run_id>",
        "status": 400,  # ?token= is not a parameter of this
        "label": "me",
        "remote": "192.0.2.1",
        "run_id": run_id,
    }
    assert line["duration_ms"] == 12.5
    assert line["bytes"] > 0
    assert line["key"].startswith("key_")
    assert answered["x-request-id"] == "mine-1"


def test_a_run_is_on_the_line_of_the_request_that_made_it_and_goes_to_the_worker(api, lines):
    answered = ask(api, "POST", data=BODY, content_type="application/json")
    accepted, request = read(lines)
    job = api.worker.jobs[-1]
    assert (accepted["event"], accepted["language"]) == ("run.accepted", "python")
    assert accepted["run_id"] == request["run_id"] == job.run_id
    assert accepted["request_id"] == request["request_id"] == job.request_id == answered["x-request-id"]
    assert job.traceparent == ""


def test_what_is_done_to_a_run_is_told(api, lines):
    run_id = run(api)
    lines.clear()
    ask(api, "DELETE", f"/v1/runs/{run_id}")
    deleted, _ = read(lines)
    assert (deleted["event"], deleted["run_id"]) == ("run.deleted", run_id)


def test_one_requests_run_is_not_said_of_the_next(api, lines):
    run(api)
    lines.clear()
    ask(api, path="/v1/health", token=None)
    (line,) = read(lines)
    assert "run_id" not in line
    assert line["key"] is None


@given(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=80),
    st.text(
        st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="&"), min_size=12, max_size=40
    ),
    st.text(st.characters(codec="utf-8"), max_size=40),
)
def test_nothing_that_a_client_sends_breaks_a_line_or_shows_its_token(api, text, token, path):
    token = f"Zq9~{token}"  # nothing that a line has of itself
    handler = Lines()
    log = logging.getLogger("access")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    api.app.extensions["runyard"].access._anonymous = LineBudget()
    try:
        ask(
            api,
            path="/v1/runs/" + path.replace("?", "").replace("#", ""),
            token=token,
            query_string={"token": token},
            headers=[("x-request-id", text), ("User-Agent", text), ("traceparent", text)],
        )
    finally:
        log.removeHandler(handler)
    (line,) = handler.lines
    assert line.splitlines() == [line]
    assert json.loads(line)["message"] == "request"
    assert token not in line


def test_a_flood_of_refused_requests_is_counted_and_not_written(api, lines):
    spent = api.app.extensions["runyard"].access
    spent._anonymous, spent._refusals = LineBudget(0.0), LineBudget(0.0)
    before = count(api, 'runyard_authentication_refused_total{code="invalid_token"}')
    for _ in range(3 * BURST):
        ask(api, token="wrong-wrong-wrong")
    found = read(lines)
    events = [line["event"] for line in found if "event" in line]
    assert events == ["authentication.refused"] * BURST
    assert len(found) == 2 * BURST
    assert count(api, 'runyard_authentication_refused_total{code="invalid_token"}') == before + 3 * BURST
    spent._anonymous._left = 1.0
    lines.clear()
    ask(api, path="/healthz", token=None)
    assert read(lines)[0]["lines_dropped_before"] == 2 * BURST


def test_a_key_beyond_its_rate_cannot_fill_the_log_either(api, lines):
    spent = api.app.extensions["runyard"].access
    spent._anonymous = LineBudget(0.0, 5)
    for _ in range(30):
        ask(api, "POST", token="slow-0123456789", data="{}", content_type="application/json")
    refused = [line for line in read(lines) if line["status"] == 429]
    assert len(refused) == 5


def count(api, series):
    page = api.client.get("/metrics").get_data(as_text=True)
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(series))


def test_a_request_the_server_could_not_read_is_a_line_too(lines):
    AccessLog(ApiMetrics()).log_unparsed("req_x", 400, 99, "192.0.2.9")
    (line,) = read(lines)
    assert (line["request_id"], line["status"], line["bytes"], line["route"]) == ("req_x", 400, 99, None)


def test_without_an_access_log_requests_are_still_counted(lines):
    metrics = ApiMetrics()
    AccessLog(metrics, log=False).log_unparsed("req_x", 400, 99, None)
    assert lines == []
    assert metrics._registry.get_sample_value(
        "runyard_http_requests_total", {"method": "other", "route": "none", "status": "400"}
    )


def test_a_budget_is_refilled_by_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(access_log.time, "monotonic", lambda: now[0])
    budget = LineBudget(per_s=2.0, burst=2)
    assert [budget.spend() for _ in range(4)] == [0, 0, None, None]
    now[0] = 0.5
    assert [budget.spend(), budget.spend()] == [2, None]
    now[0] = 100.0
    assert [budget.spend() for _ in range(3)] == [1, 0, None]
