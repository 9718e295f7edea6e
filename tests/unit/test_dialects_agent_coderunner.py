"""agent-coderunner's wire contract over a worker whose answers are given."""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.dialects.agentcoderunner.callers import key_in_query
from api.dialects.agentcoderunner.ids import run_id
from api.dialects.agentcoderunner.requests import parse_execute, parse_query, run_fields
from api.keys.plans import load_plans
from api.runs.requests import parse_run
from config.settings import Settings
from protocol.result import Compile, Result, Usage
from tests.unit.test_api_app import AUTH, LIMITS, SIGNING_KEY, Api, language
from tests.unit.test_dialects_runtools_sandboxes import Sessions, outcome

GATEWAY = "/v1/agent-coderunner"
ID = re.compile(r"exec-[A-Za-z0-9]{28}")


class SessionsWithFiles(Sessions):
    """The worker's sessions with the calls about their files, as they were asked for."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def operate(self, _session_id, _key, name, arguments):
        self.operations.append((name, arguments))
        entry = {
            "name": "data/in.csv", "target": "", "kind": "file", "size": 3, "mode": 0o644, "uid": 0, "gid": 0,
            "mtime_ns": 1_796_000_000_000_000_000,
        }  # fmt: skip
        own = entry | {"name": "outputs", "kind": "directory"}
        return {"entry": entry, "entries": [own, entry]}

    def send_file(self, session_id, key, name, arguments, pieces):
        entry = self.operate(session_id, key, name, [*arguments, b"".join(pieces)])["entry"]
        return entry | {"name": "/work/data/in.csv"}


def connected(**settings):
    made = Api(**settings)
    made.worker.languages = [
        language("python", version="3.13.5", aliases=["py"], entry_file="main.py", keeps="variables"),
        language("node", version="22.12.0", aliases=["javascript"], entry_file="main.js", keeps="variables"),
        language("typescript", ready=False, version="22.12.0"),
        language("bash", version="5.2.37", entry_file="main.sh"),
        language("go", version="1.24.4", entry_file="main.go"),
    ]
    found = made.app.extensions["runyard"]
    made.sessions = SessionsWithFiles()
    found.session_worker = found.sessions._worker = found.sessions._watch._worker = made.sessions
    return made


@pytest.fixture(scope="module")
def kept():
    """Made once, since that takes longer than a test."""
    made = connected(self_service_keys=False)
    yield made
    made.close()


@pytest.fixture
def api(kept):
    kept.worker.jobs.clear()
    kept.sessions.operations.clear()
    answer(kept)
    return kept


@pytest.fixture(scope="module")
def open_api():
    """An application with self-service keys, and calls without a key."""
    made = connected(self_service_keys=True, keys_per_hour=3)
    answer(made)
    yield made
    made.close()


def answer(api, **fields):
    given = {"status": "succeeded", "language": "python", "limits": LIMITS, "exit_code": 0, "stdout": "499500\n"}
    api.worker.answer = Result(**given | {"usage": Usage(18, 9, 9, 0)} | fields).to_json()


def call(api, method, path, body=None, headers=AUTH, **more):
    return api.client.open(f"/api{path}", method=method, json=body, headers=headers, **more)


def refusal(reply, status, code, message=""):
    """Hold an error against the shape of the service."""
    assert reply.status_code == status, reply.text
    assert reply.content_type == "application/json"
    assert list(reply.json) == ["error", "message"]
    assert reply.json["error"] == code
    assert reply.json["message"].startswith(message), reply.text
    if status in (429, 503):
        assert int(reply.headers["Retry-After"]) >= 1
    return reply.json["message"]


# -- executions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["", GATEWAY])
def test_an_execution_byte_for_byte(api, base):
    body = b'{"language":"python","code":"print(sum(range(1000)))","timeout":5000,"stdin":""}'
    reply = api.client.post(f"{base}/api/execute", data=body, headers=AUTH | {"Content-Type": "application/json"})
    assert (reply.status_code, reply.content_type) == (200, "application/json")
    shown = reply.json["id"]
    assert ID.fullmatch(shown)
    assert reply.data == (
        b'{"id":"%s","exitCode":0,"stdout":"499500","stderr":"","duration":18,"timedOut":false,"language":"python"}'
        % shown.encode()
    )
    job = api.worker.jobs[0]
    assert (job.run_id, job.language, job.code) == (run_id(shown), "python", "print(sum(range(1000)))")
    assert job.limits == {
        "timeout_ms": 5000, "memory_mb": 256, "pids": 64, "max_output_bytes": 524_288, "max_artifact_files": 0,
    }  # fmt: skip


def test_what_the_client_for_agents_sends(api):
    body = {"code": "console.log(6 * 7)", "language": "javascript"}
    reply = api.client.post(f"{GATEWAY}/api/execute", json=body, headers=AUTH)
    assert (reply.status_code, reply.json["language"]) == (200, "javascript")
    assert api.worker.jobs[0].language == "node"
    assert call(api, "POST", "/execute", {"code": "1"}).status_code == 200
    assert [job.language for job in api.worker.jobs] == ["node", "node"]
    assert api.worker.jobs[1].limits["timeout_ms"] == 30_000


def test_a_program_in_the_query(api):
    path = "/run/python?code=print(input()%2B%22%C3%A9%22)&stdin=a+b&timeout=700"
    reply = call(api, "GET", path)
    assert reply.json["stdout"] == "499500"
    job = api.worker.jobs[0]
    assert (job.code, job.stdin, job.limits["timeout_ms"]) == ('print(input()+"é")', "a b", 700)
    head = call(api, "HEAD", path)
    assert (head.status_code, head.headers["Allow"]) == (405, "GET")
    assert len(api.worker.jobs) == 1


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"stdout": "a\n\n"}, {"stdout": "a\n"}),
        ({"stdout": "a"}, {"stdout": "a"}),
        ({"stdout": "\n"}, {"stdout": ""}),
        ({"stdout": "a\r\n", "stderr": "b\n"}, {"stdout": "a\r", "stderr": "b\n"}),
        ({"exit_code": 3, "status": "failed"}, {"exitCode": 3}),
        ({"exit_code": None, "signal": "SIGSEGV", "status": "failed"}, {"exitCode": 139}),
        (
            {"exit_code": None, "signal": "SIGKILL", "status": "timeout", "timed_out": True},
            {"exitCode": 137, "timedOut": True},
        ),
        ({"stdout": "x" * 9, "stdout_truncated": True}, {"truncated": True}),
        ({"stderr": "x" * 9, "stderr_truncated": True}, {"truncated": True}),
        (
            {"compile": Compile("", "error TS2322", 2, 5), "exit_code": None, "stdout": "", "status": "failed"},
            {"exitCode": 2, "stderr": "error TS2322"},
        ),
    ],
)
def test_how_a_program_ends(api, result, expected):
    answer(api, **result)
    made = call(api, "POST", "/execute", {"language": "python", "code": "1"}).json
    assert {name: made[name] for name in expected} == expected
    assert ("truncated" in made) == ("truncated" in expected)


WRONG = {
    "no code": ({}, "code: is required"),
    "no program": ({"code": ""}, "code: is required"),
    "code that is null": ({"code": None}, "code: is required"),
    "code that is a number": ({"code": 1}, "code"),
    "a language of others": ({"code": "1", "language": "go"}, "language: unknown; supported: python, javascript"),
    "an alias": ({"code": "1", "language": "node"}, "language: unknown; supported"),
    "a language that is a list": ({"code": "1", "language": []}, "language"),
    "too much time": ({"code": "1", "timeout": 30_001}, "timeout: must be an integer from 1 to 30000"),
    "no time": ({"code": "1", "timeout": 0}, "timeout: must be an integer from 1 to 30000"),
    "time as text": ({"code": "1", "timeout": "5"}, "timeout"),
    "time as a fraction": ({"code": "1", "timeout": 1.5}, "timeout"),
    "time as a flag": ({"code": "1", "timeout": True}, "timeout"),
    "too much code": ({"code": "x" * 102_401}, "code: 102401 bytes, the maximum is 102400"),
    "too much code of wide letters": ({"code": "é" * 51_201}, "code: 102402 bytes, the maximum is 102400"),
    "input that is an object": ({"code": "1", "stdin": {}}, "stdin"),
    "a list": ([], "The body must be a JSON object"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_execution(api, name):
    body, message = WRONG[name]
    refusal(call(api, "POST", "/execute", body), 400, "bad_request", message)
    assert api.worker.jobs == []


def test_the_largest_program_is_taken(api):
    assert call(api, "POST", "/execute", {"language": "bash", "code": "#" * 102_400}).status_code == 200


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/run/python", "code: is required"),
        ("/run/go?code=1", "language: unknown; supported: python"),
        ("/run/python?code=1&timeout=30001", "timeout: must be an integer from 1 to 30000"),
        ("/run/python?code=1&timeout=-1", "timeout: must be an integer"),
        ("/run/python?code=1&code=2", "code: is given twice"),
        ("/run/python?code=%ff", "the query must be percent-encoded UTF-8"),
        ("/run/python?code=1&" + "a=1&" * 70, "the query has more than 64 parameters"),
    ],
)
def test_a_wrong_program_in_the_query(api, path, message):
    refusal(call(api, "GET", path), 400, "bad_request", message)
    assert api.worker.jobs == []


def test_requests_that_are_none_of_ours_have_the_shape(api):
    kinds = {"Content-Type": "text/plain"}
    refusal(api.client.post("/api/execute", data=b"1", headers=AUTH | kinds), 415, "unsupported_media_type")
    refusal(api.client.post("/api/execute", data=b"{", headers=AUTH), 400, "bad_request")
    refusal(call(api, "DELETE", "/execute"), 405, "method_not_allowed")
    refusal(call(api, "GET", "/run/a/b"), 404, "not_found")
    refusal(call(api, "GET", "/sessions/a/b/c"), 404, "not_found")
    refusal(api.client.get(f"{GATEWAY}/api/nothing", headers=AUTH), 404, "not_found")


def test_paths_beside_its_own_are_nobodys():
    alone = connected(dialects="agent-coderunner")
    try:
        for path in ("", "/code/run", "/function", "/openapi.json", "/docs", "/executed", "/keys-of-others"):
            reply = call(alone, "POST", path, {"language": "python", "code": "1"})
            assert (reply.status_code, list(reply.json["error"])) == (404, ["message", "type", "param", "code"])
        assert call(alone, "POST", "/execute", {"code": "1"}).status_code == 200
    finally:
        alone.close()


def test_the_languages(api):
    assert call(api, "GET", "/languages").json == {
        "languages": [
            {"id": "python", "name": "Python 3.13", "version": "3.13.5"},
            {"id": "javascript", "name": "JavaScript (Node.js 22.12)", "version": "22.12.0"},
            {"id": "bash", "name": "Bash 5.2", "version": "5.2.37"},
        ]
    }


def test_a_plan_lowers_the_limits_and_is_used_up(open_api):
    api = open_api
    made = api.client.post("/api/keys", headers={"X-Forwarded-For": "x"}, environ_base={"REMOTE_ADDR": "192.0.2.9"})
    assert (made.status_code, list(made.json)) == (200, ["apiKey", "key", "plan"])
    key = made.json["apiKey"]
    assert (made.json["key"], made.json["plan"]) == (key, "free")
    plan = load_plans(Settings()).get("free")
    assert (plan.runs, plan.period, plan.bucket.rate * 60) == (50, "all", pytest.approx(10))
    headers = {"Authorization": f"Bearer {key}"}
    api.worker.jobs.clear()
    assert call(api, "POST", "/execute", {"code": "1"}, headers).status_code == 200
    assert api.worker.jobs[0].limits["timeout_ms"] == plan.ceiling("timeout_ms") == 10_000
    stored = api.records.keys.get(api.worker.jobs[0].key)
    found = api.app.extensions["runyard"]
    plans = dict(found.plans._plans)
    try:
        found.plans._plans["free"] = replace(plans["free"], runs=1)
        message = refusal(call(api, "POST", "/execute", {"code": "1"}, headers), 402, "payment_required")
        assert message.startswith("This key has used all 1 runs of its plan (free)")
        found.plans._plans["free"] = replace(plans["free"], runs=0, period="month")
        refusal(call(api, "POST", "/execute", {"code": "1"}, headers), 429, "rate_limited")
    finally:
        found.plans._plans = plans
    assert stored.plan == "free"


# -- keys ------------------------------------------------------------------------------------------------


def test_keys_have_the_limits_of_self_service(open_api, api):
    here = {"REMOTE_ADDR": "198.51.100.7"}
    paths = ("/api/keys", "/api/keys/create", f"{GATEWAY}/api/keys/create")
    made = [open_api.client.post(path, environ_base=here) for path in paths]
    assert [reply.status_code for reply in made] == [200] * 3
    assert len({reply.json["apiKey"] for reply in made}) == 3
    refusal(
        open_api.client.post("/api/keys", environ_base=here), 429, "rate_limited", "This address may make 3 keys"
    )
    # In one count with the service's own.
    assert open_api.client.post("/v1/keys", environ_base=here).status_code == 429
    refusal(call(api, "POST", "/keys"), 403, "forbidden", "Self-service keys are disabled")


@pytest.mark.parametrize("path", ["/api/execute", f"{GATEWAY}/api/execute"])
def test_a_key_in_the_query(api, path):
    job = {"code": "1"}
    assert api.client.post(f"{path}?key=tok", json=job).status_code == 200
    assert api.client.post(f"{path}?x=1&key=to%6b", json=job).status_code == 200
    for query in ("?key=", "?key=no", "?key=tok%00", "?KEY=tok", "?key=no&key=tok", ""):
        refusal(api.client.post(path + query, json=job), 401, "unauthorized")
    # A header comes first.
    refusal(api.client.post(f"{path}?key=tok", json=job, headers={"X-API-Key": "no"}), 401, "unauthorized")
    assert api.client.get("/api/executions?key=tok").status_code == 200
    assert len(api.worker.jobs) == 2
    assert api.records.runs.request(api.worker.jobs[0].key, api.worker.jobs[0].run_id).count(b"tok") == 0


def test_the_server_knows_the_key_in_the_query_only_where_it_is_one(api):
    found = api.app.extensions["runyard"].query_key
    assert found("/api/execute", "a=1&key=t%6fk") == "tok"
    assert found("/api/sessions/sess-a/files/x", "key=tok") == "tok"
    assert found(f"{GATEWAY}/api/execute", "key=tok") == "tok"
    for path in ("/v1/runs", "/api", "/api/v2/execute", "/v1/files", "/api/code/run"):
        assert found(path, "key=tok") is None
    assert found("/api/execute", "monkey=tok") is None


def test_without_a_key_programs_run_and_nothing_else(open_api):
    api, here = open_api, {"environ_base": {"REMOTE_ADDR": "203.0.113.5"}}
    assert call(api, "POST", "/execute", {"code": "1"}, {}, **here).status_code == 200
    assert call(api, "GET", "/run/bash?code=1", None, {}, **here).status_code == 200
    assert call(api, "GET", "/languages", None, {}, **here).status_code == 200
    for method, path in (
        ("POST", "/sessions"), ("GET", "/sessions"), ("GET", "/sessions/sess-a"), ("DELETE", "/sessions/sess-a"),
        ("POST", "/sessions/sess-a/execute"), ("GET", "/sessions/sess-a/files"), ("PUT", "/sessions/sess-a/files/x"),
        ("GET", "/sessions/sess-a/files/x"), ("DELETE", "/sessions/sess-a/files/x"), ("GET", "/executions"),
        ("GET", "/executions/exec-a"),
    ):  # fmt: skip
        message = refusal(call(api, method, path, None, {}, **here), 401, "unauthorized")
        assert "need a key (POST /api/keys makes one)" in message


def test_the_bucket_of_an_address(open_api):
    here = {"environ_base": {"REMOTE_ADDR": "203.0.113.6"}}
    replies = [call(open_api, "POST", "/execute", {"code": "1"}, {}, **here) for _ in range(11)]
    assert [reply.status_code for reply in replies] == [200] * 10 + [429]
    refusal(replies[-1], 429, "rate_limited")


@given(st.text(), st.text(min_size=1))
def test_a_key_in_a_query_is_found_whatever_stands_beside(text, key):
    beside = urlencode({f"x{text}": text})
    assert key_in_query(f"{beside}&key={quote_plus(key)}") == key
    assert key_in_query(beside) is None


# -- any request -----------------------------------------------------------------------------------------

VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.text(), max_size=2)
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "code": VALUES | st.just("print(1)"),
        "language": VALUES | st.sampled_from(["python", "javascript", "bash"]),
        "timeout": VALUES | st.sampled_from([1, 30_000]),
        "stdin": VALUES,
        "other": VALUES,
    },
)


@given(BODIES)
def test_any_body_is_a_run_or_refused(data):
    fields, refused = outcome(lambda: run_fields(parse_execute(data), None))
    if refused is not None:
        assert (refused.status, len(refused.error.message) < 400) == (400, True)
    else:
        asked = parse_run(fields)
        assert 1 <= asked.limits["timeout_ms"] <= 30_000
        assert asked.language in ("python", "node", "typescript", "bash")
        assert "key" not in fields


@given(st.binary(max_size=60))
def test_any_query_is_read_or_refused(raw):
    found, refused = outcome(lambda: parse_query(raw))
    if refused is not None:
        assert refused.status == 400
    else:
        assert "key" not in found
        assert all(value.encode() is not None for value in found.values())


def test_the_example_has_the_plans_of_agent_coderunner():
    path = "docs/examples/plans-agent-coderunner.toml"
    plans = load_plans(Settings(plans_file=path, self_service_keys=True, signing_key=SIGNING_KEY))
    rates = {name: (plans.get(name).runs, round(plans.get(name).bucket.rate * 60)) for name in plans}
    assert rates == {"free": (50, 10), "anonymous": (None, 10), "pro": (None, 120)}
    assert {plans.get(name).ceiling("timeout_ms") for name in plans} == {30_000}
    assert plans.get("free").period == "all"
