"""Piston's API v2 over HTTP on the real service: its documented requests, its answers, its errors."""

from __future__ import annotations

import base64
import json
import uuid

import pytest

BASES = ("/api/v2", "/api/v2/piston")
STAGE = ["stdout", "stderr", "code", "signal", "output", "memory", "message", "status", "cpu_time", "wall_time"]
#: As Piston's documentation has it, byte for byte, with a place for the version.
DOCUMENTED = """{
  "language": "js",
  "version": "%s",
  "files": [
    {
      "name": "my_cool_code.js",
      "content": "console.log(process.argv)"
    }
  ],
  "stdin": "",
  "args": ["1", "2", "3"],
  "compile_timeout": 10000,
  "run_timeout": 3000,
  "compile_memory_limit": -1,
  "run_memory_limit": -1
}"""
MAIN = [{"content": "print(1)"}]


@pytest.fixture(scope="module")
def versions(service):
    rows = service.get("/v1/languages", token=None).body["data"]
    return {row["id"]: row["version"] for row in rows}


def asked(language="bash", code="echo hi", **fields):
    return {"language": language, "version": "*", "files": [{"content": code}], **fields}


def execute(service, body, path="/api/v2/execute"):
    reply = service.post(path, json=body)
    assert reply.status == 200, reply.body
    assert list(reply.body["run"]) == STAGE
    return reply.body


def address():
    """The header by which a request has an address of its own."""
    part = uuid.uuid4().int
    return {"X-Forwarded-For": f"198.18.{part % 256}.{part // 256 % 256}"}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("slash", ["", "/"])
def test_the_routes(service, versions, base, slash):
    assert service.get(base + slash, token=None).body == {"message": "Piston v3.1.1"}
    rows = service.get(f"{base}/runtimes{slash}", token=None).body
    assert {"language": "python", "version": versions["python"], "aliases": ["py", "py3", "python3"]} in rows
    assert {"language": "bash", "version": versions["bash"], "aliases": ["sh", "shell"]} in rows
    node = next(row for row in rows if row.get("runtime") == "node")
    assert (node["language"], node["version"]) == ("javascript", versions["node"])
    assert set(node["aliases"]) >= {"node-javascript", "node-js", "javascript", "js"}
    packages = service.get(f"{base}/packages{slash}", token=None).body
    assert {"language": "node", "language_version": versions["node"], "installed": True} in packages
    assert len(packages) == len(versions)
    for method in ("POST", "DELETE"):
        reply = service.request(
            method, f"{base}/packages{slash}", b'{\n  "language": "bash",\n  "version": "5.x"\n}'
        )
        assert (reply.status, list(reply.body)) == (405, ["message"])
        assert "read-only" in reply.body["message"]
    ended = execute(service, asked(), f"{base}/execute{slash}")
    assert (ended["run"]["output"], ended["language"], ended["version"]) == ("hi\n", "bash", versions["bash"])


def test_the_documented_request(service, versions):
    body = (DOCUMENTED % versions["node"]).encode()
    ended = service.post("/api/v2/execute", data=body).body
    assert list(ended) == ["run", "language", "version"]
    assert (ended["language"], ended["version"]) == ("javascript", versions["node"])
    assert ended["run"]["stdout"].endswith("\n  '/work/my_cool_code.js',\n  '1',\n  '2',\n  '3'\n]\n")
    assert (ended["run"]["code"], ended["run"]["signal"], ended["run"]["stderr"]) == (0, None, "")
    # A version that is not installed is refused, as Piston refuses it.
    reply = service.post("/api/v2/execute", data=(DOCUMENTED % "15.10.0").encode())
    assert (reply.status, reply.body) == (400, {"message": "js-15.10.0 runtime is unknown"})


