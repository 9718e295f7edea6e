"""Traces: nothing at all when they are off, and no header of a client's can spoil them when they are on."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from config.settings import Settings
from config.tracing import NO_PARENT, SpanPhase, open_tracer, parse_traceparent
from protocol.codec import decode_job, encode_job
from protocol.job import Job

REPO = Path(__file__).resolve().parents[2]
GOOD = f"00-{'4b' * 16}-{'a7' * 8}-01"


def test_nothing_of_opentelemetry_is_imported_by_api_or_worker_while_traces_are_off():
    program = (
        "import sys, api.app, api.server.gunicorn_conf, worker.__main__, worker.handlers, config.tracing as t;"
        "assert t.open_tracer('api', None) is None; t.current();"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPO,
        env={"PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_where_opentelemetry_is_not_installed_the_service_goes_on_without_traces(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert open_tracer("api", "http://127.0.0.1:1") is None
    assert "runyard-server[otel]" in caplog.text


def test_a_right_traceparent_is_taken_as_it_is():
    assert parse_traceparent(GOOD) == GOOD


@pytest.mark.parametrize(
    "header", [None, "", GOOD + "0", GOOD.upper(), "01" + GOOD[2:], f"00-{'0' * 32}-{'a7' * 8}-01", GOOD + "\n"]
)
def test_a_wrong_one_is_none(header):
    assert parse_traceparent(header) == NO_PARENT


@given(st.text(max_size=80))
def test_no_other_text_is_one(text):
    assert parse_traceparent(text) in (NO_PARENT, text)
    assert "\n" not in parse_traceparent(text)


@given(st.text(max_size=80), st.text(max_size=80))
def test_the_worker_takes_only_marks_that_look_like_some(request_id, traceparent):
    job = Job("run_1", "python", request_id=request_id, traceparent=traceparent)
    read = decode_job(encode_job(job))
    assert read.request_id in ("", request_id)
    assert read.request_id.isascii()
    assert len(read.request_id) <= 64
    assert read.traceparent in ("", traceparent)
    assert read.traceparent.isascii()
    good = Job("run_1", "python", request_id="req_1.a-b", traceparent=GOOD)
    assert decode_job(encode_job(good)) == good


def test_a_phase_begins_no_earlier_than_the_one_before_it_ends_however_the_clocks_are_read(monkeypatch):
    seen = InMemorySpanExporter()
    monkeypatch.setattr("opentelemetry.exporter.otlp.proto.http.trace_exporter.OTLPSpanExporter", lambda: seen)
    tracer = open_tracer("worker", "http://127.0.0.1:1")
    assert tracer is not None
    # Each look at the wall clock comes a little later after the look at the other one than the one before.
    late_s = itertools.count()
    monkeypatch.setattr("config.tracing.time.time", lambda: 1.8e9 - next(late_s))
    tracer.record(GOOD, [SpanPhase("queue", 1.25, 2.5, {}), SpanPhase("sandbox", 2.5, 3.0, {})])
    tracer.stop()
    queue, sandbox = seen.get_finished_spans()
    assert (queue.name, sandbox.name) == ("queue", "sandbox")
    assert queue.end_time == sandbox.start_time
    assert queue.end_time - queue.start_time == pytest.approx(1.25e9, abs=1000)


@pytest.mark.parametrize("token", ["short", "a b c d e f", "ä" * 10, "x" * 257])
def test_a_metrics_token_that_could_not_be_sent_is_refused(token):
    with pytest.raises(ValueError, match="METRICS_TOKEN: must be 8 to 256"):
        Settings(metrics_token=token)


def test_an_endpoint_must_be_an_address():
    with pytest.raises(ValueError, match="OTEL_EXPORTER_OTLP_ENDPOINT: must be"):
        Settings(otel_exporter_otlp_endpoint="collector:4318")
