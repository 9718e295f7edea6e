"""The application in process, over a worker made to fail in ways that a real one cannot be asked to."""

from __future__ import annotations

import functools
import json
import logging
import queue
import sqlite3
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from api.app import create_app
from api.http.concurrency import SMALL_BYTES
from config.settings import Settings
from config.version import VERSION
from dispatch import ClientGone, FeedItem, WorkerLost, WorkerUnavailable
from protocol.limits import Limits
from protocol.result import Artifact, Isolation, JobError, Refusal, Result, Usage
from records import migrate, open_records
from records.errors import RecordsUnavailable
from storage.areas import ApiAreas
from storage.layout import ARTIFACTS, BLOBS, UPLOADS
from storage.local import LocalReader, LocalStore

SIGNING_KEY = "k" * 48
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
    "hints",
    "limits",
    "metadata",
    "code_sha256",
    "isolation",
    "session_id",
    "external_id",
    "layer",
    "context",
    "execution_count",
    "state",
    "exception",
    "results",
    "results_dropped",
    "function",
    "version",
    "output",
    "created_at",
    "started_at",
    "finished_at",
    "error",
]


def until(condition):
    """Wait for what another thread does."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.002)


def language(name, *, ready=True, **fields):
    return {
        "id": name,
        "aliases": [name[:2]],
        "version": "1",
        "entry_file": f"main.{name[:2]}",
        "packages": [],
        "ready": ready,
        "example": "",
        "keeps": "files",
        "kernels": [],
        "results": False,
        "package_ecosystem": None,
        "pids_default": 64,
    } | fields


def info(status, at):
    return {"seq": 1, "event": "info", "data": {"status": status, "at": at}, "t_ms": 0}


class FakeWorker:
    """A dispatcher whose answer is a value, an exception or a function of the job."""

    def __init__(self):
        self.answer = Result(
            status="succeeded", language="python", limits=LIMITS, exit_code=0, stdout="2\n"
        ).to_json()
        self.languages = [language("python"), language("go", ready=False, pids_default=256)]
        self.jobs = []
        self.told = queue.SimpleQueue()
        self.acknowledged = []
        self.kept = []
        self.closed = []
        self.cancelled = []
        self.on_cancel = lambda _run_id: True
        self.events = []
        self.asked = 0
        self.down = False
        #: Of the worker's status, what is not always there.
        self.reports = {}

    def run(self, job, *, client_fd=None, on_event=None, keep=None):
        self.jobs.append(job)
        for event in self.events:
            on_event(event)
        answer = self.answer(job) if callable(self.answer) else self.answer
        if isinstance(answer, Exception):
            raise answer
        if not isinstance(answer, Refusal):
            self.kept.append(keep(answer))
        return answer

    def stream(self, job, *, client_fd=None, source=None):
        self.jobs.append(job)
        answer = self.answer(job) if callable(self.answer) else self.answer
        try:
            yield from self.events
            if isinstance(answer, Exception):
                raise answer
            yield {"refused": answer.to_json()} if isinstance(answer, Refusal) else {"result": answer}
            self.acknowledged.append(job.run_id)
        finally:
            self.closed.append(job.run_id)

    def submit(self, job):
        self.jobs.append(job)
        answer = self.answer(job) if callable(self.answer) else self.answer
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Refusal) else None

    def collect(self, *, client_fd=None):
        while (told := self.told.get()) is not None:
            yield told
        raise WorkerLost("gone")

    def acknowledge(self, run_id):
        self.acknowledged.append(run_id)

    def cancel(self, run_id):
        self.cancelled.append(run_id)
        return self.on_cancel(run_id)

    def status(self):
        self.asked += 1
        if self.down:
            raise WorkerUnavailable("down")
        return {"languages": self.languages, **self.reports}

    def metrics(self):
        if self.down:
            raise WorkerUnavailable("down")
        return 'runyard_runs_total{language="python",status="succeeded"} 1.0\n'


@functools.cache
def empty_database():
    """A database as every test begins with: made once, since that takes longer than a test."""
    with tempfile.TemporaryDirectory() as folder:
        migrate(f"sqlite:///{folder}/db.sqlite")
        with closing(sqlite3.connect(f"{folder}/db.sqlite")) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Path(folder, "db.sqlite").read_bytes()


_STORAGE = tempfile.TemporaryDirectory()


@functools.cache
def areas():
    """The stores as api has them: one for all tests, since making it takes longer than a test."""
    root = Path(_STORAGE.name)
    (root / UPLOADS).mkdir(mode=0o700)
    (root / ARTIFACTS / BLOBS).mkdir(parents=True)
    return ApiAreas(LocalStore(root / UPLOADS), LocalReader(root / ARTIFACTS))


def upload_form(content):
    """A form with a file. The test client's own boundary is sometimes longer than RFC 2046 allows."""
    head = b'--a-boundary\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    data = head + content + b"\r\n--a-boundary--\r\n"
    return {"data": data, "content_type": "multipart/form-data; boundary=a-boundary"}


