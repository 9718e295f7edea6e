"""What every answer has in common, over all routes: JSON that ends in a newline; 404 and 405 with what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from api.openapi.document import METHODS, public_paths
from tests.unit.test_api_app import AUTH, Api, assert_envelope

REPO = Path(__file__).resolve().parents[2]
ADMIN = {"Authorization": "Bearer an-admin-token-of-the-tests"}
CREDENTIALS = {"none": {}, "key": AUTH, "admin": ADMIN}


@pytest.fixture(scope="module")
def api():
    # Of this API's own routes: dialects answer byte for byte as other services do.
    made = Api(admin_token="an-admin-token-of-the-tests", self_service_keys=True, dialects="none")
    yield made
    made.close()


def assert_ends_in_a_newline(reply):
    assert reply.data.endswith(b"}\n"), reply.data[-80:]
    assert not reply.data.endswith(b"\n\n")
    json.loads(reply.data)
    if "Content-Length" in reply.headers:
        assert int(reply.headers["Content-Length"]) == len(reply.data)


@pytest.mark.parametrize("caller", CREDENTIALS)
def test_every_json_answer_of_every_route_ends_in_a_newline(api, caller):
    seen = set()
    run = api.post().json
    ids = {"run_id": run["id"], "file_id": "file_none", "key": "key_none", "name": "none.js"}
    for rule in api.app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda name: ids.get(name[1], "none"), rule.rule)
        for method in sorted({*METHODS, "brew"}):
            for data in (None, b"[", b'{"plan":"free"}'):
                headers = CREDENTIALS[caller] | ({} if data is None else {"Content-Type": "application/json"})
                with api.client.open(path, method=method.upper(), headers=headers, data=data) as reply:
                    if reply.mimetype == "application/json" and reply.status_code != 304:
                        assert_ends_in_a_newline(reply)
                        seen.add(reply.status_code)
    assert {200, 405} <= seen


@pytest.mark.parametrize("path", ["/v1/health", "/openapi.json", "/v1/languages", "/v1/nothing", "/v1/runs"])
def test_head_has_the_length_of_get(api, path):
    get, head = (api.client.open(path, method=method, headers=AUTH) for method in ("GET", "HEAD"))
    assert head.data == b""
    assert head.headers["Content-Length"] == get.headers["Content-Length"] == str(len(get.data))


def test_a_document_that_is_not_modified_has_no_body(api):
    first = api.client.get("/openapi.json")
    assert_ends_in_a_newline(first)
    again = api.client.get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_streams_keep_their_form(api):
    reply = api.post(stream=True)
    assert reply.mimetype == "application/x-ndjson"
    lines = reply.data.split(b"\n")
    assert lines.pop() == b""
    assert all(json.loads(line) for line in lines)


def test_nothing_else_makes_json_answers():
    makers = {
        str(path.relative_to(REPO))
        for path in (REPO / "api").rglob("*.py")
        if re.search(r"content_type=JSON|mimetype=JSON|jsonify|application/json\\r", path.read_text())
    }
    assert makers == {
        "api/dialects/answers.py", "api/errors.py", "api/http/json_response.py", "api/runs/rendering.py", "api/system/unknown_path.py",
    }  # fmt: skip


# -- 404 and 405 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/v1/run", "/v1/runs"), ("/v1/runs/", "/v1/runs"), ("//v1/runs", "/v1/runs"), ("/v1//runs", "/v1/runs"),
        ("/runs", "/v1/runs"), ("/api/v1/runs", "/v1/runs"), ("/V1/RUNS", "/v1/runs"), ("/v2/execute", "/v1/runs"),
        ("/api/v2/piston/execute", None), ("/api/v2/execute", "/v1/runs"), ("/submissions", "/v1/runs"),
        ("/api/v2/runtimes", "/v1/languages"), ("/v1/langauges", "/v1/languages"), ("/languages", "/v1/languages"),
        ("/v1/run/run_x", "/v1/runs/{run_id}"), ("/v1/runs/run_x/event", "/v1/runs/{run_id}/events"),
        ("/v1/runs/run_x/stop", None), ("/v1/file", "/v1/files"), ("/health", "/v1/health"), ("/v1/key/me", "/v1/keys/me"),
        ("/openapi.yaml", "/openapi.json"), ("/healthy", "/healthz"), ("/v1/usages", "/v1/usage"),
        ("/v1/nothing", None), ("/v1", None), ("/v1/", None), ("/wp-login.php", None), ("/.env", None),
        ("/v1/../etc/passwd", None), ("/v1/%00", None), ("/v1/%ff", None), ("/v1/%3Cscript%3E/%7Brun_id%7D", None),
        ("/" + "v1/" * 50, None), ("/" + "x" * 5000, None), ("/v1/run" + "s" * 150, None),
    ],
)  # fmt: skip
def test_an_unknown_path_gets_the_nearest_and_where_all_are_described(api, path, near):
    error = assert_envelope(api.client.get(path), 404, "not_found")
    mean = "." if near is None else f"; did you mean {near}?"
    assert error["message"] == f"No such path{mean} The API is described at /openapi.json and /docs."
    assert error["param"] is None
    assert near is None or near in public_paths(api.app)


@pytest.mark.parametrize("path", ["/assets/nothing.js", "/docs/nothing.js"])
def test_an_unknown_file_of_a_page_is_an_unknown_path(api, path):
    assert "/openapi.json" in assert_envelope(api.client.get(path), 404, "not_found")["message"]


def test_every_path_names_its_methods_for_a_method_that_it_has_not(api):
    for rule in api.app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", "x", rule.rule)
        reply = api.client.open(path, method="BREW")
        error = assert_envelope(reply, 405, "method_not_allowed")
        allowed = {
            method for other in api.app.url_map.iter_rules() if other.rule == rule.rule for method in other.methods
        }
        assert allowed <= set(reply.headers["Allow"].split(", "))  # a path with a name in it may fit too
        assert error["message"] == f"Method not allowed; allowed: {reply.headers['Allow']}."
