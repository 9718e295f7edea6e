"""Functions: requests, the runs that are made of them, and how a build ends."""

from __future__ import annotations

import pytest

from api.errors import ApiError
from api.functions.builds import build_end
from api.functions.handlers import LANGUAGES, Call, Source, build_request, call_request
from api.functions.objects import document_of, function_object, source_of
from api.functions.requests import (
    MAX_FILES,
    parse_call,
    parse_function,
    parse_name,
    parse_reference,
)
from api.functions.sources import prepare
from protocol.function import INPUT_PATH, MAX_INPUT_BYTES, PROGRAM_PATH
from protocol.job import JobFile, JobInput
from records.functions import FunctionVersion

CODE = {"language": "python", "code": "def run(input): return input"}


def parsed(language="python", entry="main.py", **fields):
    return parse_function({"language": language} | fields, language, entry)


def refusal(call):
    with pytest.raises(ApiError) as e:
        call()
    return e.value.status, e.value.error.code, e.value.error.param


@pytest.mark.parametrize("name", ["a", "A-b_9", "x" * 64, "-", "0"])
def test_names(name):
    assert parse_name(name) == name
    assert parse_reference(f"{name}@3").version == 3


@pytest.mark.parametrize("name", ["", "..", ".", "a.b", "a/b", "x" * 65, "ä", "a\n", "a@1", "a b", "\0"])
def test_names_that_are_none(name):
    assert refusal(lambda: parse_name(name)) == (400, "invalid_value", "name")


@pytest.mark.parametrize("text", ["..", "a@", "a@0", "a@-1", "a@1.0", "a@01", "a@1@2", "a@" + "9" * 10, "a@١"])
def test_references_that_are_none(text):
    assert refusal(lambda: parse_reference(text)) == (404, "function_not_found", "name")


def test_a_version_is_given_once():
    assert parse_reference("a", "7").version == 7
    assert refusal(lambda: parse_reference("a@1", "1")) == (400, "invalid_value", "version")
    for version in ("0", "x", "1.5", "-1", ""):
        assert refusal(lambda version=version: parse_reference("a", version)) == (400, "invalid_value", "version")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({}, "missing_field", "code"),
        ({"code": ""}, "invalid_value", "code"),
        ({"code": "x" * (1024 * 1024 + 1)}, "too_long", "code"),
        ({"code": "x", "entrypoint": "a"}, "invalid_value", "entrypoint"),
        ({"code": "x", "packages": "numpy"}, "invalid_type", "packages"),
        ({"code": "x", "packages": ["x"] * 33}, "too_many", "packages"),
        ({"code": "x", "args": ["1"]}, "unknown_field", "args"),
        ({"code": "x", "env": {"A B": "1"}}, "invalid_value", "env"),
        ({"code": "x", "limits": {"timeout_ms": 0}}, "limit_below_minimum", "limits.timeout_ms"),
        ({"code": "x", "description": "x" * 5000}, "too_long", "description"),
        ({"code": "x", "input_schema": {"type": 1}}, "invalid_value", "input_schema"),
        ({"code": "x", "input_schema": True}, "invalid_type", "input_schema"),
        ({"code": "x", "stream": True, "background": True}, "invalid_value", "stream"),
        ({"code": "x", "files": [{"path": "handler.py", "content": ""}]}, "duplicate_path", "files.0.path"),
        ({"code": "x", "files": [{"path": "handler.py/x", "content": ""}]}, "duplicate_path", "files.0.path"),
        ({"code": "x", "files": [{"path": "main.py", "content": ""}]}, "duplicate_path", "files.0.path"),
        ({"code": "x", "files": [{"path": ".runyard/input", "content": ""}]}, "invalid_path", "files.0.path"),
        ({"code": "x", "files": [{"path": "../a", "content": ""}]}, "invalid_path", "files.0.path"),
        ({"code": "x", "files": [{"path": "a", "id": "file_1"}]}, "not_supported", "files.0.id"),
        ({"code": "x", "files": [{"path": f"{n}", "content": ""} for n in range(MAX_FILES + 1)]}, "too_many", "files"),
    ],
)  # fmt: skip
def test_bad_functions(fields, code, param):
    assert refusal(lambda: parsed(**fields)) == (400, code, param)


def test_a_language_without_functions_is_refused():
    assert refusal(lambda: parsed("ruby", "main.rb", code="1")) == (400, "not_supported", "language")


def test_an_input_is_bounded():
    assert parse_call({"input": "x" * (MAX_INPUT_BYTES - 2)}).input
    assert refusal(lambda: parse_call({"input": "x" * (MAX_INPUT_BYTES - 1)})) == (400, "too_long", "input")
    assert parse_call({}).input is None
    assert refusal(lambda: parse_call({"language": "python"})) == (400, "unknown_field", "language")
    assert refusal(lambda: parse_call({"limits": {"x": 1}}))[2] == "limits.x"


