"""Piston's requests as fields of a run, and ended runs as Piston's answers."""

from __future__ import annotations

import base64
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.dialects.piston.answers import executed, failed, render
from api.dialects.piston.runtimes import LanguageRuntimes
from api.dialects.piston.translate import parse_execute
from api.errors import ApiError, ErrorObject
from api.runs.requests import parse_run
from api.system.languages import OfferedLanguage
from protocol.limits import LIMIT_RULES

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["a", "main.py", "../x", "/etc/passwd", "a/b", "a/../b", "./a", "a//b", "", "inputs", "é", "x" * 300, "a\0b"]
)
FILES = st.lists(
    st.fixed_dictionaries(
        {"content": st.text(max_size=9, alphabet=st.characters(exclude_categories=["Cs"]))},
        optional={"name": NAMES, "encoding": st.sampled_from(["utf8", "hex", "base64", "latin1", ""])},
    ),
    max_size=5,
)


def language(name, version, entry, *aliases, ready=True):
    return OfferedLanguage(name, entry, ready, 64, {"version": version, "aliases": list(aliases)})


RUNTIMES = LanguageRuntimes(
    (
        language("python", "3.13.5", "main.py", "py", "python3"),
        language("node", "24.19.0", "main.js", "js", "javascript", "nodejs"),
        language("deno", "2.9.8", "main.ts"),
        language("bun", "1.4.5", "main.ts"),
        language("typescript", "24.19.0", "main.ts", "ts"),
        language("go", "1.24.4", "main.go", "golang"),
        language("lua", "5.4", "main.lua", "luajit"),
        language("ruby", None, "main.rb", "rb", ready=False),
    )
)


def translated(plan=None, **fields):
    body = {"language": "py", "version": "*", "files": [{"content": "x"}], **fields}
    return parse_execute(body, RUNTIMES.find, plan)


def refused(**fields):
    with pytest.raises(ApiError) as e:
        translated(**fields)
    assert e.value.status == 400
    return e.value.error.message


def paths(*files, name="py"):
    fields = translated(language=name, files=list(files)).fields
    return [file["path"] for file in fields["files"]], fields["entrypoint"]


def test_the_fields_of_a_run():
    asked = translated(stdin="a", args=["1"], run_timeout=1500.5, run_cpu_time=900, run_memory_limit=100_000_000)
    assert asked.fields == {
        "language": "python",
        "files": [{"path": "main.py", "content": "x"}],
        "entrypoint": "main.py",
        "args": ["1"],
        "stdin": "a\n",
        "limits": {"max_artifact_files": 0, "timeout_ms": 1501, "cpu_ms": 900, "memory_mb": 96},
    }
    assert translated(stdin="a\n").fields["stdin"] == "a\n"
    assert translated(stdin=None, args=None).fields["stdin"] == "\n"
    assert translated(run_memory_limit=1).fields["limits"]["memory_mb"] == 16
    assert translated(run_timeout=0.1).fields["limits"]["timeout_ms"] == 1


def test_limits_that_are_none():
    fields = dict.fromkeys(("run_timeout", "compile_timeout", "run_cpu_time", "compile_cpu_time"), 0)
    fields |= {"run_memory_limit": -1, "compile_memory_limit": -1.0}
    assert translated(**fields).fields["limits"] == {"max_artifact_files": 0}
    assert translated(**dict.fromkeys(fields)).fields["limits"] == {"max_artifact_files": 0}


@pytest.mark.parametrize(
    "name",
    [
        "run_timeout",
        "compile_timeout",
        "run_cpu_time",
        "compile_cpu_time",
        "run_memory_limit",
        "compile_memory_limit",
    ],
)
def test_the_bounds_of_each_limit(name):
    most = {
        "run_timeout": 60_000, "compile_timeout": 30_000, "run_cpu_time": 120_000, "compile_cpu_time": 60_000,
        "run_memory_limit": 2**31, "compile_memory_limit": 2**31,
    }[name]  # fmt: skip
    translated(**{name: most})
    assert refused(**{name: most + 1}) == f"{name} cannot exceed the configured limit of {most}"
    assert refused(**{name: -2}) == f"{name} must be non-negative"
    for value in ("5", True, [], {}):
        assert refused(**{name: value}) == f"If specified, {name} must be a number"