class Api:
    def __init__(self, **settings):
        self.worker = FakeWorker()
        self._folder = tempfile.TemporaryDirectory()
        url = f"sqlite:///{self._folder.name}/db.sqlite"
        Path(self._folder.name, "db.sqlite").write_bytes(empty_database())
        self.records = open_records(url)
        keys = settings.pop("api_keys", "tok:me:1000:1000,other:you:1000:1000")
        self.settings = Settings(api_keys=keys, signing_key=SIGNING_KEY, **settings)
        self.app = create_app(self.settings, self.worker, self.records, areas())
        self.client = self.app.test_client()

    @classmethod
    def again(cls, former):
        """Another process on the same database."""
        self = cls.__new__(cls)
        self.worker, self.records = FakeWorker(), former.records
        settings = Settings(api_keys="tok:me:1000:1000", signing_key=SIGNING_KEY)
        self.app = create_app(settings, self.worker, self.records, areas())
        self.client = self.app.test_client()
        return self

    def close(self):
        self.stop()
        self.records.close()
        self._folder.cleanup()

    def stop(self):
        self.worker.told.put(None)
        self.app.extensions["runyard"].lifecycle.stop(5)

    def kept(self):
        """How many runs the database holds."""
        with closing(sqlite3.connect(f"{self._folder.name}/db.sqlite")) as database:
            return database.execute("SELECT count(*) FROM runs").fetchone()[0]

    def post(self, body=None, headers=None, **fields):
        body = {"language": "python", "code": "print(1+1)", **fields} if body is None else body
        data = body if isinstance(body, bytes) else json.dumps(body)
        return self.client.post(
            "/v1/runs", data=data, headers=AUTH | {"Content-Type": "application/json"} | (headers or {})
        )

    def get(self, run_id, token="tok"):
        return self.client.get(f"/v1/runs/{run_id}", headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def make_api():
    """Applications with settings of their own, taken apart at the end."""
    made = []

    def make(**settings):
        made.append(Api(**settings))
        return made[-1]

    yield make
    for api in made:
        api.close()


@pytest.fixture
def api(make_api):
    return make_api()


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
        artifacts=(Artifact("file_1", "p.png", "a/p.png", 3, "ab", "image/png"),),
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
            "url": run["artifacts"][0]["url"],
            "expires_at": run["artifacts"][0]["expires_at"],
        }
    ]
    assert run["artifacts"][0]["url"].startswith("http://localhost/v1/files/file_1/content?token=")
    assert run["artifacts"][0]["id"].startswith("file_")
    assert (run["signal"], run["skipped_artifacts_count"], run["metadata"]) == ("SIGSEGV", 7, {"user": "42"})
    assert run["code_sha256"] == "df5db25436cb819bec6de11301829284c56ab24fb6738ca0268c53245daa0346"
    again = api.get(run["id"]).json
    # Each answer signs its own link, at its own second.
    for answer in (run, again):
        del answer["artifacts"][0]["url"], answer["artifacts"][0]["expires_at"]
    assert again == run


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
    api.worker.events = [info("queued", "t1")]
    api.post()
    api.worker.events.append(info("running", "2026-01-01T00:00:00.000Z"))
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
    monkeypatch.setattr("api.system.routes._report", lambda _: 1 / 0)
    reply = api.client.get("/v1/health")
    assert_envelope(reply, 500, "internal_error")
    assert b"Zero" not in reply.data


