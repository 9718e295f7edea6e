"""The application in process, over a worker made to fail in ways that a real one cannot be asked to."""

from __future__ import annotations

import json
import logging
import threading

import pytest

from api.app import create_app
from config.settings import Settings
from dispatch import ClientGone, WorkerLost, WorkerUnavailable
from records.memory import MemoryRunStore
from sandbox.job import Artifact, Isolation, JobError, Limits, Refusal, Result, Usage

AUTH = {"Authorization": "Bearer tok"}
LIMITS = Limits.resolve({})
RUN_FIELDS = [
    "id",
    "object",
    "status",
    "language",
    "exit_code",
    "signal",
    "timed_out",
    "oom_killed",
    "cancelled",
    "stdout",
    "stderr",
    "stdout_truncated",
    "stderr_truncated",
    "usage",
    "compile",
    "artifacts",
    "skipped_artifacts",
    "skipped_artifacts_count",
    "limits",
    "metadata",
    "code_sha256",
    "isolation",
    "created_at",
    "started_at",
    "finished_at",
    "error",
]


def language(name, *, ready=True, **fields):
    return {
        "id": name,
        "aliases": [name[:2]],
        "version": "1",
        "entry_file": f"main.{name[:2]}",
        "packages": [],
        "ready": ready,
        "example": "",
        "pids_default": 64,
    } | fields


class FakeWorker:
    """A dispatcher whose answer is a value, an exception or a function of the job."""

    def __init__(self):
        self.answer = Result(
            status="succeeded", language="python", limits=LIMITS, exit_code=0, stdout="2\n"
        ).to_json()
        self.languages = [language("python"), language("go", ready=False, pids_default=256)]
        self.jobs = []
        self.events = []
        self.asked = 0
        self.down = False

    def run(self, job, *, client_fd=None, on_event=None):
        self.jobs.append(job)
        for event in self.events:
            on_event(event)
        answer = self.answer(job) if callable(self.answer) else self.answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def status(self):
        self.asked += 1
        if self.down:
            raise WorkerUnavailable("down")
        return {"languages": self.languages}