def test_the_limits_are_checked_in_pistons_order():
    fields = {"run_timeout": -1, "compile_memory_limit": "x", "run_memory_limit": -2, "compile_timeout": 10**9}
    assert refused(**fields).startswith("If specified, compile_memory_limit")


def test_names_of_files():
    assert paths({"content": ""}, {"content": ""}) == (["main.py", "file1.code"], "main.py")
    assert paths({"name": "", "content": ""}, {"name": None, "content": ""}) == (
        ["main.py", "file1.code"],
        "main.py",
    )
    assert paths({"content": ""}, {"name": "main.py", "content": ""}) == (
        ["file0.main.py", "main.py"],
        "file0.main.py",
    )
    # The main file is the first that is text.
    files = {"name": "a.bin", "content": "", "encoding": "hex"}, {"name": "./b//c.py", "content": ""}
    assert paths(*files) == (["a.bin", "b/c.py"], "b/c.py")


@pytest.mark.parametrize(
    ("name", "given", "path"),
    [("py", "code", "code"), ("go", "code", "code.go"), ("go", "a.go", "a.go"), ("ts", "x.code", "x.code.ts"), ("ts", "x.mts", "x.mts"),
     ("deno", "a", "a.ts"), ("bun-js", "a.js", "a.js"), ("js", "a", "a"), ("luajit", "a", "a")],
)  # fmt: skip
def test_a_main_file_has_a_suffix_that_its_language_takes(name, given, path):
    assert paths({"name": given, "content": ""}, name=name)[1] == path


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "..", "/etc/passwd", "//x", "a\0b", "x" * 256, "a/" * 600 + "b", ".", "/", "inputs", "outputs", "./inputs", 5, [], {}],
)  # fmt: skip
def test_a_name_that_no_file_can_have(name):
    assert refused(files=[{"content": ""}, {"name": name, "content": ""}]).startswith("files[1].name ")


def test_names_that_collide():
    for first, second in (("a", "a"), ("a", "./a"), ("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b")):
        files = [{"name": first, "content": ""}, {"name": second, "content": ""}]
        assert refused(files=files) == "files[1].name is that of another file, or of its folder"
    assert refused(files=[{"content": ""}] * 65) == "files must have at most 64 entries"


@given(st.binary(max_size=60))
def test_encodings(data):
    def content(text, encoding):
        file = translated(files=[{"content": ""}, {"content": text, "encoding": encoding}]).fields["files"][1]
        assert file["encoding"] == "base64"
        return base64.b64decode(file["content"], validate=True)

    text = base64.b64encode(data).decode()
    for given_text in (text, text.rstrip("="), base64.urlsafe_b64encode(data).decode(), "\n".join(text)):
        assert content(given_text, "base64") == data
    assert content(data.hex(), "hex") == content(data.hex().upper(), "hex") == data


def test_wrong_encodings():
    for text, encoding in (
        ("%", "base64"),
        ("a", "base64"),
        ("é", "base64"),
        ("a", "hex"),
        ("zz", "hex"),
        ("é", "hex"),
    ):
        files = [{"content": ""}, {"content": text, "encoding": encoding}]
        assert refused(files=files) == f"files[1].content is not valid {encoding}"
    assert refused(files=[{"content": ""}, {"content": "", "encoding": 1}]) == "files[1].encoding must be a string"
    # An encoding that Piston does not know is text, but no program.
    assert (
        translated(files=[{"content": ""}, {"content": "x", "encoding": "latin1"}]).fields["files"][1]["content"]
        == "x"
    )
    assert (
        refused(files=[{"content": "", "encoding": "latin1"}])
        == "files must include at least one utf8 encoded file"
    )


@given(
    FILES,
    JSON_VALUES,
    JSON_VALUES,
    st.sampled_from(["run_timeout", "run_memory_limit", "compile_cpu_time", "extra"]),
)
def test_what_is_taken_is_a_run_and_all_else_has_a_message(files, stdin, value, name):
    error = None
    try:
        fields = translated(files=files, stdin=stdin, **{name: value}).fields
    except ApiError as e:
        error = e
    if error is not None:
        assert error.status == 400
        assert 0 < len(error.error.message) < 300
        return
    asked = parse_run(fields)
    assert asked.entrypoint in {file.path for file in asked.files}
    assert all(value <= LIMIT_RULES[limit].ceiling for limit, value in asked.limits.items())


