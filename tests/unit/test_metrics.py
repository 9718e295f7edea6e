"""The numbers: counted over several processes, told by the worker, shown on one page and on the dashboard."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Semaphore
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.http.metrics import ASKERS, DIRECTORY, ApiMetrics, prepare
from dispatch import WorkerUnavailable
from protocol.job import Job
from protocol.limits import Limits
from protocol.result import Isolation, JobError, Refusal, Result
from sandbox.admission.control import Admission
from sandbox.metrics import Metrics
from sandbox.run.live import LiveRun
from tests.unit.test_api_app import Api, assert_envelope
from worker.egress_counters import EgressCounters, ask_status
from worker.telemetry import Observer, register_gauges

REPO = Path(__file__).resolve().parents[2]
TOKEN = "scrape-token-1"
ISOLATION = Isolation("oci", "crun", "pool", "none", None, None, True, "sha256:1")
JOB = Job("run_1", "python")
#: Names of the text format: a histogram is three series, and PromQL speaks of them.
NAME = re.compile(r"\brunyard_[a-z_]+")
SUFFIX = re.compile(r"_(bucket|sum|count)$")


class NoWorker:
    def metrics(self):
        raise WorkerUnavailable("down")


def worker_metrics():
    """A worker's numbers with a sample of everything."""
    metrics = Metrics()
    pool = SimpleNamespace(counts=lambda: {"python": {"ready": 1, "size": 4}})
    register_gauges(metrics.registry, Admission(max_runs=1, memory_mb=64, queue_max=1, queue_wait_s=1), pool)
    status = {"open": 1, "verdicts": {"allowed": 2, "denied": 3}, "sent_bytes": 4, "received_bytes": 5}
    metrics.registry.register(EgressCounters(lambda: status))
    return metrics


def test_without_an_answer_of_the_egress_process_its_counts_are_missing():
    metrics = Metrics()
    metrics.registry.register(EgressCounters(lambda: ask_status(Path("/nonexistent/egress.sock"))))
    assert "runyard_egress_up 0.0" in metrics.text()
    assert "runyard_egress_open" not in metrics.text()


def test_those_who_ask_while_others_do_are_told_the_last_answer():
    api, asked, answered = ApiMetrics(), Semaphore(0), Event()

    def slow():
        asked.release()
        assert answered.wait(10)
        return "worker_counts 2.0\n"

    api.page(SimpleNamespace(metrics=lambda: "worker_counts 1.0\n"))
    slow_worker = SimpleNamespace(metrics=slow)
    with ThreadPoolExecutor(ASKERS) as pool:
        pages = [pool.submit(api.page, slow_worker) for _ in range(ASKERS)]
        for _ in pages:
            assert asked.acquire(timeout=10)
        assert b"worker_counts 1.0" in api.page(slow_worker)
        answered.set()
        assert all(b"worker_counts 2.0" in page.result() for page in pages)
    assert b"worker_counts 2.0" in api.page(slow_worker)


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def names():
    """Every series that the page may show, by name."""
    api, worker = ApiMetrics(), worker_metrics()
    page = api.page(SimpleNamespace(metrics=worker.text)).decode()
    return {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(page)
    }


def result(status="succeeded", **more):
    return Result(status=status, language="python", limits=Limits.resolve({}), isolation=ISOLATION, **more)


def live(admitted=0.5, ready=0.75):
    run = LiveRun("run_1", "python")
    run.end()
    run.timestamps.accepted, run.timestamps.admitted, run.timestamps.ready, run.timestamps.ended = (
        0.0,
        admitted,
        ready,
        2.0,
    )
    return run


def test_a_run_is_counted_with_its_waits_and_its_time():
    metrics = worker_metrics()
    Observer(metrics).ended(JOB, live(), result())
    found = samples(metrics.text())
    assert found["runyard_runs_total", "python", "succeeded"] == 1
    assert found["runyard_queue_wait_seconds_sum",] == 0.5
    assert found["runyard_sandbox_wait_seconds_sum", "pool", "python"] == 0.25
    assert found["runyard_run_duration_seconds_sum", "python"] == 1.25


def test_a_run_that_never_had_a_place_has_only_waited():
    metrics = worker_metrics()
    error = JobError("no", "queue_timeout")
    Observer(metrics).ended(JOB, live(admitted=None, ready=None), result("error", error=error))
    found = samples(metrics.text())
    assert found["runyard_queue_wait_seconds_sum",] == 2.0
    assert not [name for name in found if name[0].startswith("runyard_run_duration_seconds")]


