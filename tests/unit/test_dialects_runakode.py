"""runakode's wire contract over a worker whose answer is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.dialects.runakode.translate import limits_of
from api.keys.plans import Plan
from api.ratelimit.bucket import Bucket
from config.allowed import bounds_of
from config.settings import Settings
from config.version import VERSION
from protocol.limits import LIMIT_RULES, Limits
from protocol.result import Compile, Result, Usage
from tests.unit.test_api_app import AUTH, LIMITS, Api

REPO = Path(__file__).resolve().parents[2]
TEXT = "text/plain; charset=utf-8"
BUCKET = Bucket(1, 1)


@pytest.fixture(scope="module")
def kept():
    """Made once, since that takes longer than a test."""
    made = Api()
    yield made
    made.close()


@pytest.fixture
def api(kept):
    """That application with its worker as it was."""
    kept.worker.jobs.clear()
    kept.worker.reports, kept.worker.down = {}, False
    kept.app.extensions["runyard"].languages.forget()
    answer(kept)
    yield kept
    kept.app.extensions["runyard"].settings = kept.settings


@pytest.fixture
def lone():
    """An application whose worker goes away, which is remembered for a moment."""
    made = Api()
    yield made
    made.close()


def send(api, body, **more):
    data = {"data": body} if isinstance(body, bytes) else {"json": body}
    return api.client.post("/api", headers=AUTH, **data, **more)


def answer(api, **fields):
    api.worker.answer = Result(
        **{"status": "succeeded", "language": "python", "limits": LIMITS, **fields}
    ).to_json()


def test_the_documented_example_byte_for_byte(api):
    answer(api, exit_code=0, stdout="2\n", usage=Usage(14, 9, 9, 0))
    reply = send(api, b'{"language":"python","source_code":"print(1+1)"}', content_type="application/json")
    assert (reply.status_code, reply.content_type) == (200, "application/json")
    assert reply.data == b'{"stdout":"2\\n","stderr":"","exit_code":0,"timeout":false,"exec_time_ms":14}'
    job = api.worker.jobs[0]
    assert (job.language, job.code, job.isolation) == ("python", "print(1+1)", "default")


def test_the_type_of_the_body_does_not_matter(api):
    for kind in ("application/x-www-form-urlencoded", "text/plain", None):
        assert send(api, b'{"language":"python","source_code":"1","more":1}', content_type=kind).status_code == 200


@pytest.mark.parametrize(
    ("fields", "status", "expected"),
    [
        ({"status": "failed", "exit_code": 3, "stderr": "x"}, 200, {"stderr": "x", "exit_code": 3}),
        ({"status": "failed", "signal": "SIGSEGV"}, 200, {"exit_code": 139, "timeout": False}),
        ({"status": "oom", "signal": "SIGKILL", "oom_killed": True}, 200, {"exit_code": 137}),
        ({"status": "killed"}, 200, {"exit_code": -1}),
        (
            {"status": "timeout", "signal": "SIGKILL", "timed_out": True, "stdout": "a"},
            504,
            {"stdout": "a", "exit_code": 137, "timeout": True},
        ),
        (
            {"status": "failed", "compile": Compile("", "main.go:2: undefined\n", 1, 9, 8)},
            200,
            {"stdout": "", "stderr": "main.go:2: undefined\n", "exit_code": 1},
        ),
    ],
)
def test_how_a_run_may_end(api, fields, status, expected):
    answer(api, **fields)
    reply = send(api, {"language": "python", "source_code": "1"})
    assert (reply.status_code, reply.content_type) == (status, "application/json")
    assert list(reply.json) == ["stdout", "stderr", "exit_code", "timeout", "exec_time_ms"]
    assert {name: reply.json[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "Cant parse the request!"),
        (b"{", "Cant parse the request!"),
        (b"[]", "Cant parse the request!"),
        (b'"x"', "Cant parse the request!"),
        (b'{"language":"python","source_code":"\xff"}', "Cant parse the request!"),
        (b'{"language":"python","source_code":1}', "Cant parse the request!"),
        (b'{"language":["python"],"source_code":"1"}', "Cant parse the request!"),
        (b"[" * 100_000, "Cant parse the request!"),
        (b'{"language":"python"}', "The source code is empty!"),
        (b'{"language":"python","source_code":""}', "The source code is empty!"),
        (b'{"language":"python","source_code":null}', "The source code is empty!"),
        (b'{"source_code":"1"}', "Unsupported language!"),
        (b'{"language":"","source_code":"1"}', "Unsupported language!"),
        (b'{"language":"../python","source_code":"1"}', "Unsupported language!"),
        (
            b'{"language":"python","source_code":"' + b"x" * (1024 * 1024 + 1) + b'"}',
            "source_code: 1048577 bytes, the maximum is 1048576",
        ),
    ],
)
def test_wrong_requests(api, body, text):
    reply = send(api, body)
    assert (reply.status_code, reply.content_type, reply.text) == (400, TEXT, text + "\n")
    assert api.worker.jobs == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_another_method(api, method):
    reply = api.client.open("/api", method=method)
    assert (reply.status_code, reply.headers["Allow"]) == (405, "POST")
    assert reply.text == ("" if method == "HEAD" else "Wrong method!\n")


def test_a_language_that_is_not_ready_and_a_worker_that_is_gone(lone):
    api = lone
    reply = send(api, {"language": "go", "source_code": "1"})
    assert (reply.status_code, reply.content_type) == (503, TEXT)
    assert reply.headers["Retry-After"]
    api.worker.down = True
    api.app.extensions["runyard"].languages.forget()
    reply = send(api, {"language": "python", "source_code": "1"})
    assert (reply.status_code, reply.text) == (503, "The worker cannot be reached; nothing was started.\n")


def test_the_isolation_is_gvisor_where_there_is_one(api):
    api.worker.reports = {"isolations": ["default", "container", "gvisor"]}
    send(api, {"language": "python", "source_code": "1"})
    assert api.worker.jobs[0].isolation == "gvisor"


@pytest.mark.parametrize("wanted", ["default", "container"])
def test_another_isolation_may_be_set(api, wanted):
    deps = api.app.extensions["runyard"]
    deps.settings = deps.settings.model_copy(update={"runakode_isolation": wanted})
    api.worker.reports = {"isolations": ["default", "container", "gvisor"]}
    send(api, {"language": "python", "source_code": "1"})
    assert api.worker.jobs[0].isolation == wanted


def test_health(lone):
    api = lone
    api.worker.reports = {"posture": {}, "sandboxes": {"usable": True}}
    reply = api.client.get("/health", headers={"Authorization": "Bearer wrong"})
    assert (reply.status_code, reply.content_type) == (200, "application/json")
    assert reply.data == b'{"status":"ok","ok":true,"version":"%s"}' % VERSION.encode()
    api.worker.down = True
    api.app.extensions["runyard"].languages.forget()
    reply = api.client.get("/health")
    assert (reply.status_code, reply.json) == (200, {"status": "degraded", "ok": False, "version": VERSION})


def test_health_is_degraded_while_the_broker_is_not_connected(api):
    deps = api.app.extensions["runyard"]
    deps.settings = deps.settings.model_copy(update={"amqp_url": "amqp://127.0.0.1:1/"})
    api.worker.reports = {"posture": {}, "sandboxes": {"usable": True}}
    for is_connected, status, check in ((True, "ok", "ok"), (False, "degraded", "fail")):
        api.worker.is_connected = is_connected
        reply = api.client.get("/health")
        assert (reply.status_code, reply.json) == (
            200,
            {"status": status, "ok": is_connected, "version": VERSION},
        )
        assert api.client.get("/v1/health").json["checks"]["broker"] == check
        assert api.client.get("/readyz").status_code == (200 if is_connected else 503)


def test_the_default_limits_are_those_of_the_service(api):
    send(api, {"language": "python", "source_code": "1"})
    assert Limits.resolve(api.worker.jobs[0].limits) == LIMITS


def test_the_service_may_set_the_limits_and_a_plan_lowers_them(api):
    deps = api.app.extensions["runyard"]
    given = {
        "runakode_timeout_ms": 60_000,
        "runakode_memory_mb": 512,
        "runakode_cpus": 0.5,
        "runakode_output_bytes": 4096,
    }
    deps.settings = deps.settings.model_copy(update=given)
    assert send(api, {"language": "python", "source_code": "1"}).status_code == 200
    expected = {"timeout_ms": 60_000, "memory_mb": 512, "cpus": 0.5, "max_output_bytes": 4096}
    assert {name: api.worker.jobs[0].limits[name] for name in expected} == expected
    plan = Plan("small", BUCKET, BUCKET, limits={"timeout_ms": 3000, "memory_mb": 1024})
    assert limits_of(deps.settings, plan) == {**expected, "timeout_ms": 3000}


def test_the_bounds_of_these_settings_are_those_of_a_run():
    names = {
        "runakode_timeout_ms": "timeout_ms",
        "runakode_memory_mb": "memory_mb",
        "runakode_cpus": "cpus",
        "runakode_output_bytes": "max_output_bytes",
    }
    for setting, limit in names.items():
        rule = LIMIT_RULES[limit]
        assert bounds_of(Settings.model_fields[setting]) == (rule.minimum, rule.ceiling)
