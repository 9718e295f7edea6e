"""tinirun's functions over HTTP on the real service."""

from __future__ import annotations

import json

import pytest

from tests.api.dialects.tinirun_client import Tinirun
from tests.support.service import ADMIN_TOKEN
from tests.support.slow_machine import require_language


@pytest.fixture
def client(service):
    """A client with a key of its own, so that no function of another test is there."""
    key = service.post("/v1/admin/keys", json={"plan": "pro"}, token=ADMIN_TOKEN).body["key"]
    return Tinirun(service, key)


@pytest.mark.parametrize("lang", ["bash", "go", "javascript", "python", "rust", "typescript"])
def test_the_template_of_every_language_greets(client, lang):
    require_language({"javascript": "node"}.get(lang, lang))
    built = client.post("/api/function", {"name": "greet", "language": lang})
    assert built.content_type == "application/jsonl"
    assert built.result["exit_code"] == 0
    called = client.post("/api/function/greet/run", {"input": "Ada"})
    assert called.content_type == "application/json"
    assert json.loads(called.text) == {"stdout": "Hello, Ada!\n", "stderr": "", "exit_code": 0, "timeout": False}
    assert client.get("/api/function/greet/detail")[1]["lang"] == lang


def test_the_life_of_a_function(client):
    assert client.get("/api/function") == (200, [])
    assert client.post("/api/function", {"name": "f", "language": "python"}).result["timeout"] is False
    again = client.post("/api/function", {"name": "f", "language": "python"})
    assert (again.status, again.content_type, again.text) == (
        400,
        "text/plain; charset=utf-8",
        "Function already exists",
    )
    code = "def run(input: str) -> str:\n    print('printed')\n    return input.upper()\n"
    built = client.post("/api/function/f", {"code": code, "description": "Upper case."})
    assert built.result["exit_code"] == 0
    status, detail = client.get("/api/function/f/detail")
    assert status == 200
    assert {name: detail[name] for name in ("lang", "description", "version", "code", "dependencies")} == {
        "lang": "python",
        "description": "Upper case.",
        "version": "2",
        "code": code,
        "dependencies": "",
    }
    assert (detail["status"]["type"], detail["status"]["tag"]) == ("ready", "f:2")
    status, info = client.get("/api/function/f/info")
    assert info == {name: detail[name] for name in detail if name not in ("code", "dependencies")}
    assert client.get("/api/function") == (200, [{"name": "f", "info": info}])
    stream = client.post("/api/function/f/run/stream", {"input": "abc"}, accept="text/event-stream")
    assert stream.said("stdout") == "printed\nABC\n"
    assert stream.result == {"stdout": "printed\nABC\n", "stderr": "", "exit_code": 0, "timeout": False}


def test_a_version_that_could_not_be_built_is_the_state_of_the_function(client):
    client.post("/api/function", {"name": "f", "language": "python"})
    failed = client.post("/api/function/f", {"code": "def run(input):\n  return (", "dependencies": []})
    assert failed.last["event"] == "error"
    assert failed.last["data"]["error"] == "build_failed"
    assert "SyntaxError" in failed.last["data"]["logs"]
    info = client.get("/api/function/f/info")[1]
    assert (info["version"], info["status"]["type"]) == ("2", "error")
    assert "SyntaxError" in info["status"]["error"]["logs"]
    for path in ("run", "run/stream"):
        called = client.post(f"/api/function/f/{path}", {"input": ""})
        assert (called.status, called.text) == (400, "Function not ready")
    assert client.post("/api/function/f", {"code": "def run(input): return '1'"}).result["exit_code"] == 0
    assert json.loads(client.post("/api/function/f/run", {"input": ""}).text)["stdout"] == "1\n"