def test_no_worker(api):
    api.worker.answer = WorkerUnavailable("no worker listens")
    reply = api.post()
    assert_envelope(reply, 503, "worker_unavailable")
    assert reply.headers["Retry-After"]
    assert api.kept() == 0


def test_no_worker_from_the_start(api):
    api.worker.down = True
    reply = api.post()
    assert_envelope(reply, 503, "worker_unavailable")
    assert reply.headers["Retry-After"]
    assert_envelope(api.client.get("/v1/languages"), 503, "worker_unavailable")
    assert api.client.get("/healthz").status_code == 200
    ready = api.client.get("/readyz")
    assert (ready.status_code, ready.json["checks"]) == (
        503,
        {
            "worker": "fail",
            "languages": "fail",
            "sandboxes": "fail",
            "posture": "fail",
            "database": "ok",
            "storage": "ok",
            "disk": "ok",
        },
    )
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
    assert api.kept() == 0


def test_a_client_that_left_leaves_a_run_whose_end_is_collected(api):
    api.worker.answer = ClientGone()
    api.post()
    run_id = api.worker.jobs[0].run_id
    assert api.get(run_id).json["status"] == "running"
    cancelled = Result(
        status="cancelled", language="python", limits=LIMITS, cancelled=True, stdout="half", finished_at="t"
    ).to_json()
    api.worker.told.put(FeedItem("ended", {"run_id": run_id, "result": cancelled}))
    until(lambda: api.worker.acknowledged == [run_id])
    run = api.get(run_id).json
    assert list(run) == RUN_FIELDS
    assert run["stdout"] == "half"
    assert (run["status"], run["cancelled"], run["error"]) == ("cancelled", True, None)
    assert run["finished_at"]


def test_unknown_language_lists_the_known(api):
    for name in ("cobol", "../sh", "Python\n", "__proto__", "", "x" * 100_000):
        error = assert_envelope(api.post(language=name), 400, "unknown_language")
        assert error["param"] == "language"
        assert error["message"].endswith("go, python")
        assert len(error["message"]) < 200


def test_a_service_that_cannot_make_a_sandbox_is_neither_ready_nor_healthy(api):
    api.worker.reports = {
        "sandboxes": {"usable": False, "failing": ["python"]},
        "posture": {"seccomp": "fail", "root": "fail"},
    }
    ready, health = api.client.get("/readyz"), api.client.get("/v1/health")
    assert (ready.status_code, health.status_code) == (503, 200)
    assert (ready.json["status"], health.json["status"]) == ("fail", "degraded")
    assert ready.json["checks"]["sandboxes"] == health.json["checks"]["sandboxes"] == "fail"
    assert ready.json["version"] == health.json["version"] == VERSION
    assert ready.json["checks"]["posture.seccomp"] == "fail"


def test_one_language_without_sandboxes_leaves_the_service_ready_and_says_which(api):
    api.worker.reports = {"sandboxes": {"usable": True, "failing": ["go"]}}
    ready, health = api.client.get("/readyz"), api.client.get("/v1/health")
    assert (ready.status_code, ready.json["checks"]["sandboxes"]) == (200, "ok")
    assert (health.json["status"], health.json["checks"]["sandboxes.go"]) == ("degraded", "fail")


def test_a_language_not_built_yet(api):
    reply = api.post(language="go")
    assert assert_envelope(reply, 503, "language_not_ready")["param"] == "language"
    assert int(reply.headers["Retry-After"]) > 0
    assert api.worker.jobs == []


def test_an_inline_file_at_the_entry_file(api):
    reply = api.post(files=[{"path": "main.py", "content": ""}])
    assert assert_envelope(reply, 400, "duplicate_path")["param"] == "files.0.path"


def test_languages(api):
    reply = api.client.get("/v1/languages")
    assert reply.json["object"] == "list"
    fields = [
        "id",
        "aliases",
        "version",
        "entry_file",
        "packages",
        "ready",
        "example",
        "keeps",
        "kernels",
        "results",
        "package_ecosystem",
    ]
    assert list(reply.json["data"][0]) == fields
    assert api.client.get("/readyz").json == {
        "status": "ok",
        "version": VERSION,
        "checks": {
            "worker": "ok",
            "languages": "ok",
            "sandboxes": "ok",
            "posture": "ok",
            "database": "ok",
            "storage": "ok",
            "disk": "ok",
        },
    }