@given(st.dictionaries(st.sampled_from(["language", "version", "files", "args", "stdin"]), JSON_VALUES))
def test_any_object_is_answered(body):
    with pytest.raises(ApiError) as e:
        parse_execute(body, RUNTIMES.find, None)
    assert e.value.status == 400


def test_the_choice_of_a_runtime():
    def found(name, selector="*"):
        runtime = RUNTIMES.find(name, selector)
        return None if runtime is None else (runtime.id, runtime.language, str(runtime.version))

    assert (
        found("javascript") == found("js") == found("node") == found("nodejs") == ("node", "javascript", "24.19.0")
    )
    assert found("javascript", "2.x") == found("deno-js") == ("deno", "javascript", "2.9.8")
    assert found("javascript", "<2") == ("bun", "javascript", "1.4.5")
    assert found("deno") == found("typescript", "2") == ("deno", "typescript", "2.9.8")
    assert found("typescript") == found("node-ts") == ("typescript", "typescript", "24.19.0")
    assert found("luajit", "5.4") == ("lua", "lua", "5.4.0")
    assert found("Python") is found("python", "2") is found("") is None
    # What is not ready is found, so that the answer is that it is not ready, but not listed.
    assert found("rb", "3.x") == ("ruby", "ruby", "0.0.0")
    assert "ruby" not in {runtime.language for runtime in RUNTIMES.installed}
    assert {"language": "ruby", "language_version": "0.0.0", "installed": False} in RUNTIMES.packages


def test_the_rows_of_the_runtimes():
    rows = [runtime.to_json() for runtime in RUNTIMES.installed]
    assert rows[0] == {"language": "python", "version": "3.13.5", "aliases": ["py", "py3", "python3"]}
    assert [row.get("runtime") for row in rows] == [None, "node", "deno", "deno", "bun", "bun", None, None, None]


def test_a_message_does_not_repeat_a_long_name():
    message = refused(language="x" * 5000, version="y" * 5000)
    assert message == f"{'x' * 100}-{'y' * 100} runtime is unknown"


# -- answers -----------------------------------------------------------------------------------------

RUN = {
    "status": "succeeded", "exit_code": 0, "signal": None, "stdout": "a", "stderr": "b", "stdout_truncated": False,
    "stderr_truncated": False, "compile": None, "limits": {"cpu_ms": 1000, "max_output_bytes": 10},
    "usage": {"wall_ms": 7, "cpu_ms": 5, "max_rss_mb": 3, "queue_ms": 0},
}  # fmt: skip
COMPILED = {"stdout": "", "stderr": "warning", "exit_code": 0, "wall_ms": 50, "cpu_ms": 80}


def answered(in_order=lambda: None, asked=None, **facts):
    return orjson.loads(executed(asked or translated(), {**RUN, **facts}, in_order))


def ended(**facts):
    run = answered(**facts)["run"]
    return run["code"], run["signal"], run["status"], run["message"]


def test_the_answer():
    assert json.dumps(answered(lambda: "ba")) == json.dumps(
        {
            "run": {
                "stdout": "a", "stderr": "b", "code": 0, "signal": None, "output": "ba", "memory": 3 * 2**20,
                "message": None, "status": None, "cpu_time": 5, "wall_time": 7,
            },
            "language": "python",
            "version": "3.13.5",
        }
    )  # fmt: skip
    assert answered(stderr="", in_order=lambda: pytest.fail("asked"))["run"]["output"] == "a"
    assert answered()["run"]["output"] == "ab"


