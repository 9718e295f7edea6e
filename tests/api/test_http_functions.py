"""Functions over HTTP, on the real service: built, versioned, called with JSON, found again, deleted."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest

from api.functions.handlers import LANGUAGES
from protocol.function import MAX_INPUT_BYTES
from tests.support.slow_machine import require_language

ECHO = {
    "python": "def run(input):\n    print('called')\n    return input\n",
    "node": "export function run(input) { console.log('called'); return input; }\n",
    "typescript": "export async function run(input: any): Promise<unknown> { console.log('called'); return input; }\n",
    "bash": "cat",
    "go": 'package main\n\nimport "fmt"\n\nfunc Run(input string) (string, error) { fmt.Println("called"); return input + "\\n", nil }\n',
    "rust": 'pub fn run(input: String) -> Result<String, String> { println!("called"); Ok(input) }\n',
}
RAISES = {
    "python": "def run(input):\n    raise ValueError('on purpose')\n",
    "node": "exports.run = () => { throw new Error('on purpose'); };\n",
    "typescript": "export function run(input: any): string { throw new Error('on purpose'); }\n",
    "bash": "echo half; echo 'on purpose' >&2; exit 3",
    "go": 'package main\n\nimport "errors"\n\nfunc run(input string) (string, error) { return "half", errors.New("on purpose") }\n',
    "rust": 'pub fn run(_: String) -> Result<String, String> { Err("on purpose".into()) }\n',
}
WITHOUT = {
    "python": "def go(input): pass\n",
    "node": "export const go = 1;\n",
    "typescript": "export const go: number = 1;\n",
    "bash": "if true; then",
    "go": "package main\n\nfunc Go() {}\n",
    "rust": "pub fn go() {}\n",
}


class Functions:
    """The calls of one test's functions, which are deleted at its end."""

    def __init__(self, service):
        self.service = service
        self.prefix = f"t{os.getpid()}-{time.monotonic_ns() % 10**9}"
        self.made = set()

    def named(self, name):
        self.made.add(f"{self.prefix}-{name}")
        return f"{self.prefix}-{name}"

    def put(self, name, language="python", code=None, *, token=None, **fields):
        require_language(language)
        body = {"language": language} | ({} if code is None else {"code": code}) | fields
        options = {} if token is None else {"token": token}
        return self.service.request(
            "PUT", f"/v1/functions/{self.named(name)}", json.dumps(body).encode(),
            {"Content-Type": "application/json"}, **options,
        )  # fmt: skip

    def deploy(self, name, language="python", code=None, **fields):
        reply = self.put(name, language, code, **fields)
        assert reply.status in (200, 201), reply.body
        assert reply.body["state"] == "ready", reply.body["log"]
        return reply.body

    def post(self, name, value=None, headers=None, *, version="", **fields):
        body = {"input": value} | fields
        return self.service.post(f"/v1/functions/{self.named(name)}{version}/runs", json=body, headers=headers)

    def call(self, name, value=None, **fields):
        reply = self.post(name, value, **fields)
        assert reply.status == 200, reply.body
        return reply.body

    def get(self, name, query=""):
        return self.service.get(f"/v1/functions/{self.named(name)}{query}")

    def delete(self, name):
        return self.service.request("DELETE", f"/v1/functions/{self.named(name)}")