def call(language, files=None, **fields):
    handlers = LANGUAGES[language]
    files = files or (JobFile(handlers.file, b"x"),)
    return Call(
        **{"name": "f", "version": 2, "source": Source(language, files[0].path, files), "limits": {}}
        | {"env": {}}
        | fields
    )


@pytest.mark.parametrize("language", ["python", "node", "typescript"])
def test_the_driver_is_where_the_waiting_interpreter_looks(language):
    run = call_request(call(language, env={"A": "1"}, limits={"pids": 9}), {"a": [1]}, {"timeout_ms": 5})
    paths = [file.path for file in run.files]
    assert run.entrypoint == paths[0] == LANGUAGES[language].entry
    assert paths[-1] == INPUT_PATH
    assert run.files[-1].content == b'{"a":[1]}'
    assert (run.args, run.env, run.limits) == ((paths[1], "call"), {"A": "1"}, {"pids": 9, "timeout_ms": 5})
    assert (run.function.handler, run.function.returns, run.function.version) == (paths[1], "json", 2)


def test_a_compiled_function_is_started_as_it_is():
    program = JobInput(PROGRAM_PATH, "artifact", "a" * 64, 9)
    files = (JobFile("handler.go", b"x"), JobFile("table.csv", b"1"), JobFile("more.go", b"y"))
    run = call_request(call("go", files, program=program), "text", {})
    assert [file.path for file in run.files] == ["table.csv", INPUT_PATH]
    assert (run.entrypoint, run.function.inputs, run.function.executable) == (PROGRAM_PATH, (program,), True)
    assert run.files[-1].content == b"text"


def test_bash_reads_its_input():
    run = call_request(call("bash"), {"a": 1}, {})
    assert (run.entrypoint, run.stdin, run.function.returns) == ("main.sh", '{"a":1}', "stdout")


@pytest.mark.parametrize(
    ("handler", "named"),
    [
        (b"func Run(input string)", b":= Run("),
        (b"func run(input string)", b":= run("),
        (b"// func run(", b":= Run("),
    ],
)
def test_a_go_handler_has_either_name(handler, named):
    run = build_request(call("go", (JobFile("a.go", handler),)), "run_1", None)
    assert named in run.files[0].content
    assert (run.args, run.function.run_id, run.limits["max_artifact_files"]) == (("build",), "run_1", 1)


def test_a_rust_driver_names_the_file_whatever_its_name():
    run = build_request(call("rust", (JobFile('a"b\\.rs', b"x"),)), "run_1", None)
    assert b'#[path = "a\\"b\\\\.rs"]' in run.files[0].content


def test_a_build_without_a_compiler_leaves_nothing():
    run = build_request(call("python", limits={"memory_mb": 99, "timeout_ms": 1}), "run_1", None)
    assert (run.args, run.function.returns, run.limits["max_artifact_files"]) == (("handler.py", "check"), "", 0)
    assert (run.limits["memory_mb"], "timeout_ms" in run.limits) == (99, False)


RUN = {"status": "succeeded", "stdout": "", "stderr": "", "compile": None, "artifacts": [], "error": None}
PROGRAM = {"path": "program", "sha256": "a" * 64, "size": 5}


def test_the_end_of_a_build():
    assert build_end("python", RUN | {"stdout": "hello"}, 7).log == "hello\n"
    assert build_end("go", RUN | {"artifacts": [PROGRAM]}, 7).program.size == 5
    compiled = {"stdout": "", "stderr": "undefined: Run"}
    failed = build_end("go", RUN | {"status": "failed", "compile": compiled}, 7)
    assert failed.state == "failed"
    assert "undefined: Run\n" in failed.log
    assert "func Run(input string) (string, error)" in failed.log


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (RUN, "no program"),
        (RUN | {"artifacts": [PROGRAM | {"path": "other"}]}, "no program"),
        (RUN | {"status": "oom", "artifacts": [PROGRAM]}, "oom"),
        (RUN | {"status": "error", "error": {"message": "the worker went away"}}, "the worker went away"),
    ],
)
def test_a_build_without_a_program_has_failed(run, text):
    end = build_end("rust", run, 7)
    assert (end.state, end.program) == ("failed", None)
    assert text in end.log


def version_of(asked):
    return FunctionVersion(
        "key_a", "f", 1, asked.source.language, "ready", "", document_of(asked), source_of(asked), "run_1", 1, 2, 3
    )  # fmt: skip


def test_the_values_of_the_environment_are_never_answered():
    asked = parsed(
        code="x", env={"TOKEN": "secret"}, files=[{"path": "a", "content": "eA==", "encoding": "base64"}]
    )
    found = version_of(asked)
    shown = function_object(found, found.source)
    assert shown["env_names"] == ["TOKEN"]
    assert "secret" not in str(shown)
    assert (shown["code"], shown["files"][0]["path"]) == ("x", "a")
    assert not {"code", "files", "log"} & set(function_object(found, None))
    made = prepare(found, found.source)
    assert made.call.env == {"TOKEN": "secret"}
    assert made.call.source == asked.source
    assert made.call.source.files[1].content == b"x"