def test_not_ready_without_any_language(api):
    api.worker.languages = [language("go", ready=False)]
    assert api.client.get("/readyz").status_code == 503


def test_rate_limit_headers_and_429(make_api):
    api = make_api(api_keys="tok:me:0.001:2")
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
        ("GET", "/assets/nothing.js", 404, "not_found"),
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
    assert api.client.head("/v1/runs/x/cancel").status_code == 405


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


# -- streams, background, cancel ------------------------------------------------------------------------


def events_of(reply):
    return [json.loads(line) for line in reply.data.splitlines()]


def run_event(seq, kind, data):
    return {"seq": seq, "event": kind, "data": data, "t_ms": seq}


def test_a_stream_ends_with_the_run_that_was_recorded(api):
    api.worker.events = [info("running", "t1"), run_event(2, "stdout", "2\n")]
    reply = api.post(stream=True)
    assert (reply.status_code, reply.content_type) == (200, "application/x-ndjson")
    events = events_of(reply)
    assert [(event["seq"], event["event"]) for event in events] == [(1, "info"), (2, "stdout"), (3, "result")]
    assert api.get(api.worker.jobs[0].run_id).json == events[-1]["data"]
    assert api.worker.acknowledged == [api.worker.jobs[0].run_id]
    assert api.worker.jobs[0].live


@pytest.mark.parametrize(
    "refusal", [Refusal(503, "full", "overloaded", None, 3), Refusal(400, "bad", "invalid_value")]
)
def test_what_is_wrong_before_the_start_is_no_stream(api, refusal):
    api.worker.answer = refusal
    reply = api.post(stream=True)
    assert_envelope(reply, refusal.status, refusal.code)
    assert api.kept() == 0


def test_a_stream_whose_worker_is_lost_ends_with_an_error(api):
    api.worker.events = [info("running", "t1")]
    api.worker.answer = WorkerLost("gone")
    events = events_of(api.post(stream=True))
    assert [event["event"] for event in events] == ["info", "error"]
    assert events[-1]["data"]["code"] == "worker_lost"
    run = api.get(api.worker.jobs[0].run_id).json
    assert (run["status"], run["error"]) == ("error", events[-1]["data"])


def test_a_stream_that_is_left_cancels_and_its_end_is_collected(api):
    api.worker.events = [info("running", "t1"), run_event(2, "stdout", "2\n")]
    reply = api.client.post(
        "/v1/runs", json={"language": "python", "code": "x", "stream": True}, headers=AUTH, buffered=False
    )
    next(iter(reply.response))
    reply.close()
    run_id = api.worker.jobs[0].run_id
    assert api.worker.closed == [run_id]
    assert api.worker.acknowledged == []
    api.worker.told.put(FeedItem("ended", {"run_id": run_id, "result": api.worker.answer}))
    until(lambda: api.get(run_id).json["status"] == "succeeded")


def test_an_accept_that_admits_no_stream(api):
    reply = api.post(stream=True, headers={"Accept": "application/json"})
    assert assert_envelope(reply, 400, "not_acceptable")["param"] == "Accept"
    assert api.worker.jobs == []


def test_a_background_run_is_accepted_and_collected(api):
    reply = api.post(background=True)
    run = reply.json
    assert (reply.status_code, run["status"], run["started_at"]) == (202, "queued", None)
    assert list(run) == RUN_FIELDS
    told = api.worker.told
    told.put(FeedItem("status", {"id": run["id"], "status": "running", "at": "t1"}))
    until(lambda: api.get(run["id"]).json["status"] == "running")
    told.put(FeedItem("ended", {"run_id": run["id"], "result": api.worker.answer}))
    until(lambda: api.worker.acknowledged == [run["id"]])
    assert api.get(run["id"]).json["stdout"] == "2\n"


def test_a_refused_background_run_never_was(api):
    api.worker.answer = Refusal(503, "full", "overloaded", None, 3)
    assert_envelope(api.post(background=True), 503, "overloaded")
    assert api.kept() == 0