def test_the_ends():
    assert ended(exit_code=7, status="failed") == (7, None, "RE", "Exited with error status 7")
    assert ended(exit_code=None, signal="SIGSEGV", status="failed") == (
        None,
        "SIGSEGV",
        "SG",
        "Caught fatal signal 11",
    )
    assert ended(exit_code=None, signal="SIGRTMIN+3", status="failed")[1:] == (
        "SIGRTMIN+3",
        "SG",
        "Caught fatal signal SIGRTMIN+3",
    )
    assert ended(exit_code=None, signal="SIGKILL", status="oom") == (None, "SIGKILL", "SG", "Caught fatal signal 9")
    assert ended(exit_code=None, status="timeout")[2:] == ("TO", "Time limit exceeded (wall clock)")
    cpu = {"wall_ms": 7, "cpu_ms": 1000, "max_rss_mb": 3}
    assert ended(exit_code=None, status="timeout", usage=cpu) == (None, "SIGKILL", "TO", "Time limit exceeded")
    assert ended(status="timeout", stdout_truncated=True, stderr_truncated=True)[1:3] == ("SIGKILL", "OL")
    assert ended(stderr_truncated=True) == (None, "SIGKILL", "EL", "stderr length exceeded")
    assert ended(exit_code=None, status="cancelled")[2] == ended(exit_code=None, status="killed")[2] == "XX"


def test_the_compile_stage():
    good = answered(compile=COMPILED)
    assert list(good) == ["compile", "run", "language", "version"]
    assert (good["compile"]["output"], good["compile"]["code"], good["run"]["output"]) == ("warning", 0, "ab")
    for facts, end in (
        ({"exit_code": 1}, (1, None, "RE")),
        ({"exit_code": None}, (None, "SIGKILL", "SG")),
    ):
        bad = answered(compile={**COMPILED, **facts}, status="failed", exit_code=None)
        assert bad["run"] == bad["compile"]
        assert (bad["run"]["code"], bad["run"]["signal"], bad["run"]["status"]) == end
    for status, end in (("timeout", "TO"), ("cancelled", "XX"), ("oom", "SG")):
        assert answered(compile={**COMPILED, "exit_code": None}, status=status)["run"]["status"] == end


def test_limits_of_the_compile_stage():
    asked = translated(compile_timeout=49.5, compile_cpu_time=80, compile_memory_limit=40 * 2**20)
    assert asked.compile_limits == {"timeout_ms": 50, "cpu_ms": 80, "memory_mb": 40}
    assert "compile" not in asked.fields
    assert translated(compile_memory_limit=1).compile_limits == {"memory_mb": 16}
    assert translated(compile_timeout=0, compile_memory_limit=-1).compile_limits == {}


def killed_compiler(asked=None, **facts):
    """How a compiler that was killed is said to have ended."""
    compiled = COMPILED | {"exit_code": None, "stderr": facts.pop("stderr", "")}
    late = answered(asked=asked, compile=compiled, exit_code=None, **facts)
    assert late["run"] == late["compile"]
    return tuple(late["run"][name] for name in ("code", "signal", "status", "message"))


def test_a_compiler_that_went_beyond_its_limits():
    wall, cpu = "Time limit exceeded (wall clock)", "Time limit exceeded"
    failed_part = answered(compile=COMPILED | {"exit_code": 1}, status="oom", exit_code=None)["run"]
    assert (failed_part["code"], failed_part["signal"], failed_part["status"]) == (None, "SIGKILL", "SG")
    assert killed_compiler(status="timeout") == (None, "SIGKILL", "TO", wall)
    assert killed_compiler(translated(compile_cpu_time=81), status="timeout")[2:] == ("TO", wall)
    assert killed_compiler(translated(compile_cpu_time=80), status="timeout")[2:] == ("TO", cpu)
    assert killed_compiler(status="killed", stderr="x" * 10) == (None, "SIGKILL", "EL", "stderr length exceeded")
    assert killed_compiler(status="killed", stderr="x" * 9)[2] == "XX"
    compiled = COMPILED | {"exit_code": None, "stdout": "é" * 5}
    assert answered(compile=compiled, status="killed")["run"]["status"] == "OL"


def test_a_run_that_the_service_failed():
    error = ApiError.of_run("run_1", ErrorObject("The worker was lost.", "server_error", None, "worker_lost"))
    run = orjson.loads(failed(translated(), error))["run"]
    assert (run["code"], run["status"], run["message"], run["output"]) == (None, "XX", "The worker was lost.", "")


def test_errors_have_a_message_alone():
    reply = render(ApiError(429, "Slowly.", code="rate_limit_exceeded", retry_after_s=3))
    assert (reply.status_code, reply.data, reply.headers["Retry-After"]) == (429, b'{"message":"Slowly."}', "3")
    assert render(ApiError(404, "No such path.", code="not_found")).data == b'{"message":"Not Found"}'