class Api:
    def __init__(self, **settings):
        self.worker = FakeWorker()
        self.store = MemoryRunStore(max_runs=100, max_bytes=10**7)
        keys = settings.pop("api_keys", "tok:me:1000:1000,other:you:1000:1000")
        self.app = create_app(Settings(api_keys=keys, **settings), self.worker, self.store)
        self.client = self.app.test_client()

    def post(self, body=None, headers=None, **fields):
        body = {"language": "python", "code": "print(1+1)", **fields} if body is None else body
        data = body if isinstance(body, bytes) else json.dumps(body)
        return self.client.post(
            "/v1/runs", data=data, headers=AUTH | {"Content-Type": "application/json"} | (headers or {})
        )

    def get(self, run_id, token="tok"):
        return self.client.get(f"/v1/runs/{run_id}", headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def api():
    return Api()


def assert_envelope(reply, status, code):
    assert reply.status_code == status
    assert reply.content_type == "application/json"
    error = reply.json["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["code"] == code
    assert error["message"]
    assert reply.headers["x-request-id"]
    return error


def test_the_run_object(api):
    api.worker.answer = Result(
        status="failed",
        language="python",
        limits=LIMITS,
        signal="SIGSEGV",
        stderr="x",
        usage=Usage(4, 3, 9, 0),
        artifacts=(Artifact("p.png", "a/p.png", 3, "ab", "image/png"),),
        skipped_artifacts=({"path": "l", "reason": "symlink"},),
        skipped_artifacts_count=7,
        isolation=Isolation("oci", "crun", "pool", "none", "sha256:1", None, True, "sha256:2"),
        started_at="2026-01-01T00:00:00.000Z",
        finished_at="2026-01-01T00:00:00.004Z",
    ).to_json()
    reply = api.post(metadata={"user": "42"})
    run = reply.json
    assert reply.status_code == 200
    assert list(run) == RUN_FIELDS
    assert run["artifacts"] == [
        {
            "id": run["artifacts"][0]["id"],
            "name": "p.png",
            "path": "a/p.png",
            "size": 3,
            "sha256": "ab",
            "content_type": "image/png",
            "url": None,
            "expires_at": None,
        }
    ]
    assert run["artifacts"][0]["id"].startswith("file_")
    assert (run["signal"], run["skipped_artifacts_count"], run["metadata"]) == ("SIGSEGV", 7, {"user": "42"})
    assert run["code_sha256"] == "df5db25436cb819bec6de11301829284c56ab24fb6738ca0268c53245daa0346"
    assert api.get(run["id"]).json == run


def test_the_job_the_worker_gets(api):
    run = api.post(language="py", limits={"timeout_ms": 5}, stdin="in", isolation="container").json
    job = api.worker.jobs[0]
    assert (job.run_id, job.language, job.limits) == (run["id"], "python", {"timeout_ms": 5})
    assert (job.stdin, job.isolation) == ("in", "container")
    assert job.key.startswith("key_")
    assert "tok" not in job.key


def test_a_run_can_be_seen_while_it_waits_and_runs(api):
    seen = []

    def look(job):
        seen.append(api.get(job.run_id).json)
        return Result(status="succeeded", language="python", limits=LIMITS).to_json()

    api.worker.answer = look
    api.post()
    api.worker.events = [{"event": "queued", "at": "t1"}]
    api.post()
    api.worker.events.append({"event": "started", "at": "2026-01-01T00:00:00.000Z"})
    api.post(limits={"timeout_ms": 7})
    assert [list(run) for run in seen] == [RUN_FIELDS] * 3
    assert [run["status"] for run in seen] == ["running", "queued", "running"]
    assert [bool(run["started_at"]) for run in seen] == [True, False, True]
    assert seen[2]["limits"]["timeout_ms"] == 7
    assert set(seen[2]["limits"]) == set(LIMITS.__slots__)
    assert all(run["finished_at"] is None and run["exit_code"] is None for run in seen)


def test_another_keys_run_looks_unknown(api):
    run = api.post().json
    mine, foreign, unknown = api.get(run["id"]), api.get(run["id"], "other"), api.get("run_" + "x" * 28)
    assert mine.status_code == 200
    assert assert_envelope(foreign, 404, "run_not_found") == assert_envelope(unknown, 404, "run_not_found")


@pytest.mark.parametrize("name", ["x", "run_", "run_%00", "run_../../etc", "run_" + "x" * 500, "RUN_" + "x" * 28])
def test_odd_run_ids(api, name):
    assert api.get(name).status_code == 404


def test_a_lost_worker_is_an_error_of_the_service(api):
    api.worker.answer = WorkerLost("the connection was closed")
    reply = api.post()
    error = assert_envelope(reply, 500, "worker_lost")
    assert "connection" not in error["message"]
    run = api.get(reply.json["run_id"]).json
    assert list(run) == RUN_FIELDS
    assert (run["status"], run["error"]) == ("error", error)
    assert run["finished_at"]


def test_a_result_of_status_error(api):
    failure = JobError("No sandbox could be made.", "engine_failed")
    api.worker.answer = Result(status="error", language="python", limits=LIMITS, error=failure).to_json()
    reply = api.post()
    error = assert_envelope(reply, 500, "engine_failed")
    assert api.get(reply.json["run_id"]).json["error"] == error


def test_an_error_without_its_object(api):
    api.worker.answer = Result(status="error", language="python", limits=LIMITS).to_json()
    assert_envelope(api.post(), 500, "internal_error")


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"status": "running"},
        {"status": "succeeded"},
        Result(status="queued", language="python", limits=LIMITS).to_json(),
        Result(status="succeeded", language="python", limits=LIMITS).to_json() | {"artifacts": [{"x": 1}]},
        Result(status="succeeded", language="python", limits=LIMITS).to_json() | {"artifacts": None},
        Result(status="error", language="python", limits=LIMITS).to_json() | {"error": {"x": 1}},
        Result(status="succeeded", language="python", limits=LIMITS).to_json() | {"stdout": "\ud800"},
    ],
)
def test_a_result_that_is_none(api, answer):
    api.worker.answer = answer
    reply = api.post()
    assert_envelope(reply, 500, "worker_lost")
    assert api.get(reply.json["run_id"]).json["status"] == "error"