@pytest.fixture
def functions(service):
    made = Functions(service)
    yield made
    for name in made.made:
        service.request("DELETE", f"/v1/functions/{name}")


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_a_handler_is_called_with_json_and_its_prints_are_stdout(functions, language):
    made = functions.deploy("echo", language, ECHO[language])
    assert (made["version"], made["language"], made["object"], made["layer"]) == (1, language, "function", None)
    for value in ({"a": [1, None, "ä"]}, "text", None):
        run = functions.call("echo", value)
        assert run["status"] == "succeeded", (run["stderr"], run["exception"])
        assert (run["function"], run["version"]) == (functions.named("echo"), 1)
        expected = (
            value
            if not LANGUAGES[language].takes_text or isinstance(value, str)
            else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        )
        assert run["output"] == expected
        assert run["artifacts"] == run["skipped_artifacts"] == []
        assert run["stdout"] == (expected if language == "bash" else "called\n")
        assert run["compile"] is None


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_a_handler_that_raises_fails_without_an_output(functions, language):
    functions.deploy("raises", language, RAISES[language])
    run = functions.call("raises")
    assert (run["status"], run["output"]) == ("failed", None)
    assert "on purpose" in run["stderr"]


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_a_build_without_a_handler_fails_and_says_which_it_needs(functions, language):
    made = functions.put("without", language, WITHOUT[language])
    assert (made.status, made.body["state"]) == (201, "failed")
    assert LANGUAGES[language].signature in made.body["log"]
    reply = functions.post("without")
    assert (reply.status, reply.body["error"]["code"], reply.body["error"]["param"]) == (
        409,
        "function_failed",
        "name",
    )


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("def run(): pass", "one argument"),
        ("def run(a, b): pass", "one argument"),
        ("run = 1", "no function"),
        ("import none_such", "none_such"),
        ("def run(", "SyntaxError"),
        ("raise SystemExit(3)", "def run(input)"),
    ],
)
def test_a_python_handler_of_another_signature_is_not_built(functions, code, text):
    made = functions.put("signature", code=code).body
    assert made["state"] == "failed"
    assert text in made["log"]
    assert "def run(input)" in made["log"]


def test_files_stand_beside_the_handler(functions):
    files = [
        {
            "path": "src/handler.py",
            "content": "import helper\nasync def run(input):\n    return helper.read() + input\n",
        },
        {"path": "src/helper.py", "content": "def read(): return open('data/n.txt').read()"},
        {"path": "data/n.txt", "content": "NDI=", "encoding": "base64"},
    ]
    made = functions.deploy("files", files=files, entrypoint="src/handler.py")
    assert (made["files"], made["entrypoint"], made["code"]) == (files, "src/handler.py", None)
    assert functions.call("files", "!")["output"] == "42!"


def test_a_package_json_may_make_modules_of_all_files(functions):
    files = [
        {"path": "package.json", "content": '{"type": "module"}'},
        {"path": "fn.js", "content": "import { twice } from './lib.js';\nexport const run = (n) => twice(n);\n"},
        {"path": "lib.js", "content": "export const twice = (n) => 2 * n;\n"},
    ]
    functions.deploy("esm", "node", files=files, entrypoint="fn.js")
    assert functions.call("esm", 21)["output"] == 42


def test_a_rust_handler_has_modules_and_a_go_handler_more_files(functions):
    rust = [
        {
            "path": "src/f.rs",
            "content": "mod more;\npub fn run(i: String) -> Result<String, String> { Ok(more::twice(&i)) }\n",
        },
        {"path": "src/more.rs", "content": 'pub fn twice(i: &str) -> String { format!("{i}{i}") }\n'},
    ]
    functions.deploy("rs", "rust", files=rust, entrypoint="src/f.rs")
    assert functions.call("rs", "ab")["output"] == "abab"
    go = [
        {
            "path": "f.go",
            "content": 'package main\nimport "os"\nfunc Run(i string) (string, error) { b, err := os.ReadFile("d.txt"); return twice(string(b)), err }\n',
        },
        {"path": "g.go", "content": "package main\nfunc twice(i string) string { return i + i }\n"},
        {"path": "d.txt", "content": "xy"},
    ]
    functions.deploy("go", "go", files=go, entrypoint="f.go")
    assert functions.call("go")["output"] == "xyxy"


def test_artifacts_and_limits_are_those_of_a_run(functions):
    code = (
        "def run(n):\n    for i in range(n):\n        open(f'outputs/{i}.txt', 'w').write('x' * 10)\n    return n\n"
    )
    functions.deploy("artifacts", code=code, limits={"max_artifact_files": 2, "memory_mb": 99})
    run = functions.call("artifacts", 3)
    assert (run["output"], [item["path"] for item in run["artifacts"]]) == (3, ["0.txt", "1.txt"])
    assert run["skipped_artifacts"] == [{"path": "2.txt", "reason": "too_many"}]
    assert (run["limits"]["memory_mb"], run["limits"]["max_artifact_files"]) == (99, 2)
    run = functions.call("artifacts", 1, limits={"max_artifact_bytes": 5})
    assert (run["output"], run["skipped_artifacts"][0]["reason"]) == (1, "too_large")
    run = functions.call("artifacts", 1, limits={"max_artifact_files": 0})
    assert (run["status"], run["output"], run["artifacts"]) == ("succeeded", 1, [])
    assert functions.post("artifacts", limits={"timeout_ms": 0}).body["error"]["param"] == "limits.timeout_ms"