def test_failures_of_the_engine_and_refusals_are_counted_by_what_they_were():
    metrics = worker_metrics()
    observer = Observer(metrics)
    observer.ended(JOB, live(ready=None), result("error", error=JobError("no", "engine_error")))
    observer.ended(JOB, live(), Refusal(503, "no", "overloaded"))
    found = samples(metrics.text())
    assert found["runyard_engine_errors_total", "run"] == 1
    assert found["runyard_engine_errors_total", "start"] == 0
    assert found["runyard_runs_refused_total", "overloaded"] == 1
    assert found["runyard_runs_total", "error", "python"] == 1


def test_several_processes_of_api_are_added_up_by_whichever_is_asked(tmp_path, monkeypatch):
    counts = (
        "import sys; from types import SimpleNamespace as N; from api.http.metrics import ApiMetrics; m = ApiMetrics();"
        "[m.answered('GET', '/healthz', 200, 0.001) for _ in range(int(sys.argv[1]))];"
        "m.answered('BREW', '', 405, 0.001);"
        "print(m.page(N(metrics=lambda: '')).decode())"
    )
    prepare(tmp_path / "metrics")
    environment = {DIRECTORY: str(tmp_path / "metrics"), "PATH": "/usr/bin"}
    pages = [
        subprocess.run(
            [sys.executable, "-c", counts, str(n)],
            cwd=REPO,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for n in (3, 4)
    ]
    found = samples(pages[-1])
    assert found["runyard_http_requests_total", "/healthz", "200", "GET"] == 7
    assert found["runyard_http_request_duration_seconds_count", "/healthz", "GET"] == 7
    assert found["runyard_http_requests_total", "405", "none", "other"] == 2
    prepare(tmp_path / "metrics")
    assert list((tmp_path / "metrics").iterdir()) == []


def test_without_a_worker_the_page_says_so_and_shows_the_rest():
    metrics = ApiMetrics()
    metrics.answered("GET", "/healthz", 200, 0.001)
    found = samples(metrics.page(NoWorker()).decode())
    assert found["runyard_worker_up",] == 0
    assert found["runyard_http_requests_total", "/healthz", "200", "GET"] == 1


def test_the_whole_page_is_readable_and_no_name_comes_twice():
    page = ApiMetrics().page(SimpleNamespace(metrics=worker_metrics().text)).decode()
    described = re.findall(r"^# TYPE (\S+)", page, re.MULTILINE)
    assert len(described) == len(set(described))
    assert "runyard_worker_up 1.0\n" in page
    assert all(name.startswith("runyard_") for name in described)


@pytest.fixture
def api():
    made = Api(metrics_token=TOKEN)
    yield made
    made.close()


@pytest.mark.parametrize(
    "header", [None, "", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer tok", "Bearer", "Bearer \xff"]
)
def test_a_metrics_token_closes_the_page(api, header):
    reply = api.client.get("/metrics", headers={} if header is None else {"Authorization": header})
    assert_envelope(reply, 401, "invalid_token")
    assert reply.headers["WWW-Authenticate"].startswith("Bearer")
    assert b"runyard_" not in reply.data


def test_the_metrics_token_opens_it_and_nothing_else(api):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    reply = api.client.get("/metrics", headers=headers)
    assert reply.status_code == 200
    assert reply.content_type.startswith("text/plain")
    assert b"runyard_http_requests" in reply.data
    assert b"runyard_runs_total" in reply.data
    assert TOKEN.encode() not in reply.data
    assert api.client.get("/v1/runs", headers=headers).status_code == 401


def told(text):
    return {SUFFIX.sub("", name) for name in NAME.findall(text)}


def test_the_dashboard_asks_for_nothing_that_is_not_counted():
    dashboard = json.loads((REPO / "docs/grafana-dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(asked) >= 12
    assert told("\n".join(asked)) <= names()
    for label in re.findall(r"by \(([^)]*)\)", "\n".join(asked)):
        assert set(label.split(", ")) <= {"le", "language", "status", "source", "route", "code", "during"}


def test_the_documentation_lists_what_is_counted_and_nothing_else():
    page = (REPO / "docs/operations.md").read_text()
    listed = set(re.findall(r"^\| `(runyard_[a-z_]+)` \|", page, re.MULTILINE))
    assert listed == {name for name in names() if not name.startswith("runyard_worker_process_")}


def test_counters_are_there_though_nothing_has_happened_yet():
    assert "runyard_runs_total" in names()