def test_a_bash_function_is_a_program_with_an_argument(client):
    client.post("/api/function", {"name": "f", "language": "bash"})
    code = "#!/usr/bin/env python3\nimport sys\nprint(sys.argv[1:], sys.argv[0])\n"
    assert client.post("/api/function/f", {"code": code}).result["exit_code"] == 0
    assert client.get("/api/function/f/detail")[1]["code"] == code
    client.post("/api/function/f", {"code": 'echo "<$1>" "$#"; exit 4'})
    called = json.loads(client.post("/api/function/f/run", {"input": "a  b\n$(id) '"}).text)
    assert called == {"stdout": "<a  b\n$(id) '> 1\n", "stderr": "", "exit_code": 4, "timeout": False}


def test_a_go_function_may_leave_the_package_out(client):
    require_language("go")
    client.post("/api/function", {"name": "f", "language": "go"})
    code = 'import "errors"\nfunc run(input string) (string, error) { return "", errors.New("no " + input) }\n'
    assert client.post("/api/function/f", {"code": code}).result["exit_code"] == 0
    assert client.get("/api/function/f/detail")[1]["code"] == code
    called = json.loads(client.post("/api/function/f/run", {"input": "x"}).text)
    assert (called["stdout"], called["exit_code"]) == ("", 1)
    assert "no x" in called["stderr"]


def test_time_of_a_call(client):
    client.post("/api/function", {"name": "f", "language": "python"})
    client.post("/api/function/f", {"code": "def run(input):\n    print(input, flush=True)\n    while True: pass"})
    called = json.loads(client.post("/api/function/f/run", {"input": "x", "timeout": 5, "cpu_limit": 1}).text)
    assert called == {"stdout": "x\n", "stderr": "", "exit_code": None, "timeout": True}


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("", {"language": "python"}, 400, "name: is required"),
        ("", {"name": "a b", "language": "python"}, 400, "name: must be 1 to 50 letters, _ or -"),
        ("", {"name": "x" * 51, "language": "python"}, 400, "name: must be 1 to 50"),
        ("", {"name": "a", "language": "ruby"}, 400, "language: must be one of"),
        ("", b"nothing", 400, "The body is not valid JSON"),
        ("/f", {}, 400, "code: is required"),
        ("/f", {"code": 1}, 400, "code: must be a string"),
        ("/f", {"code": "", "dependencies": ["a b;"]}, 400, "dependencies.0: has characters"),
        ("/f/run", {}, 400, "input: is required"),
        ("/f/run", {"input": ["a"]}, 400, "input: must be a string"),
        ("/f/run", {"input": "", "timeout": 301}, 400, "timeout: must be from 5 to 300"),
        ("/f/run/stream", {"input": "", "mem_limit_mb": 0}, 400, "mem_limit_mb: must be from 1"),
        ("/nothing", {"code": ""}, 404, "Not Found"),
        ("/nothing/run", {"input": ""}, 404, "Not Found"),
        ("/..%2ff/run", {"input": ""}, 404, ""),
    ],
)
def test_wrong_requests(client, path, body, status, words):
    client.post("/api/function", {"name": "f", "language": "python"})
    reply = client.post(f"/api/function{path}", body)
    assert reply.status == status, reply.text
    assert words in reply.text


def test_the_functions_of_a_key_are_its_own(client, service):
    client.post("/api/function", {"name": "mine", "language": "python"})
    other = Tinirun(service)
    assert "mine" not in [row["name"] for row in other.get("/api/function")[1]]
    for path in ("info", "detail"):
        assert other.get(f"/api/function/mine/{path}") == (404, "Not Found")
    for path, body in (("", {"code": ""}), ("/run", {"input": ""}), ("/run/stream", {"input": ""})):
        assert other.post(f"/api/function/mine{path}", body).status == 404


def test_a_function_of_the_own_api_is_the_same_function(client, service):
    client.post("/api/function", {"name": "both", "language": "python"})
    key = client._key
    run = service.post("/v1/functions/both/runs", json={"input": "Ada"}, token=key).body
    assert (run["output"], run["version"]) == ("Hello, Ada!", 1)
    assert service.request("DELETE", "/v1/functions/both", token=key).status == 200
    assert client.get("/api/function/both/info") == (404, "Not Found")