def test_a_background_run_that_a_new_worker_does_not_know_is_lost(api):
    run = api.post(background=True).json
    until(lambda: not api.worker.told.qsize())
    api.worker.told.put(FeedItem("runs", {"live": {run["id"]: {"id": run["id"], "status": "running", "at": "t1"}}}))
    until(lambda: api.get(run["id"]).json["status"] == "running")
    api.worker.told.put(None)  # the worker is gone; the next one knows nothing
    api.worker.told.put(FeedItem("runs", {"live": {}}))
    until(lambda: api.get(run["id"]).json["status"] == "error")
    assert api.get(run["id"]).json["error"]["code"] == "worker_lost"


def test_an_unreadable_collected_result_is_an_error_and_acknowledged(api):
    run = api.post(background=True).json
    api.worker.told.put(FeedItem("ended", {"run_id": run["id"], "result": {"status": "odd"}}))
    until(lambda: api.get(run["id"]).json["status"] == "error")
    until(lambda: api.worker.acknowledged == [run["id"]])


def test_cancel_asks_until_the_worker_knows_the_run_and_waits_for_its_end(api):
    run_id = api.post(background=True).json["id"]
    cancelled = Result(status="cancelled", language="python", limits=LIMITS, cancelled=True).to_json()

    def on_cancel(run_id):
        if len(api.worker.cancelled) == 2:
            api.worker.told.put(FeedItem("ended", {"run_id": run_id, "result": cancelled}))
        return len(api.worker.cancelled) == 2

    api.worker.on_cancel = on_cancel
    reply = api.client.post(f"/v1/runs/{run_id}/cancel", headers=AUTH)
    assert (reply.status_code, reply.json["status"]) == (200, "cancelled")
    assert api.worker.cancelled == [run_id] * 2
    again = api.client.post(f"/v1/runs/{run_id}/cancel", headers=AUTH)
    assert again.json == reply.json
    assert len(api.worker.cancelled) == 2


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("what", ["cancel", "events"])
def test_nobody_elses_run_is_followed_or_ended(api, what, method):
    run_id = api.post().json["id"]
    if (what, method) in {("cancel", "get"), ("events", "post")}:
        assert getattr(api.client, method)(f"/v1/runs/{run_id}/{what}", headers=AUTH).status_code == 405
        return
    for name, token in ((run_id, "other"), ("run_" + "a" * 28, "tok"), ("x", "tok")):
        reply = getattr(api.client, method)(f"/v1/runs/{name}/{what}", headers={"Authorization": f"Bearer {token}"})
        assert_envelope(reply, 404, "run_not_found")


@pytest.mark.parametrize("query", ["after=-1", "after=x", "after=1&after=2", "before=1"])
def test_a_bad_after(api, query):
    run_id = api.post().json["id"]
    reply = api.client.get(f"/v1/runs/{run_id}/events?{query}", headers=AUTH)
    assert reply.status_code == 400
    assert reply.json["error"]["message"].startswith("after")


def test_last_event_id_counts_for_server_sent_events_only(api):
    api.worker.answer["timeline"] = [["info", {}, 0], ["stdout", 2, 1]]
    run_id = api.post().json["id"]
    url = f"/v1/runs/{run_id}/events?after=0"
    sse = api.client.get(url, headers=AUTH | {"Accept": "text/event-stream", "Last-Event-ID": "2"})
    assert sse.data.decode().startswith("id: 3\nevent: result\n")
    lines = api.client.get(url, headers=AUTH | {"Last-Event-ID": "2"})
    assert [event["seq"] for event in events_of(lines)] == [1, 2, 3]
    odd = api.client.get(url, headers=AUTH | {"Accept": "text/event-stream", "Last-Event-ID": "x"})
    assert assert_envelope(odd, 400, "invalid_value")["param"] == "Last-Event-ID"
    unread = api.client.get(url, headers=AUTH | {"Last-Event-ID": "x"})
    assert assert_envelope(unread, 400, "invalid_value")["param"] == "Last-Event-ID"