def test_env_is_given_and_never_returned(functions):
    made = functions.deploy(
        "env", code="import os\ndef run(_): return os.environ['TOKEN']", env={"TOKEN": "s3cret"}
    )
    assert made["env_names"] == ["TOKEN"]
    assert functions.call("env")["output"] == "s3cret"
    shown = functions.get("env").raw + functions.service.get("/v1/functions").raw
    assert b"s3cret" not in shown


def test_versions_never_change_and_numbers_are_not_used_again(functions):
    assert functions.put("v", code="def run(_): return 1").status == 201
    assert functions.put("v", code="def run(_): return 2").status == 200
    failed = functions.put("v", code="oops(").body
    assert (failed["version"], failed["state"]) == (3, "failed")
    assert functions.call("v")["output"] == 2
    assert functions.call("v", version="@1")["output"] == 1
    assert functions.post("v", version="@3").status == 409
    assert [functions.get("v", query).body["version"] for query in ("", "@1", "?version=3")] == [2, 1, 3]
    for query in ("@9", "?version=9"):
        reply = functions.get("v", query)
        assert (reply.status, reply.body["error"]["code"], reply.body["error"]["param"]) == (
            404,
            "function_not_found",
            "version",
        )
    assert functions.delete("v").body == {"name": functions.named("v"), "object": "function", "deleted": True}
    assert functions.delete("v").status == functions.get("v").status == functions.post("v").status == 404
    made = functions.put("v", code="def run(_): return 4")
    assert (made.status, made.body["version"]) == (201, 4)


def test_a_name_is_its_keys_own(functions, service):
    functions.deploy("own", code="def run(_): return 'mine'")
    path = f"/v1/functions/{functions.named('own')}"
    for method, body in (("GET", None), ("DELETE", None), ("POST", {})):
        target = f"{path}/runs" if method == "POST" else path
        reply = service.request(
            method, target, None if body is None else b"{}", {"Content-Type": "application/json"}, token=service.other_token
        )  # fmt: skip
        assert (reply.status, reply.body["error"]["code"]) == (404, "function_not_found")
    names = [
        found["name"] for found in service.get("/v1/functions?limit=100", token=service.other_token).body["data"]
    ]
    assert functions.named("own") not in names


SCHEMA = {"type": "object", "required": ["items"], "properties": {"items": {"items": {"type": "integer"}}}}


def test_an_input_is_checked_before_anything_runs(functions, service):
    functions.deploy("schema", code="def run(i): return len(i['items'])", input_schema=SCHEMA)
    assert functions.call("schema", {"items": [1, 2]})["output"] == 2
    for value, param in (({"items": ["x"]}, "input.items.0"), ({}, "input.items"), (3, "input")):
        reply = functions.post("schema", value)
        assert (reply.status, reply.body["error"]["param"], reply.body["error"]["code"]) == (
            400,
            param,
            "invalid_input",
        )
    runs = service.get(f"/v1/runs?function={functions.named('schema')}").body["data"]
    assert [run["output"] for run in runs] == [2, None]  # the call, and the build


def test_a_large_input_and_output_are_stored_and_read_again(functions, service):
    functions.deploy("large", code="def run(i): return i")
    value = ["x" * 1000] * 1045
    assert 1_000_000 < len(json.dumps(value, separators=(",", ":"))) < MAX_INPUT_BYTES
    run = functions.call("large", value)
    assert run["output"] == value
    assert service.get(f"/v1/runs/{run['id']}").body["output"] == value
    listed = service.get(f"/v1/runs?function={functions.named('large')}").body["data"]
    assert listed[0]["output"] == value
    events = service.get(f"/v1/runs/{run['id']}/events").raw.splitlines()
    assert json.loads(events[-1])["data"]["output"] == value
    reply = functions.post("large", "x" * MAX_INPUT_BYTES)
    assert (reply.status, reply.body["error"]["code"], reply.body["error"]["param"]) == (400, "too_long", "input")


