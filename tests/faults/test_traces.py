"""A whole service that sends its traces to a receiver of the tests' own, and one whose numbers are closed."""

from __future__ import annotations

import gzip
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.workers import until

PARENT_TRACE, PARENT_SPAN = "4b" * 16, "a7" * 8
METRICS_TOKEN = "scrape-token-1"


@pytest.fixture
def receiver():
    """An OTLP/HTTP receiver: its address, and what has come, as (service, span)."""
    came = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                name = {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"]
                came.extend((self.path, name, span) for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", came
    server.shutdown()
    thread.join()
    server.server_close()


def attributes(span):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def test_a_request_is_one_trace_from_the_caller_to_the_sandbox(start_service, receiver):
    endpoint, came = receiver
    service = start_service(
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_BSP_SCHEDULE_DELAY="200",
        METRICS_TOKEN=METRICS_TOKEN,
        LANGUAGES="python",
        WARM_POOL="python=2",
    )
    log = (service.state / "log/service.log").read_text()
    (started,) = [line for line in map(json.loads, log.splitlines()) if line.get("event") == "service.start"]
    assert {"METRICS_TOKEN", "PORT", "OTEL_EXPORTER_OTLP_ENDPOINT"} <= set(started["settings"])
    began_ns = time.time_ns()
    reply = service.post(
        "/v1/runs",
        json={"language": "python", "code": "import time; time.sleep(0.2)"},
        headers={"traceparent": f"00-{PARENT_TRACE}-{PARENT_SPAN}-01"},
    )
    ended_ns = time.time_ns()
    assert reply.status == 200

    def spans():
        return {span.name: (path, who, span) for path, who, span in came if span.trace_id.hex() == PARENT_TRACE}

    until(lambda: len(spans()) == 4, 20)
    found = spans()
    assert {name: who for name, (_, who, _) in found.items()} == {
        "request": "runyard-api",
        "queue": "runyard-worker",
        "sandbox": "runyard-worker",
        "run": "runyard-worker",
    }
    assert {path for path, _, _ in found.values()} == {"/v1/traces"}
    request, queue, sandbox, run = (found[name][2] for name in ("request", "queue", "sandbox", "run"))
    assert request.parent_span_id.hex() == PARENT_SPAN
    assert {span.parent_span_id for span in (queue, sandbox, run)} == {request.span_id}
    about = attributes(request)
    assert about["runyard.run_id"] == attributes(run)["runyard.run_id"] == reply.body["id"]
    assert about["runyard.request_id"] == reply.headers["x-request-id"]
    assert (about["http.route"], about["http.response.status_code"]) == ("/v1/runs", 200)
    assert attributes(run)["runyard.status"] == "succeeded"
    assert attributes(sandbox)["runyard.source"] in {"template", "pool", "cold"}
    slack_ns = 50_000_000
    assert began_ns - slack_ns <= queue.start_time_unix_nano <= queue.end_time_unix_nano
    assert queue.end_time_unix_nano <= sandbox.start_time_unix_nano + 1000
    assert run.end_time_unix_nano - run.start_time_unix_nano >= 200_000_000
    assert run.end_time_unix_nano <= ended_ns + slack_ns

    wrong = service.post(
        "/v1/runs", json={"language": "python", "code": "1"}, headers={"traceparent": "00-zz-\xff-01"}
    )
    until(
        lambda: any(attributes(s).get("runyard.run_id") == wrong.body["id"] for _, _, s in came if s.name == "run"),
        20,
    )
    closed = service.get("/metrics", token=None)
    assert (closed.status, closed.body["error"]["code"]) == (401, "invalid_token")
    assert service.get("/metrics").status == 401
    opened = service.get("/metrics", token=METRICS_TOKEN)
    assert opened.status == 200
    assert b"runyard_runs_total" in opened.raw
    assert METRICS_TOKEN not in (service.state / "log/service.log").read_text()