def test_followers_are_bounded(make_api):
    api = make_api(streams_max=1)
    api.worker.events = []
    run_id = api.post().json["id"]
    first = api.client.get(f"/v1/runs/{run_id}/events", headers=AUTH, buffered=False)
    refused = api.client.get(f"/v1/runs/{run_id}/events", headers=AUTH)
    assert_envelope(refused, 429, "too_many_connections")
    assert int(refused.headers["Retry-After"]) >= 1
    first.close()
    assert api.client.get(f"/v1/runs/{run_id}/events", headers=AUTH, buffered=True).status_code == 200


def test_who_reads_much_leaves_something_for_every_other_key_and_for_those_without_one(make_api):
    api = make_api(streams_max=8, uploads_max=2)
    theirs = {"Authorization": "Bearer other"}
    run_id = api.post().json["id"]
    other_run = api.client.post("/v1/runs", json={"language": "python", "code": "1"}, headers=theirs).json["id"]
    mine = [api.client.get(f"/v1/runs/{run_id}/events", headers=AUTH, buffered=False) for _ in range(12)]
    assert [reply.status_code for reply in mine] == [200] * 8 + [429] * 4
    events = api.client.get(f"/v1/runs/{other_run}/events", headers=theirs, buffered=True)
    assert events.status_code == 200
    for headers in (AUTH, theirs):  # another pool
        kept = api.client.post("/v1/files", **upload_form(b"x"), headers=headers)
        assert kept.status_code == 200
    for path in ("/openapi.json", "/metrics", "/healthz", "/docs/swagger-ui-bundle.js"):
        assert api.client.get(path, buffered=True).status_code == 200
    assert listed(api).status_code == 200
    for reply in mine:
        reply.close()


def test_what_needs_no_key_is_shared_between_addresses(make_api):
    api = make_api(event_readers=1)

    def read(address):
        return api.client.get("/openapi.json", environ_base={"REMOTE_ADDR": address}, buffered=False)

    slow = [read("192.0.2.1") for _ in range(16)]
    assert [reply.status_code for reply in slow] == [200] * 14 + [429] * 2
    other = read("192.0.2.2")
    assert other.status_code == 200
    for reply in (*slow, other):
        reply.close()
    assert read("192.0.2.1").status_code == 200


def test_a_link_is_read_as_the_address_that_it_is_read_from(make_api):
    api = make_api(event_readers=1)
    content = b"x" * (SMALL_BYTES + 1)
    kept = api.client.post("/v1/files", **upload_form(content), headers=AUTH)
    link = api.app.extensions["runyard"].links.make(kept.json["id"]).url
    path = urlsplit(link).path + "?" + urlsplit(link).query

    def read(address):
        return api.client.get(path, environ_base={"REMOTE_ADDR": address}, buffered=False)

    first, second, third = read("192.0.2.1"), read("192.0.2.1"), read("192.0.2.2")
    assert [reply.status_code for reply in (first, second, third)] == [200, 429, 200]
    for reply in (first, third):
        reply.close()
    for added in ("&token=x", "&x=1", "&token="):
        assert_envelope(api.client.get(path + added), 403, "link_invalid")


# -- records ----------------------------------------------------------------------------------------------


def listed(api, query="", token="tok"):
    return api.client.get(f"/v1/runs{query}", headers={"Authorization": f"Bearer {token}"})


def ids(reply):
    return [run["id"] for run in reply.json["data"]]


def test_runs_are_listed_newest_first_a_page_at_a_time(api):
    made = [api.post().json["id"] for _ in range(5)][::-1]
    first = listed(api, "?limit=2")
    assert list(first.json) == ["object", "data", "first_id", "last_id", "has_more", "next"]
    assert ids(first) == made[:2]
    assert (first.json["first_id"], first.json["last_id"], first.json["has_more"]) == (made[0], made[1], True)
    rest = listed(api, f"?limit=3&after={made[1]}")
    assert (ids(rest), rest.json["has_more"]) == (made[2:], False)
    assert ids(listed(api, "?order=asc")) == made[::-1]
    assert first.json["data"][0] == api.get(made[0]).json


def test_a_list_that_is_empty_and_anothers(api):
    api.post()
    assert listed(api, token="other").json == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
        "next": None,
    }