def test_an_output_may_hold_what_looks_like_a_part_of_a_run(functions, service):
    value = {
        "artifacts": [{"id": "file_x", "expires_at": 9**15}],
        "_blobs": [["stdout", "a", 1]],
        "results": [],
        "output": None,
        "line\n": "a\r\n",
    }
    functions.deploy("forged", code="import json\ndef run(i): return json.loads(i)")
    run = functions.call("forged", json.dumps(value))
    assert (run["output"], run["artifacts"]) == (value, [])
    assert service.get(f"/v1/runs/{run['id']}").body == run


def test_a_call_may_be_streamed_and_run_in_the_background(functions, service):
    functions.deploy("ways", code="def run(i):\n    print('now', flush=True)\n    return i\n")
    path = f"/v1/functions/{functions.named('ways')}/runs"
    with service.events(path, json={"input": 5, "stream": True}) as events:
        found = [event for _, event in events]
    assert [event["event"] for event in found][-2:] == ["stdout", "result"]
    assert found[-1]["data"]["output"] == 5
    reply = functions.post("ways", 6, background=True)
    assert (reply.status, reply.body["output"], reply.body["version"]) == (202, None, 1)
    assert service.ended(reply.body["id"])["output"] == 6


def test_an_idempotency_key_belongs_to_one_function(functions):
    key = {"Idempotency-Key": functions.named("key")}
    for name in ("one", "two"):
        functions.deploy(name, code=f"def run(_): return '{name}'")
    first = functions.post("one", headers=key).body
    assert functions.post("one", headers=key).body["id"] == first["id"]
    assert functions.post("two", headers=key).status == 422


def test_a_build_may_be_streamed(functions, service):
    require_language("go")
    path = f"/v1/functions/{functions.named('stream')}"
    body = json.dumps({"language": "go", "code": ECHO["go"], "stream": True}).encode()
    reply = service.request("PUT", path, body, {"Content-Type": "application/json"})
    assert (reply.status, reply.headers["content-type"]) == (200, "application/x-ndjson")
    events = [json.loads(line) for line in reply.raw.splitlines()]
    assert {"name": "compile"} in [event["data"] for event in events]
    assert events[-1]["event"] == "result"
    assert (events[-1]["data"]["object"], events[-1]["data"]["state"]) == ("function", "ready")


def test_a_call_waits_for_the_first_build(functions, service):
    code = "import time\ntime.sleep(1)\ndef run(_): return 'built'\n"
    reply = functions.put("slow", code=code, background=True)
    assert (reply.status, reply.body["state"], reply.body["version"]) == (202, "building", 1)
    assert functions.call("slow")["output"] == "built"
    assert functions.get("slow").body["state"] == "ready"
    # A build that fails meanwhile answers those who wait.
    functions.put("bad", code="import time\ntime.sleep(1)\noops", background=True)
    assert functions.post("bad").status == 409
    assert "oops" in functions.get("bad").body["log"]


def test_deployments_at_the_same_time_have_versions_of_their_own(functions):
    found = []

    def deploy():
        found.append(functions.put("same", "bash", "cat").body)

    threads = [threading.Thread(target=deploy) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made["version"] for made in found) == [1, 2, 3, 4]
    assert {made["state"] for made in found} == {"ready"}


def test_functions_are_listed_page_by_page(functions, service):
    for name in "abc":
        functions.deploy(name, "bash", "cat", description=name)
    listed, after = [], ""
    while True:
        page = service.get(f"/v1/functions?limit=2{after}").body
        listed += [found for found in page["data"] if found["name"] in functions.made]
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    assert [found["description"] for found in listed] == ["c", "b", "a"]
    assert not {"code", "files", "log"} & set(listed[0])
    assert service.get("/v1/functions?after=none-such").body["error"]["code"] == "invalid_cursor"


def test_the_program_outlives_its_build(functions, service):
    functions.deploy("kept", "go", ECHO["go"])
    name = functions.named("kept")
    for run in service.get(f"/v1/runs?function={name}").body["data"]:
        assert service.request("DELETE", f"/v1/runs/{run['id']}").status == 200
    assert functions.call("kept", "x")["output"] == "x"


def test_builds_and_calls_count_as_runs(functions, service):
    before = service.get("/v1/usage").body["runs"]
    functions.deploy("usage", "bash", "cat")
    functions.call("usage")
    assert service.get("/v1/usage").body["runs"] == before + 2