@pytest.mark.parametrize(
    ("name", "language", "code"),
    [
        ("python3", "python", "print(6 * 7)"),
        ("javascript", "javascript", "console.log(6 * 7)"),
        ("ts", "typescript", "const n: number = 6 * 7; console.log(n)"),
        ("deno-ts", "typescript", "const n: number = 6 * 7; console.log(n)"),
        ("bun-js", "javascript", "console.log(6 * 7)"),
        ("sh", "bash", "echo $((6 * 7))"),
        ("golang", "go", 'package main\nimport "fmt"\nfunc main() { fmt.Println(6 * 7) }'),
        ("rs", "rust", 'fn main() { println!("{}", 6 * 7) }'),
        ("rb", "ruby", "puts 6 * 7"),
        ("php", "php", "<?php echo 6 * 7, PHP_EOL;"),
    ],
)
def test_each_language_under_a_name_that_says_nothing_of_its_suffix(service, name, language, code):
    files = [{"name": "my_cool_code", "content": code}]
    ended = execute(service, {"language": name, "version": "*", "files": files})
    assert (ended["run"]["output"], ended["language"]) == ("42\n", language), ended
    compiled = ["compile"] if language in ("go", "rust") else []
    assert list(ended) == [*compiled, "run", "language", "version"]


@pytest.mark.parametrize(
    "selector", ["*", "3", "3.x", "^3.10", ">=3 <4", "~3", "3.0 - 4", "2.x || 3.x", "v3", ">2"]
)
def test_selectors_of_what_is_installed(service, versions, selector):
    ended = execute(service, {"language": "py", "version": selector, "files": MAIN})
    assert ended["version"] == versions["python"]


STATUSES = {
    "exit": (asked(code="exit 3"), (3, None, "RE", "Exited with error status 3")),
    "signal": (asked(code="kill -SEGV $$"), (None, "SIGSEGV", "SG", "Caught fatal signal 11")),
    "memory": (
        asked("python", "x = bytearray(10**9)", run_memory_limit=33_554_432),
        (None, "SIGKILL", "SG", "Caught fatal signal 9"),
    ),
    "wall clock": (
        asked(code="sleep 60", run_timeout=300),
        (None, "SIGKILL", "TO", "Time limit exceeded (wall clock)"),
    ),
    "CPU time": (
        asked(code="while :; do :; done", run_cpu_time=200),
        (None, "SIGKILL", "TO", "Time limit exceeded"),
    ),
    # They would not end by themselves within the test.
    "stdout": (
        asked(code="yes | head -c 3000000; sleep 50", run_timeout=60_000),
        (None, "SIGKILL", "OL", "stdout length exceeded"),
    ),
    "stderr": (asked(code="yes >&2", run_timeout=60_000), (None, "SIGKILL", "EL", "stderr length exceeded")),
    "none": (asked(run_memory_limit=-1, compile_memory_limit=-1, run_timeout=0), (0, None, None, None)),
}


@pytest.mark.parametrize("name", STATUSES)
def test_how_a_program_ended(service, name):
    body, wanted = STATUSES[name]
    run = execute(service, body)["run"]
    assert (run["code"], run["signal"], run["status"], run["message"]) == wanted
    assert 0 < run["wall_time"] < 30_000
    assert len(run["output"]) <= 1024 * 1024
    assert run["cpu_time"] >= 0
    assert run["memory"] > 0


def test_what_does_not_compile(service):
    ended = execute(service, asked("rust", "fn main( oops"))
    assert ended["run"] == ended["compile"]
    assert (ended["run"]["code"], ended["run"]["status"]) == (1, "RE")
    assert "unclosed delimiter" in ended["run"]["output"]


#: Which the compiler takes long for, and says much about.
LARGE = "package main\n" + "".join(f"func f{at}(a []string) map[string]int {{ m := map[string]int{{}}; for i, s := range a {{ m[s] += i * {at} }}; return m }}\n" for at in range(4000)) + "func main() { f1(nil) }"  # fmt: skip
COMPILING = {
    "wall clock": ({"compile_timeout": 40}, "TO", "Time limit exceeded (wall clock)"),
    "CPU time": ({"compile_cpu_time": 60}, "TO", "Time limit exceeded"),
    "memory": ({"compile_memory_limit": 40 * 2**20}, "SG", "Caught fatal signal 9"),
}


@pytest.mark.parametrize("name", COMPILING)
def test_a_compiler_that_goes_beyond_its_limits(service, name):
    fields, status, message = COMPILING[name]
    ended = execute(service, asked("go", LARGE, **fields))
    assert ended["run"] == ended["compile"]
    run = ended["run"]
    assert (run["code"], run["signal"], run["status"], run["message"]) == (None, "SIGKILL", status, message)
    assert run["wall_time"] < 5_000


