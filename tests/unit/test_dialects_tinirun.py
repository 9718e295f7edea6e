"""tinirun's requests, chunks and sources of functions, without a service."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.dialects.tinirun import chunks
from api.dialects.tinirun.languages import LANGUAGES, code_of, source_fields
from api.dialects.tinirun.requests import limits_of, parse_call, parse_create, parse_run, parse_update, run_fields
from api.dialects.tinirun.streams import build_chunks, run_chunks
from api.errors import ApiError
from api.keys.plans import Plan
from api.ratelimit.bucket import Bucket

RUN = {"code": "print(1)", "lang": "python"}
#: A character takes up to 12 bytes as JSON: `\ud800` is no text, `\u0000` takes 6.
TEXTS = st.text(alphabet=st.sampled_from('a\n"\\\x00\x1fé€😀'), max_size=200).map(lambda part: part * 700)


def test_defaults():
    fields, _ = run_fields(parse_run(RUN), None)
    assert fields == {
        "language": "python",
        "code": "print(1)",
        "files": [],
        "limits": {"timeout_ms": 60_000, "memory_mb": 256, "cpus": 0.5},
    }


def test_every_field():
    files = [{"path": "a/b.txt", "content": "aGk="}]
    body = {"dependencies": ["requests==2.32.3"], "files": files, "timeout": 5, "mem_limit_mb": 1, "cpu_limit": 4}
    fields, names = run_fields(parse_run(RUN | {"lang": "javascript"} | body), None)
    assert fields["language"] == "node"
    assert fields["packages"] == ["requests==2.32.3"]
    assert fields["files"] == [{"path": "files/a/b.txt", "content": "aGk=", "encoding": "base64"}]
    assert fields["limits"] == {"timeout_ms": 5_000, "memory_mb": 16, "cpus": 2.0}
    assert (names["packages.0"], names["limits.timeout_ms"]) == ("dependencies.0", "timeout")


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"code": None}, "code", "must be a string"),
        ({"lang": "ruby"}, "lang", "must be one of 'bash', 'go', 'javascript', 'python', 'rust' or 'typescript'"),
        ({"lang": None}, "lang", "must be one of"),
        ({"timeout": 4}, "timeout", "from 5 to 300; the nearest is 5"),
        ({"timeout": 301}, "timeout", "from 5 to 300; the nearest is 300"),
        ({"timeout": 61}, "timeout", "61 exceeds this key's maximum of 60 seconds"),
        ({"timeout": "60"}, "timeout", "must be an integer"),
        ({"mem_limit_mb": 0}, "mem_limit_mb", "from 1 to 2048; the nearest is 1"),
        ({"mem_limit_mb": 2049}, "mem_limit_mb", "the nearest is 2048"),
        ({"cpu_limit": 0.05}, "cpu_limit", "from 0.1 to 4; the nearest is 0.1"),
        ({"cpu_limit": float("nan")}, "cpu_limit", "from 0.1 to 4"),
        ({"files": [{"path": "../x", "content": ""}]}, "files.0.path", "without . and .."),
        ({"files": [{"path": "/x", "content": ""}]}, "files.0.path", "without . and .."),
        ({"files": [{"path": "a/./x", "content": ""}]}, "files.0.path", "without . and .."),
        ({"files": [{"path": "", "content": ""}]}, "files.0.path", "relative path"),
        ({"files": [{"path": "Dockerfile", "content": ""}]}, "files.0.path", "Dockerfile is reserved"),
        ({"files": [{"path": "a", "content": 1}]}, "files.0.content", "must be a string"),
        ({"files": [{"path": "a", "content": ""}] * 51}, "files", "51 entries, the maximum is 50"),
        ({"dependencies": ["a; rm -rf /"]}, "dependencies.0", "characters that no package has"),
        ({"dependencies": ["requests", ""]}, "dependencies.1", "characters that no package has"),
        ({"dependencies": "requests"}, "dependencies", "must be a list"),
    ],
)
def test_a_wrong_program_is_refused_naming_the_field(fields, param, words):
    with pytest.raises(ApiError) as raised:
        run_fields(parse_run(RUN | fields), None)
    assert raised.value.status == 400
    assert raised.value.error.param == param
    assert words in raised.value.error.message


@pytest.mark.parametrize("name", ["", "a b", "a1", "x" * 51, "../x", "ü", "a\n"])
def test_a_function_that_cannot_have_its_name(name):
    with pytest.raises(ApiError, match="1 to 50 letters, _ or -"):
        parse_create({"name": name, "language": "python"})


def test_wrong_functions_and_calls():
    for parse, body, param in (
        (parse_create, {"name": "a"}, "language"),
        (parse_create, {"name": "a", "language": "ruby"}, "language"),
        (parse_update, {}, "code"),
        (parse_update, {"code": "", "dependencies": ["$(id)"]}, "dependencies.0"),
        (parse_call, {}, "input"),
        (parse_call, {"input": {}}, "input"),
    ):
        with pytest.raises(ApiError) as raised:
            parse(body)
        assert raised.value.error.param == param


def test_a_plan_lowers_defaults_and_refuses_more():
    bucket, limits = Bucket(1, 1), {"timeout_ms": 10_500, "memory_mb": 128, "cpus": 0.25}
    plan = Plan("small", bucket, bucket, limits=limits)
    assert limits_of(parse_call({"input": ""}), plan) == {"timeout_ms": 10_000, "memory_mb": 128, "cpus": 0.25}
    with pytest.raises(ApiError, match="timeout: 61 exceeds this key's maximum of 10 seconds"):
        limits_of(parse_call({"input": "", "timeout": 61}), plan)


# -- chunks -------------------------------------------------------------------------------------------


@given(TEXTS, st.sampled_from(["application/jsonl", "text/event-stream"]))
def test_no_line_is_longer_than_clients_read_and_nothing_is_lost(text, media):
    found = list(chunks.texts("stdout", text))
    for chunk in found:
        assert len(chunks.encode(chunk, media).split(b"\n")[0]) + 1 <= chunks.MAX_LINE_BYTES
    assert "".join(chunk["data"] for chunk in found) == text


@given(TEXTS, TEXTS)
def test_a_result_fits_a_line_and_says_where_it_is_cut(stdout, stderr):
    *said, last = chunks.result(stdout, stderr, 0, timeout=False)
    assert len(chunks.encode(last, "text/event-stream")) <= chunks.MAX_LINE_BYTES
    for name, whole in (("stdout", stdout), ("stderr", stderr)):
        kept = last["data"][name]
        assert whole.startswith(kept)
        assert (kept != whole) == any(f"of {len(whole)} characters of {name}" in chunk["data"] for chunk in said)
        assert kept == whole or len(kept) >= chunks.MAX_RESULT_TEXT_BYTES // 12 - 2


@given(st.text(max_size=30), TEXTS)
def test_the_logs_of_a_build_that_failed_fit_a_line(message, logs):
    chunk = chunks.build_failed(message, logs)
    assert len(chunks.encode(chunk, "text/event-stream")) <= chunks.MAX_LINE_BYTES
    assert logs.endswith(chunk["data"]["logs"])


def document(**fields):
    usage = {"wall_ms": 1}
    whole = {
        "status": "succeeded",
        "language": "python",
        "exit_code": 0,
        "signal": None,
        "stdout": "",
        "stderr": "",
    }
    return whole | {"compile": None, "usage": usage} | fields


def told(*messages):
    return [chunk for chunk in run_chunks(messages) if chunk is not None][1:]


def test_the_events_of_a_run_as_chunks():
    found = told(
        {"event": "info", "data": {"status": "queued"}},
        None,
        {"event": "info", "data": {"status": "queued", "output": "Collecting x\n"}},
        {"event": "phase", "data": {"name": "run"}},
        {"event": "stdout", "data": "a\n"},
        {"event": "keepalive", "data": {}},
        {"event": "artifact", "data": {}},
        {"event": "stderr", "data": "b"},
        {"event": "result", "data": document(stdout="a\n", stderr="b", exit_code=3, status="failed")},
    )
    assert found == [
        {"event": "info", "data": "Waiting for a sandbox..."},
        {"event": "info", "data": "Collecting x"},
        {"event": "info", "data": "Running..."},
        {"event": "stdout", "data": "a\n"},
        {"event": "debug", "data": "The program is still running."},
        {"event": "stderr", "data": "b"},
        {"event": "result", "data": {"stdout": "a\n", "stderr": "b", "exit_code": 3, "timeout": False}},
    ]


def test_a_compiler_that_failed_is_streamed_too():
    compiler = {"stdout": "", "stderr": "main.go:1: no\n", "exit_code": 2}
    found = told({"event": "result", "data": document(status="failed", exit_code=None, compile=compiler)})
    assert found == [
        {"event": "stderr", "data": "main.go:1: no\n"},
        {"event": "result", "data": {"stdout": "", "stderr": "main.go:1: no\n", "exit_code": 2, "timeout": False}},
    ]


def test_what_a_handler_returns_is_the_end_of_its_stdout():
    data = orjson.Fragment(orjson.dumps(document(stdout="printed\n", output="back")))
    assert told({"event": "result", "data": data}) == [
        {"event": "stdout", "data": "back\n"},
        {"event": "result", "data": {"stdout": "printed\nback\n", "stderr": "", "exit_code": 0, "timeout": False}},
    ]
    (_, last) = told({"event": "result", "data": document(output={"a": [1]})})
    assert last["data"]["stdout"] == '{"a":[1]}\n'


def test_the_end_of_time_has_no_exit_code():
    found = told({"event": "result", "data": document(status="timeout", exit_code=None, signal="SIGKILL")})
    assert found[0]["data"] == {"stdout": "", "stderr": "", "exit_code": None, "timeout": True}


@pytest.mark.parametrize(
    ("code", "error"),
    [("package_not_found", "build_failed"), ("package_build_failed", "build_failed"), ("worker_lost", "docker")],
)
def test_an_error_ends_the_stream(code, error):
    (found,) = told({"event": "error", "data": {"code": code, "message": "no such thing"}})
    assert found["event"] == "error"
    assert found["data"]["error"] == error
    assert "no such thing" in str(found["data"])


def test_a_build_that_failed_shows_its_log():
    built = {"state": "failed", "log": "SyntaxError\n", "name": "f", "version": 2}
    found = list(build_chunks([{"event": "result", "data": document()}], lambda: built))
    assert found[-1]["data"] == {
        "error": "build_failed",
        "message": "The function could not be built.",
        "logs": "SyntaxError\n",
    }


# -- sources of functions -----------------------------------------------------------------------------


@pytest.mark.parametrize("language", [language.id for language in LANGUAGES.values()])
@pytest.mark.parametrize(
    "code", ["", "x", "package main\nfunc run() {}", " package x", "//package\nfunc run(", "\x00é"]
)
def test_the_code_of_a_function_is_found_as_it_came(language, code):
    fields = source_fields(language, code)
    source = {"code": fields["code"], "files": fields.get("files")}
    assert code_of(language, source) == code


def test_functions_of_the_own_api_have_a_code_too():
    assert (
        code_of("python", {"code": "def run(x): pass", "files": [{"path": "a", "content": "b"}]})
        == "def run(x): pass"
    )
    assert code_of("python", {"code": None, "files": [{"path": "a.py", "content": "b"}]}) == "b"
    assert code_of("bash", {"code": "cat", "files": []}) == "cat"