def test_lists_are_filtered_by_status_and_language_or_its_alias(api):
    good = api.post().json["id"]
    api.worker.answer = Result(status="failed", language="python", limits=LIMITS, exit_code=1).to_json()
    bad = api.post().json["id"]
    assert ids(listed(api, "?status=failed")) == [bad]
    assert ids(listed(api, "?status=succeeded&language=py")) == [good]
    assert ids(listed(api, "?language=go")) == []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?limit=0", "limit"),
        ("?limit=101", "limit"),
        ("?limit=x", "limit"),
        ("?limit=%D9%A3", "limit"),
        ("?limit=" + "9" * 400, "limit"),
        ("?limit=1&limit=2", "limit"),
        ("?order=newest", "order"),
        ("?status=done", "status"),
        ("?language=nope", "language"),
        ("?after=run_" + "a" * 28, "after"),
        ("?after=%00", "after"),
        ("?after=" + "a" * 5000, "after"),
        ("?after=", "after"),
        ("?page=2", None),
    ],
)
def test_bad_queries(api, query, param):
    reply = listed(api, query)
    assert reply.status_code == 400
    assert reply.json["error"]["param"] == param


def test_anothers_run_is_no_cursor(api):
    run_id = api.post().json["id"]
    assert listed(api, f"?after={run_id}", token="other").status_code == 400


def test_the_request_that_made_a_run(api):
    run = api.post(metadata={"user": "42"}).json
    found = api.client.get(f"/v1/runs/{run['id']}?include=request", headers=AUTH).json
    request = {"language": "python", "code": "print(1+1)", "metadata": {"user": "42"}}
    assert found == run | {"request": request}
    assert_envelope(api.client.get(f"/v1/runs/{run['id']}?include=all", headers=AUTH), 400, "invalid_value")


def test_a_run_is_forgotten_when_it_has_ended(api):
    run_id = api.post(background=True).json["id"]
    url = f"/v1/runs/{run_id}"
    assert_envelope(api.client.delete(url, headers=AUTH), 409, "run_not_ended")
    api.worker.told.put(FeedItem("ended", {"run_id": run_id, "result": api.worker.answer}))
    until(lambda: api.get(run_id).json["status"] == "succeeded")
    assert_envelope(api.client.delete(url, headers={"Authorization": "Bearer other"}), 404, "run_not_found")
    assert api.client.delete(url, headers=AUTH).json == {"id": run_id, "object": "run", "deleted": True}
    assert_envelope(api.client.delete(url, headers=AUTH), 404, "run_not_found")
    assert api.get(run_id).status_code == 404


KEYED = {"Idempotency-Key": "abc-1"}


def test_the_same_key_and_body_is_the_same_run(api):
    first = api.post(headers=KEYED)
    again = api.post(headers=KEYED)
    assert (again.status_code, again.json) == (200, first.json)
    assert len(api.worker.jobs) == 1
    stream = {"language": "python", "code": "print(1+1)"}
    assert api.client.post("/v1/runs", json=stream, headers=AUTH | {"Idempotency-Key": "abc-2"}).json != first.json
    other = api.client.post(
        "/v1/runs", json=stream, headers={"Authorization": "Bearer other", "Idempotency-Key": "abc-1"}
    )
    assert other.json["id"] != first.json["id"]


def test_another_body_is_refused(api):
    api.post(headers=KEYED)
    assert_envelope(api.post(headers=KEYED, code="print(2)"), 422, "idempotency_mismatch")
    assert len(api.worker.jobs) == 1


def test_a_run_that_has_not_ended_is_a_conflict_that_names_it(api):
    run_id = api.post(headers=KEYED, background=True).json["id"]
    reply = api.post(headers=KEYED, background=True)
    assert_envelope(reply, 409, "idempotency_key_in_use")
    assert reply.json["run_id"] == run_id
    api.worker.told.put(FeedItem("ended", {"run_id": run_id, "result": api.worker.answer}))
    until(lambda: api.get(run_id).json["status"] == "succeeded")
    again = api.post(headers=KEYED, background=True)
    assert (again.status_code, again.json["id"]) == (202, run_id)