def test_limits_of_compiling_that_are_kept(service):
    most = {"compile_timeout": 30_000, "compile_cpu_time": 60_000, "compile_memory_limit": 2**31}
    program = "package main\nfunc main() { println(1) }"
    assert execute(service, asked("go", program, **most))["run"]["stderr"] == "1\n"


def test_files_input_and_arguments(service):
    files = [
        {"name": "data.bin", "content": base64.b64encode(b"\0\xff\n").decode(), "encoding": "base64"},
        {"name": "my/main.py", "content": "import sys, pathlib\nfrom helper import hello\nprint(hello, sys.argv[1:], repr(sys.stdin.read()), pathlib.Path('data.bin').read_bytes())", "encoding": "utf8"},
        {"name": "my/helper.py", "content": "68656c6c6f203d2031", "encoding": "hex"},
    ]  # fmt: skip
    ended = execute(
        service, {"language": "python", "version": "*", "files": files, "stdin": "a\nb", "args": ["x y", ""]}
    )
    assert ended["run"]["output"] == "1 ['x y', ''] 'a\\nb\\n' b'\\x00\\xff\\n'\n"


def test_both_outputs_in_their_order(service):
    run = execute(service, asked(code="for i in 1 2; do echo o$i; sleep 0.1; echo e$i >&2; sleep 0.1; done"))["run"]
    assert (run["stdout"], run["stderr"]) == ("o1\no2\n", "e1\ne2\n")
    assert run["output"] == "o1\ne1\no2\ne2\n"


def test_a_run_is_in_the_history_of_its_key(service):
    body = asked(code=f"echo {uuid.uuid4()}")
    output = execute(service, body)["run"]["output"]
    newest = service.get("/v1/runs?limit=5").body["data"]
    run = next(run for run in newest if run["stdout"] == output)
    assert (run["language"], run["status"]) == ("bash", "succeeded")


