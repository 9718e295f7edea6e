"""agent-coderunner's history, sessions and their files, over a worker whose answers are given."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.dialects.agentcoderunner.files import checked
from api.dialects.agentcoderunner.ids import execution_id, run_id, session_id, shown_session_id
from protocol.job import path_problem
from protocol.result import Refusal, Result
from tests.unit.test_api_app import AUTH, LIMITS
from tests.unit.test_dialects_agent_coderunner import GATEWAY, ID, answer, call, connected, refusal
from tests.unit.test_dialects_runtools_sandboxes import outcome

NO_CONTEXT = Refusal(404, "there is no such context in this session", "context_not_found", "context")


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


# -- the history -----------------------------------------------------------------------------------------


def test_executions_are_kept_for_their_key(api):
    made = [call(api, "POST", "/execute", {"language": "python", "code": str(n)}).json for n in range(3)]
    one = call(api, "GET", f"/executions/{made[0]['id']}").json
    assert {name: one[name] for name in made[0]} == made[0]
    assert (one["status"], one["sessionId"]) == ("succeeded", None)
    first = call(api, "GET", "/executions?limit=2").json
    assert [row["id"] for row in first["executions"]] == [made[2]["id"], made[1]["id"]]
    assert (first["hasMore"], first["nextCursor"]) == (True, made[1]["id"])
    assert "stdout" not in first["executions"][0]
    rest = call(api, "GET", f"/executions?limit=100&cursor={first['nextCursor']}").json
    assert rest["executions"][0] == {name: one[name] for name in rest["executions"][0]}
    assert (rest["hasMore"], rest["nextCursor"]) == (False, None)
    other = {"X-API-Key": "other"}
    refusal(call(api, "GET", f"/executions/{made[0]['id']}", headers=other), 404, "not_found")
    assert call(api, "GET", "/executions", headers=other).json["executions"] == []
    refusal(call(api, "GET", f"/executions?cursor={made[0]['id']}", headers=other), 400, "bad_request", "cursor: ")
    # It is the same run by this service's own calls.
    run = api.get(run_id(made[0]["id"])).json
    assert run["stdout"] == "499500\n"


@pytest.mark.parametrize("name", ["exec-", "run_1", "exec-../x", "exec-%00", "exec-" + "a" * 28, "x" * 5000])
def test_a_name_of_no_execution(api, name):
    refusal(call(api, "GET", f"/executions/{name}"), 404, "not_found")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=a", "cursor=run_1", "cursor=exec-1", "limit=1&limit=2"]
)
def test_a_page_that_is_none(api, query):
    refusal(call(api, "GET", f"/executions?{query}"), 400, "bad_request")


def test_a_run_that_has_not_ended(api):
    run = api.post(background=True).json
    live = call(api, "GET", f"/executions/{execution_id(run['id'])}").json
    assert (live["exitCode"], live["status"], live["timedOut"], live["stdout"]) == (None, "queued", False, "")


@given(st.text())
def test_names_go_both_ways(text):
    assert run_id(execution_id(f"run_{text}")) == f"run_{text}"
    assert session_id(shown_session_id(f"sess_{text}")) == f"sess_{text}"


# -- sessions --------------------------------------------------------------------------------------------


def made_session(api, **body):
    reply = call(api, "POST", "/sessions", body)
    assert reply.status_code == 200, reply.text
    return reply.json["sessionId"]


def test_a_session_from_its_creation_to_its_end(api):
    reply = api.client.post("/api/sessions", data=b'{"language":"python"}', headers=AUTH)
    name = reply.json["sessionId"]
    assert re.fullmatch(r"sess-[a-z2-7]{26}", name)
    assert reply.data == b'{"sessionId":"%s","language":"Python 3.13"}' % name.encode()
    spec = api.sessions.specs[-1]
    assert (spec.session_id, spec.language) == (session_id(name), "python")
    assert (spec.limits["memory_mb"], spec.limits["pids"]) == (256, 64)
    done = call(api, "POST", f"/sessions/{name}/execute", {"code": "print(x * 2)", "timeout": 900, "stdin": "i"})
    assert (done.status_code, done.json["stdout"], ID.fullmatch(done.json["id"]) is None) == (200, "499500", False)
    job = api.worker.jobs[-1]
    assert (job.session, job.language, job.context, job.stdin) == (session_id(name), "python", "", "i")
    assert (job.limits["timeout_ms"], job.limits["max_output_bytes"]) == (900, 524_288)
    listed = call(api, "GET", f"/executions?sessionId={name}").json["executions"]
    assert [(row["id"], row["sessionId"]) for row in listed] == [(done.json["id"], name)]
    one = call(api, "GET", f"/sessions/{name}").json
    assert list(one) == [
        "sessionId", "language", "status", "executions", "createdAt", "lastActiveAt", "expiresAt",
    ]  # fmt: skip
    listed = call(api, "GET", "/sessions").json["sessions"]
    assert one | {"expiresAt": 0} in [row | {"expiresAt": 0} for row in listed]
    assert call(api, "DELETE", f"/sessions/{name}").json == {"sessionId": name, "deleted": True}
    for method, path, body in (
        ("GET", "", None), ("DELETE", "", None), ("POST", "/execute", {"code": "1"}), ("GET", "/files", None),
        ("PUT", "/files/a", None),
    ):  # fmt: skip
        message = refusal(call(api, method, f"/sessions/{name}{path}", body), 404, "not_found")
        assert message.startswith("This session has ended")
    assert name not in [row["sessionId"] for row in call(api, "GET", "/sessions").json["sessions"]]


def test_a_session_of_bash_keeps_its_variables_in_a_context_that_is_made_when_it_is_needed(api):
    name = made_session(api, language="bash")
    contexts = []

    def run(job):
        done = Result(status="succeeded", language="bash", limits=LIMITS, exit_code=0, stdout="84\n").to_json()
        return done if contexts else NO_CONTEXT

    def create(do, _session_id, _key, _answer, **fields):
        contexts.append((do, fields["name"], fields["language"]))
        return Refusal(409, "a context of this session has that name", "name_in_use", "name")

    api.worker.answer, asked = run, api.sessions.ask
    api.sessions.ask = create
    try:
        for _ in range(2):
            reply = call(api, "POST", f"/sessions/{name}/execute", {"code": "echo $((x * 2))"})
            assert reply.json["stdout"] == "84", reply.text
    finally:
        api.sessions.ask = asked
    assert contexts == [("create_context", "agent-coderunner", "bash")]
    assert [job.context for job in api.worker.jobs] == ["agent-coderunner"] * 3
    # The run that found no context is not of the history.
    listed = call(api, "GET", f"/executions?sessionId={name}").json["executions"]
    assert len(listed) == 2


def test_sessions_without_a_body_and_at_the_gateway(api):
    assert api.client.post("/api/sessions", headers=AUTH).json["language"] == "JavaScript (Node.js 22.12)"
    reply = api.client.post(f"{GATEWAY}/api/sessions", json={"language": "bash"}, headers=AUTH)
    assert reply.json["language"] == "Bash 5.2"
    path = f"{GATEWAY}/api/sessions/{reply.json['sessionId']}"
    assert api.client.get(path, headers=AUTH).status_code == 200
    assert api.client.delete(path, headers=AUTH).status_code == 200


def test_sessions_are_listed_in_pages(api):
    names = [made_session(api, language="python") for _ in range(3)]
    first = call(api, "GET", "/sessions?limit=2").json
    assert [row["sessionId"] for row in first["sessions"]] == names[:0:-1]
    assert (first["hasMore"], first["nextCursor"]) == (True, names[1])
    rest = call(api, "GET", f"/sessions?limit=100&cursor={names[1]}").json
    assert (rest["sessions"][0]["sessionId"], rest["hasMore"]) == (names[0], False)
    refusal(call(api, "GET", "/sessions?cursor=abc"), 400, "bad_request", "cursor: is not one of this list")


def test_a_session_belongs_to_its_key(api):
    name, other = made_session(api, language="python"), {"Authorization": "Bearer other"}
    for method, path, body in (
        ("GET", "", None), ("DELETE", "", None), ("POST", "/execute", {"code": "1"}), ("GET", "/files", None),
        ("PUT", "/files/a", None), ("GET", "/files/a", None), ("DELETE", "/files/a", None),
    ):  # fmt: skip
        refusal(call(api, method, f"/sessions/{name}{path}", body, other), 404, "not_found", "There is no such")
    assert call(api, "GET", "/sessions", headers=other).json["sessions"] == []
    assert api.sessions.operations == []
    assert call(api, "GET", f"/sessions/{name}").status_code == 200


@pytest.mark.parametrize("body", [{"path": "a.ipynb"}, {"type": "notebook"}, {"kernel": {"name": "python3"}}])
def test_a_session_of_jupyter_is_nobodys(api, body):
    reply = call(api, "POST", "/sessions", {"language": "python"} | body)
    assert reply.status_code == 404
    assert list(reply.json["error"]) == ["message", "type", "param", "code"]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("", {"language": "go"}, "language: unknown; supported: python, javascript, typescript, bash"),
        ("", {"language": 1}, "language"),
        ("", [], "The body must be a JSON object"),
        ("/execute", {}, "code: is required"),
        ("/execute", {"code": "1", "timeout": 30_001}, "timeout: must be an integer from 1 to 30000"),
        ("/execute", {"code": "x" * 102_401}, "code: 102401 bytes"),
        ("/execute", {"code": "1", "stdin": 1}, "stdin"),
    ],
)
def test_a_wrong_request_about_a_session(api, path, body, message):
    name = made_session(api, language="python")
    where = f"/sessions/{name}{path}" if path else "/sessions"
    refusal(call(api, "POST", where, body), 400, "bad_request", message)
    assert api.worker.jobs == []


@pytest.mark.parametrize(
    "name", ["sess-", "sess_aaaaaaaaaaaaaaaaaaaaaaaaaa", "sess-" + "a" * 26, "sess-%00", "%2e%2e", "*"]
)
def test_a_name_of_no_session(api, name):
    refusal(call(api, "GET", f"/sessions/{name}"), 404, "not_found", "There is no such session.")


# -- files -----------------------------------------------------------------------------------------------


def test_files_of_a_session(api):
    name = made_session(api, language="python")
    at = f"/api/sessions/{name}/files"
    put = api.client.put(f"{at}/data/in.csv", data=b"a,b", headers=AUTH)
    assert put.json == {"path": "data/in.csv", "type": "file", "size": 3, "modifiedAt": put.json["modifiedAt"]}
    assert api.sessions.operations == [("write", [b"data/in.csv", b"", b"3", b"a,b"])]
    listed = api.client.get(at, headers=AUTH).json
    assert listed == {"files": [put.json], "truncated": False}
    gone = api.client.delete(f"{at}/data/in.csv", headers=AUTH)
    assert gone.json == {"path": "data/in.csv", "deleted": True}
    assert api.sessions.operations[-1] == ("remove", [b"data/in.csv", b"0"])
    empty = api.client.put(f"{at}/empty", headers=AUTH)
    assert (empty.status_code, api.sessions.operations[-1][1][-2:]) == (200, [b"0", b""])


def test_the_size_of_a_file(api):
    at = f"/api/sessions/{made_session(api, language='python')}/files/big"
    assert api.client.put(at, data=bytes(10 * 1024 * 1024), headers=AUTH).status_code == 200
    reply = api.client.put(at, data=bytes(10 * 1024 * 1024 + 1), headers=AUTH)
    refusal(reply, 413, "payload_too_large", "The file is larger than the maximum of 10485760 bytes")
    assert len(api.sessions.operations) == 1


@pytest.mark.parametrize(
    "path",
    ["..", "../x", "%2e%2e/x", "a/../../x", "a/%2e%2e%2fx", "a//etc/passwd", "a/%2F/x", "a/", "./a", "a%00b",
     "%ff", "x" * 300, "a/" * 600 + "b"],
)  # fmt: skip
def test_a_path_that_leaves_or_is_none(api, path):
    at = f"/api/sessions/{made_session(api, language='python')}/files/{path}"
    for method in ("PUT", "GET", "DELETE"):
        refusal(api.client.open(at, method=method, headers=AUTH, data=b"x"), 400, "bad_request", "path: ")
    assert api.sessions.operations == []


@pytest.mark.parametrize("path", ["", "/etc/passwd", "%2Fetc%2Fpasswd"])
def test_a_path_from_the_root_is_no_path_of_a_file(api, path):
    at = f"/api/sessions/{made_session(api, language='python')}/files/{path}"
    refusal(api.client.put(at, headers=AUTH, data=b"x"), 404, "not_found")
    assert api.sessions.operations == []


@given(st.text(alphabet=st.sampled_from("ab./\0é�\\%"), max_size=12))
def test_any_path_is_beneath_the_directory_or_refused(path):
    raw, refused = outcome(lambda: checked(path))
    if refused is not None:
        assert (refused.status, refused.error.param) == (400, "path")
    else:
        assert path_problem(raw.decode()) is None
        assert b".." not in raw.split(b"/")