def test_a_refused_run_frees_its_key(api):
    api.worker.answer = Refusal(503, "full", "overloaded", None, 3)
    assert api.post(headers=KEYED).status_code == 503
    api.worker.answer = Result(status="succeeded", language="python", limits=LIMITS, exit_code=0).to_json()
    assert api.post(headers=KEYED).status_code == 200


def test_a_failed_run_is_answered_again_as_it_was(api):
    api.worker.answer = WorkerLost("gone")
    first = api.post(headers=KEYED)
    again = api.post(headers=KEYED)
    assert (first.status_code, first.json["error"]["code"]) == (500, "worker_lost")
    assert (again.status_code, again.json) == (500, first.json)


def test_a_run_in_the_background_that_may_have_begun_when_its_worker_was_lost_is_cancelled(api):
    api.worker.answer = WorkerLost("gone")
    reply = api.post(background=True)
    assert (reply.status_code, reply.json["error"]["code"]) == (500, "worker_lost")
    assert api.worker.cancelled == [reply.json["run_id"]]
    assert api.get(reply.json["run_id"]).json["status"] == "error"


def test_a_streamed_run_is_streamed_again(api):
    api.worker.events = [info("running", "t1"), run_event(2, "stdout", "2\n")]
    api.worker.answer["timeline"] = [["info", {}, 0], ["stdout", 2, 2]]
    first = events_of(api.post(headers=KEYED, stream=True))
    again = events_of(api.post(headers=KEYED, stream=True))
    assert again[1:] == first[1:]
    assert len(api.worker.jobs) == 1


def test_a_deleted_runs_key_stays_used(api):
    run_id = api.post(headers=KEYED).json["id"]
    api.client.delete(f"/v1/runs/{run_id}", headers=AUTH)
    assert_envelope(api.post(headers=KEYED), 409, "idempotency_key_used")


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256, "a\tb"])
def test_a_bad_idempotency_key(api, key):
    reply = api.post(headers={"Idempotency-Key": key})
    assert assert_envelope(reply, 400, "invalid_value")["param"] == "Idempotency-Key"


def test_twenty_at_once_make_one_run(api):
    api.worker.answer = lambda job: (
        time.sleep(0.2) or Result(status="succeeded", language="python", limits=LIMITS, stdout="one").to_json()
    )
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(api.post(headers=KEYED))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted({reply.status_code for reply in replies}) in ([200, 409], [200])
    assert len(api.worker.jobs) == 1


def test_a_database_that_is_gone_is_a_503_and_the_end_is_recorded_later(api, monkeypatch):
    runs = api.app.extensions["runyard"].runs._store
    failing = []

    def unless_failing(name, original):
        def call(*arguments):
            if name in failing:
                raise RecordsUnavailable
            return original(*arguments)

        return call

    for name in ("accept", "finish", "discard"):
        monkeypatch.setattr(runs, name, unless_failing(name, getattr(runs, name)))
    failing[:] = ["accept", "discard"]
    reply = api.post()
    assert_envelope(reply, 503, "records_unavailable")
    assert int(reply.headers["Retry-After"]) >= 1
    assert api.worker.jobs == []
    failing[:] = ["finish"]
    run = api.post().json
    assert run["stdout"] == "2\n"
    assert api.get(run["id"]).json["status"] == "running"
    api.worker.told.put(FeedItem("ended", {"run_id": run["id"], "result": api.worker.answer}))
    time.sleep(0.3)
    assert api.worker.acknowledged == []
    failing.clear()
    until(lambda: api.worker.acknowledged == [run["id"]])
    assert api.get(run["id"]).json["stdout"] == "2\n"


def test_runs_of_an_earlier_process_end(make_api):
    first = make_api()
    known, lost = (first.post(background=True).json["id"] for _ in range(2))
    second = Api.again(first)
    second.worker.told.put(FeedItem("runs", {"live": {known: None}}))
    until(lambda: second.get(lost).json["status"] == "error")
    assert second.get(lost).json["error"]["code"] == "interrupted"
    assert second.get(known).json["status"] == "queued"
    second.worker.told.put(FeedItem("ended", {"run_id": known, "result": second.worker.answer}))
    until(lambda: second.get(known).json["status"] == "succeeded")
    assert second.get(known).json["created_at"] == first.get(known).json["created_at"]
    second.stop()