WRONG = {
    "no language": ({"version": "*", "files": MAIN}, "language is required as a string"),
    "a language that is a number": ({"language": 1, "version": "*", "files": MAIN}, "language is required as a string"),
    "no version": ({"language": "py", "files": MAIN}, "version is required as a string"),
    "no files": ({"language": "py", "version": "*"}, "files is required as an array"),
    "files that are an object": ({"language": "py", "version": "*", "files": {}}, "files is required as an array"),
    "no content": ({"language": "py", "version": "*", "files": [*MAIN, {}]}, "files[1].content is required as a string"),
    "an unknown language": ({"language": "x", "version": "*", "files": MAIN}, "x-* runtime is unknown"),
    "an unknown version": ({"language": "python", "version": "3.1.0", "files": MAIN}, "python-3.1.0 runtime is unknown"),
    "no selector": ({"language": "py", "version": "latest", "files": MAIN}, "py-latest runtime is unknown"),
    "no text": (
        {"language": "py", "version": "*", "files": [{"content": "", "encoding": "hex"}]},
        "files must include at least one utf8 encoded file",
    ),
    "an empty list": ({"language": "py", "version": "*", "files": []}, "files must include at least one utf8 encoded file"),
    "a limit that is a text": (asked(run_timeout="3000"), "If specified, run_timeout must be a number"),
    "a limit that is negative": (asked(compile_cpu_time=-1), "compile_cpu_time must be non-negative"),
    "memory below -1": (asked(run_memory_limit=-2), "run_memory_limit must be non-negative"),
    "a limit that is too high": (asked(run_timeout=60_001), "run_timeout cannot exceed the configured limit of 60000"),
    "memory that is too much": (
        asked(run_memory_limit=2**31 + 1),
        "run_memory_limit cannot exceed the configured limit of 2147483648",
    ),
    "arguments that are numbers": (asked(args=[1]), "If specified, args must be an array of strings"),
    "an array": ([], "The body must be a JSON object, and is an array."),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request(service, name):
    body, message = WRONG[name]
    reply = service.post("/api/v2/piston/execute", json=body)
    assert (reply.status, reply.body) == (400, {"message": message})


def test_what_is_no_json_and_no_body(service):
    for data, message in ((b"{", "The body is not valid JSON"), (b"", "language is required as a string")):
        reply = service.post("/api/v2/execute", data=data)
        assert (reply.status, list(reply.body)) == (400, ["message"])
        assert reply.body["message"].startswith(message)


def test_a_body_that_is_not_said_to_be_json(service):
    body = json.dumps(asked()).encode()
    for headers in (
        {},
        {"Content-Type": "text/plain;charset=UTF-8"},
        {"Content-Type": "application/x-www-form-urlencoded"},
    ):
        reply = service.request("POST", "/api/v2/execute", body, headers)
        assert (reply.status, reply.body["run"]["output"]) == (200, "hi\n"), headers
    reply = service.post("/api/v2/execute", data=body, headers={"Content-Encoding": "gzip"})
    assert (reply.status, list(reply.body)) == (415, ["message"])


@pytest.mark.parametrize("path", ["/api/v2/nothing", "/api/v2/piston/execute/x", "/api/v2//execute"])
def test_unknown_paths(service, path):
    reply = service.get(path)
    assert (reply.status, reply.body) == (404, {"message": "Not Found"})


def test_methods_that_a_path_has_not(service):
    for method, path in (("GET", "/api/v2/execute"), ("PUT", "/api/v2/piston/runtimes"), ("POST", "/api/v2")):
        reply = service.request(method, path)
        assert (reply.status, list(reply.body)) == (405, ["message"])
        assert reply.headers["allow"]


def test_keys(service):
    body = json.dumps(asked()).encode()
    for headers in (
        {"X-API-Key": service.token},
        {"Authorization": service.token},
        {"Authorization": f"Bearer {service.token}"},
    ):
        reply = service.request("POST", "/api/v2/execute", body, headers, token=None)
        assert (reply.status, reply.body["run"]["output"]) == (200, "hi\n"), headers
        assert reply.headers["x-ratelimit-limit-requests"] == "1000"
    for headers in ({"X-API-Key": "dev_124"}, {"Authorization": "dev_124"}, {"Authorization": "Basic ZGV2"}):
        reply = service.request("POST", "/api/v2/execute", body, headers, token=None)
        assert (reply.status, list(reply.body)) == (401, ["message"]), headers


def test_without_a_key(service):
    """Each address has the plan of requests without a key: its limits, and its requests a minute."""
    own = address()
    body = json.dumps(asked()).encode()
    reply = service.request("POST", "/api/v2/execute", body, own, token=None)
    assert (reply.status, reply.body["run"]["output"]) == (200, "hi\n")
    over = json.dumps(asked(run_timeout=10_001)).encode()
    replies = [service.request("POST", "/api/v2/execute", over, own, token=None) for _ in range(40)]
    assert replies[0].body == {"message": "run_timeout cannot exceed the configured limit of 10000"}
    last = replies[-1]
    assert (last.status, list(last.body)) == (429, ["message"])
    assert int(last.headers["retry-after"]) >= 1
    assert service.request("POST", "/api/v2/execute", over, address(), token=None).status == 400


def test_a_program_without_a_key_may_be_large(service):
    code = "#" * 600_000 + "\nprint(2)"
    reply = service.request(
        "POST", "/api/v2/execute", json.dumps(asked("py", code)).encode(), address(), token=None
    )
    assert (reply.status, reply.body["run"]["output"]) == (200, "2\n")
    code = "#" * 1_200_000
    reply = service.request(
        "POST", "/api/v2/execute", json.dumps(asked("py", code)).encode(), address(), token=None
    )
    assert (reply.status, list(reply.body)) == (413, ["message"])


def test_the_root_is_shared(service):
    """`/execute` is Piston's where the body is; where it is another service's it is nobody's yet."""
    assert execute(service, asked(), "/execute")["run"]["output"] == "hi\n"
    assert service.post("/execute", json={"version": "*"}).body == {"message": "language is required as a string"}
    reply = service.post("/execute", json={"command": "ls"})
    assert (reply.status, reply.body["error"]["code"]) == (404, "not_found")
