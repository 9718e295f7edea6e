"""Requests that mean harm, in the shapes of runakode and RunTools: each is a clear 4xx in the shape of that service."""

from __future__ import annotations

import json

import pytest

from tests.adversarial.test_demands import TELLTALE

DEEP = b'{"runtime":"bash","files":' * 2_000
NAMES = ("../sh", "__proto__", "Python\n", "bash\x00", "bash;id", "x" * 100_000, "<script>", "%s", "{}", "/bin/sh")
WRONG = (None, 1, 1.5, [], {}, True)


def runakode(**fields):
    return {"language": "bash", "source_code": "echo hi", **fields}


def runtools(**fields):
    return {"runtime": "python", "code": "print(1)", **fields}


def runtools_files(files, **fields):
    return {"runtime": "python", "files": files, **fields}


RUNAKODE = {
    **{f"language {name[:20]!r}": runakode(language=name) for name in NAMES},
    **{f"language {value!r}": runakode(language=value) for value in WRONG},
    **{f"source {value!r}": runakode(source_code=value) for value in (*WRONG, "")},
    "source too long": runakode(source_code="x" * (1 << 20) + "y"),
    "a lone surrogate": b'{"language":"bash","source_code":"\\ud800"}',
    "NaN": b'{"language":"bash","source_code":NaN}',
    "nested too deep": DEEP,
    "many values": b'{"x":[' + b"1," * 1_000_000 + b'1],"language":"bash","source_code":"1"}',
    "not UTF-8": b"\xff\xfe",
    "two objects": b"{}{}",
}
RUNTOOLS = {
    **{f"runtime {name[:20]!r}": runtools(runtime=name) for name in NAMES},
    **{f"runtime {value!r}": runtools(runtime=value) for value in WRONG},
    **{f"language {name[:20]!r}": {"language": name, "code": "1"} for name in NAMES},
    **{f"timeout {value!r}": runtools(timeout=value) for value in ("1", True, [], 0, -1, 10**9, 2**63, 2**64, 1.5)},
    **{f"files {value!r}": runtools_files(value) for value in ("x", 1, [1], [{}], {"a": 1}, {"a": None}, [["a", "b"]])},
    **{
        f"path {path[:20]!r}": runtools_files({path: ""})
        for path in ("../x", "/etc/passwd", "a/../../x", "", ".", "a//b", "a\x00b", "x" * 300, "a/" * 600 + "b")
    },
    "a file where a directory is": runtools_files({"a": "", "a/b": ""}),
    "the same name twice": runtools_files([{"name": "a", "content": ""}, {"name": "a", "content": ""}]),
    "too many files": runtools_files({f"f{number}": "" for number in range(65)}),
    "the entry file beside code": runtools(files={"main.py": ""}),
    "an entrypoint outside": runtools_files({"a": ""}, entrypoint="../../bin/sh"),
    **{f"version {value!r}": {"language": "bash", "code": "1", "version": value} for value in ("9", "^5", "(a+)+$", 5, [])},
    **{f"env {value!r}": runtools(env=value) for value in ([], "A=B", {"A=B": "x"}, {"": "x"}, {"A": "x\x00"}, {"A": None})},
    **{f"args {value!r}": runtools(args=value) for value in ("a", {}, [1], [None], ["a\x00b"], ["x"] * 65)},
    "stdin too long": runtools(stdin="x" * ((8 << 20) + 1)),
    "a session of somebody": {"language": "bash", "code": "1", "session_id": "sess-1"},
    "nested too deep": DEEP,
    "an array": b"[]",
}  # fmt: skip


def send(service, path, body):
    return service.post(path, data=body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize("name", RUNAKODE)
def test_runakode(service, name):
    reply = send(service, "/api", RUNAKODE[name])
    assert reply.status == 400, (reply.status, reply.raw[:300])
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    text = reply.raw.decode()
    assert text.endswith("\n")
    assert len(text) < 300
    assert not TELLTALE.search(text), text


@pytest.mark.parametrize("name", RUNTOOLS)
def test_runtools(service, name):
    reply = send(service, "/v1/execute", RUNTOOLS[name])
    assert reply.status == 400, (reply.status, reply.raw[:300])
    error = reply.body["error"]
    assert (list(error), error["code"]) == (["code", "message", "requestId"], "invalid_request")
    assert 0 < len(error["message"]) < 300
    # The name of a file of the client's own may end in it.
    assert not TELLTALE.search(error["message"].replace("main.py", "")), error