def test_an_accident_in_the_dispatcher_is_told_without_its_words(api, caplog):
    api.worker.answer = RuntimeError("/secret/path")
    with caplog.at_level(logging.ERROR):
        reply = api.post()
    assert_envelope(reply, 500, "internal_error")
    assert b"secret" not in reply.data
    assert "secret" in caplog.text
    assert api.get(reply.json["run_id"]).json["status"] == "error"


def test_an_accident_in_a_handler_is_told_without_its_words(api, monkeypatch):
    monkeypatch.setattr("api.routes.service._report", lambda _: 1 / 0)
    reply = api.client.get("/v1/health")
    assert_envelope(reply, 500, "internal_error")
    assert b"Zero" not in reply.data


def test_no_worker(api):
    api.worker.answer = WorkerUnavailable("no worker listens")
    reply = api.post()
    assert_envelope(reply, 503, "worker_unavailable")
    assert reply.headers["Retry-After"]
    assert len(api.store) == 0


def test_no_worker_from_the_start(api):
    api.worker.down = True
    reply = api.post()
    assert_envelope(reply, 503, "worker_unavailable")
    assert reply.headers["Retry-After"]
    assert_envelope(api.client.get("/v1/languages"), 503, "worker_unavailable")
    assert api.client.get("/healthz").status_code == 200
    ready = api.client.get("/readyz")
    assert (ready.status_code, ready.json["checks"]) == (503, {"worker": "fail", "languages": "fail"})
    health = api.client.get("/v1/health")
    assert (health.status_code, health.json["status"]) == (200, "degraded")


def test_bad_input_is_told_before_the_worker_is_asked(api):
    api.worker.down = True
    assert_envelope(api.post({"language": "python"}), 400, "missing_field")
    assert api.worker.asked == 0


@pytest.mark.parametrize(
    ("refusal", "kind", "retry"),
    [
        (
            Refusal(400, "limits.memory_mb: 9 is below", "limit_below_minimum", "limits.memory_mb"),
            "invalid_request_error",
            None,
        ),
        (Refusal(429, "too many at once", "too_many_runs"), "rate_limit_error", "1"),
        (Refusal(503, "full", "overloaded", None, 3), "server_error", "3"),
        (Refusal(503, "full", "overloaded"), "server_error", "1"),
    ],
)
def test_what_the_worker_refuses(api, refusal, kind, retry):
    api.worker.answer = refusal
    reply = api.post()
    error = assert_envelope(reply, refusal.status, refusal.code)
    assert (error["message"], error["type"], error["param"]) == (refusal.message, kind, refusal.param)
    assert reply.headers.get("Retry-After") == retry
    assert "run_id" not in reply.json
    assert len(api.store) == 0


def test_a_client_that_left_leaves_a_cancelled_run(api):
    api.worker.answer = ClientGone()
    api.post()
    run = api.get(api.worker.jobs[0].run_id).json
    assert list(run) == RUN_FIELDS
    assert (run["status"], run["cancelled"], run["error"]) == ("cancelled", True, None)
    assert run["finished_at"]


def test_unknown_language_lists_the_known(api):
    for name in ("cobol", "../sh", "Python\n", "__proto__", "", "x" * 100_000):
        error = assert_envelope(api.post(language=name), 400, "unknown_language")
        assert error["param"] == "language"
        assert error["message"].endswith("go, python")
        assert len(error["message"]) < 200


def test_a_language_not_built_yet(api):
    reply = api.post(language="go")
    assert assert_envelope(reply, 503, "language_not_ready")["param"] == "language"
    assert int(reply.headers["Retry-After"]) > 0
    assert api.worker.jobs == []


def test_an_inline_file_at_the_entry_file(api):
    reply = api.post(files=[{"path": "main.py", "content": ""}])
    assert assert_envelope(reply, 400, "duplicate_path")["param"] == "files.0.path"


def test_idempotency_key_is_not_ignored(api):
    reply = api.post(headers={"Idempotency-Key": "x"})
    assert assert_envelope(reply, 400, "not_supported")["param"] == "Idempotency-Key"
    assert api.worker.jobs == []


def test_languages(api):
    reply = api.client.get("/v1/languages")
    assert reply.json["object"] == "list"
    assert list(reply.json["data"][0]) == ["id", "aliases", "version", "entry_file", "packages", "ready", "example"]
    assert api.client.get("/readyz").json == {"status": "ok", "checks": {"worker": "ok", "languages": "ok"}}


def test_not_ready_without_any_language(api):
    api.worker.languages = [language("go", ready=False)]
    assert api.client.get("/readyz").status_code == 503


def test_rate_limit_headers_and_429():
    api = Api(api_keys="tok:me:0.001:2")
    replies = [api.post() for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert [reply.headers["x-ratelimit-remaining-requests"] for reply in replies] == ["1", "0", "0"]
    assert all(reply.headers["x-ratelimit-limit-requests"] == "2" for reply in replies)
    assert int(replies[2].headers["Retry-After"]) >= 999
    assert_envelope(replies[2], 429, "rate_limit_exceeded")
    run = api.get(replies[0].json["id"])
    assert (run.status_code, run.headers["x-ratelimit-limit-requests"]) == (200, "20")
    assert "x-ratelimit-limit-requests" in api.get("run_unknown").headers


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("POST", "/v1/runs/", 404, "not_found"),
        ("GET", "//v1/languages", 404, "not_found"),
        ("GET", "/v1/runs/../languages", 404, "not_found"),
        ("GET", "/v1/%ff%fe", 404, "not_found"),
        ("DELETE", "/v1/runs", 405, "method_not_allowed"),
        ("PUT", "/v1/languages", 405, "method_not_allowed"),
        ("POST", "/healthz", 405, "method_not_allowed"),
        ("POST", "/v1/runs", 401, "missing_token"),
        ("GET", "/v1/runs/run_x", 401, "missing_token"),
    ],
)
def test_every_error_has_the_one_shape(api, method, path, status, code):
    reply = api.client.open(path, method=method)
    assert_envelope(reply, status, code)
    assert ("Allow" in reply.headers) == (status == 405)
    assert ("WWW-Authenticate" in reply.headers) == (status == 401)


def test_head_and_options(api):
    head = api.client.head("/healthz")
    assert (head.status_code, head.data) == (200, b"")
    options = api.client.options("/v1/runs")
    assert options.status_code == 200
    assert "POST" in options.headers["Allow"]
    assert api.client.head("/v1/runs").status_code == 405


@pytest.mark.parametrize("given", ["abc", "A.b_c-9", "x" * 64])
def test_a_sane_request_id_is_kept(api, given):
    assert api.client.get("/healthz", headers={"x-request-id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "é", "<script>", "a;b"])
def test_an_odd_request_id_is_replaced(api, given):
    found = api.client.get("/healthz", headers={"x-request-id": given}).headers["x-request-id"]
    assert found != given
    assert found.startswith("req_")


@pytest.mark.parametrize("host", ["", "a b", "é", "x" * 5000, "[::1", "evil\\@x", "a:b:c"])
def test_an_odd_host_header_is_no_accident(api, host):
    assert api.client.get("/healthz", headers={"Host": host}).status_code in (200, 400)


def test_no_token_is_ever_logged(api, caplog):
    with caplog.at_level(logging.DEBUG):
        api.post(headers={"Authorization": "Bearer sesame-open"})
        api.post()
        api.worker.answer = RuntimeError("x")
        api.post()
    assert "sesame" not in caplog.text
    assert "tok" not in [word for record in caplog.records for word in record.getMessage().split()]


def test_runs_of_many_threads_do_not_mix(api):
    api.worker.answer = lambda job: Result(
        status="succeeded", language="python", limits=LIMITS, stdout=job.code
    ).to_json()
    wrong = []

    def work(name):
        for number in range(30):
            code = f"{name}{number}"
            if api.post(code=code).json["stdout"] != code:
                wrong.append(code)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len({job.run_id for job in api.worker.jobs}) == 120
