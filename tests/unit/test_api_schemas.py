"""Every rule of a request: what is wrong is named by field and bound, and nothing sent is repeated."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.errors import ApiError
from api.runs.requests import check_entry_file, parse_run
from protocol.job import MAX_CODE_BYTES, MAX_STDIN_BYTES, JobFile
from protocol.limits import LIMIT_RULES

BASE = {"language": "python", "code": "x"}
FILE = {"path": "a.py", "content": "x"}


def refused(body) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse_run(body)
    assert caught.value.status == 400
    return caught.value


def program(**fields):
    return BASE | fields


def files(*given):
    return program(files=list(given))


def entry(path, *given):
    return {"language": "python", "entrypoint": path, "files": list(given)}


#: name -> body, param, code, a piece of the message
BAD = {
    "no language": ({"code": "x"}, "language", "missing_field", "required"),
    "language number": (program(language=3), "language", "invalid_type", "string"),
    "language null": (program(language=None), "language", "invalid_type", "string"),
    "language list": (program(language=["python"]), "language", "invalid_type", "string"),
    "no code": ({"language": "python"}, "code", "missing_field", "entrypoint"),
    "code null": (program(code=None), "code", "missing_field", "entrypoint"),
    "both": (entry("a.py", FILE) | {"code": "x"}, "entrypoint", "invalid_value", "not both"),
    "empty code": (program(code=""), "code", "invalid_value", "empty"),
    "code number": (program(code=1), "code", "invalid_type", "string"),
    "code too long": (program(code="x" * (MAX_CODE_BYTES + 1)), "code", "too_long", str(MAX_CODE_BYTES)),
    "code too long in bytes": (program(code="é" * (MAX_CODE_BYTES // 2 + 1)), "code", "too_long", "1048576"),
    "entrypoint without files": (
        {"language": "python", "entrypoint": "a.py"},
        "entrypoint",
        "invalid_value",
        "inline",
    ),
    "entrypoint not a file": (entry("b.py", FILE), "entrypoint", "invalid_value", "inline"),
    "entrypoint leaves": (entry("../a.py", FILE), "entrypoint", "invalid_path", "'..'"),
    "entrypoint empty": (entry("", FILE), "entrypoint", "invalid_path", "empty"),
    "unknown field": (program(extra=1), "extra", "unknown_field", "unknown field"),
    "unknown odd field": (program(**{"a\nb\x1b": 1}), "?", "unknown_field", "unknown field"),
    "unknown proto": (program(__proto__={}), "__proto__", "unknown_field", "unknown field"),
    "unknown file field": (files(FILE | {"mode": 1}), "files.0.mode", "unknown_field", "unknown field"),
    "files object": (program(files={}), "files", "invalid_type", "list"),
    "file string": (files("a.py"), "files.0", "invalid_type", "object"),
    "file without path": (files({"content": "x"}), "files.0.path", "missing_field", "required"),
    "file without content": (files({"path": "a"}), "files.0.content", "missing_field", "required"),
    "file id and content": (files(FILE | {"id": "f"}), "files.0.id", "invalid_value", "not both"),
    "file id and encoding": (
        files({"path": "a", "id": "f", "encoding": "utf-8"}),
        "files.0.id",
        "invalid_value",
        "not both",
    ),
    "file id beneath inputs too long": (
        files({"path": "/".join(["x" * 250] * 4) + "/" + "y" * 18, "id": "f"}),
        "files.0.path",
        "invalid_path",
        "longer",
    ),
    "file id at an inline path": (
        files({"path": "inputs/a", "content": ""}, {"path": "a", "id": "f"}),
        "files.1.path",
        "duplicate_path",
        "twice",
    ),
    "65 files": (files(*[{"path": f"f{i}", "content": ""} for i in range(65)]), "files", "too_many", "64"),
    "path up": (files({"path": "../x", "content": ""}), "files.0.path", "invalid_path", "'..'"),
    "path up inside": (files({"path": "a/../../x", "content": ""}), "files.0.path", "invalid_path", "'..'"),
    "path absolute": (files({"path": "/etc/x", "content": ""}), "files.0.path", "invalid_path", "relative"),
    "path empty": (files({"path": "", "content": ""}), "files.0.path", "invalid_path", "empty"),
    "path dot": (files({"path": "./a", "content": ""}), "files.0.path", "invalid_path", "'.'"),
    "path empty part": (files({"path": "a//b", "content": ""}), "files.0.path", "invalid_path", "empty part"),
    "path trailing slash": (files({"path": "a/", "content": ""}), "files.0.path", "invalid_path", "empty part"),
    "path NUL": (files({"path": "a\0b", "content": ""}), "files.0.path", "invalid_path", "NUL"),
    "path part of 256": (files({"path": "x" * 256, "content": ""}), "files.0.path", "invalid_path", "255"),
    "path part in bytes": (files({"path": "é" * 128, "content": ""}), "files.0.path", "invalid_path", "255"),
    "path of 1025": (
        files({"path": "/".join(["x" * 204] * 5) + "x", "content": ""}),
        "files.0.path",
        "invalid_path",
        "1024",
    ),
    "path inputs": (files({"path": "inputs", "content": ""}), "files.0.path", "invalid_path", "folder"),
    "path outputs": (files({"path": "outputs", "content": ""}), "files.0.path", "invalid_path", "folder"),
    "same path": (files(FILE, FILE), "files.1.path", "duplicate_path", "twice"),
    "file then folder": (
        files({"path": "a", "content": ""}, {"path": "a/b/c", "content": ""}),
        "files.1.path",
        "duplicate_path",
        "at once",
    ),
    "folder then file": (
        files({"path": "a/b/c", "content": ""}, {"path": "a/b", "content": ""}),
        "files.1.path",
        "duplicate_path",
        "at once",
    ),
    "encoding": (files(FILE | {"encoding": "latin1"}), "files.0.encoding", "invalid_value", "base64"),
    "base64 garbage": (
        files(FILE | {"encoding": "base64", "content": "!!!!"}),
        "files.0.content",
        "invalid_base64",
        "base64",
    ),
    "base64 length": (
        files(FILE | {"encoding": "base64", "content": "QQ="}),
        "files.0.content",
        "invalid_base64",
        "base64",
    ),
    "base64 newline": (
        files(FILE | {"encoding": "base64", "content": "QQ==\n"}),
        "files.0.content",
        "invalid_base64",
        "base64",
    ),
    "base64 two": (
        files(FILE | {"encoding": "base64", "content": "QQ==QQ=="}),
        "files.0.content",
        "invalid_base64",
        "base64",
    ),
    "base64 url": (
        files(FILE | {"encoding": "base64", "content": "_-8="}),
        "files.0.content",
        "invalid_base64",
        "base64",
    ),
    "base64 non-ASCII": (
        files(FILE | {"encoding": "base64", "content": "é"}),
        "files.0.content",
        "invalid_base64",
        "base64",
    ),
    "base64 only padding": (
        files(FILE | {"encoding": "base64", "content": "===="}),
        "files.0.content",
        "invalid_base64",
        "base64",
    ),
    "65 args": (program(args=["x"] * 65), "args", "too_many", "64"),
    "arg number": (program(args=["x", 1]), "args.1", "invalid_type", "string"),
    "args string": (program(args="x"), "args", "invalid_type", "list"),
    "arg too long": (program(args=["x", "é" * 2049]), "args.1", "too_long", "4096"),
    "arg NUL": (program(args=["\0"]), "args.0", "invalid_value", "NUL"),
    "65 env": (program(env={f"A{i}": "" for i in range(65)}), "env", "too_many", "64"),
    "env value number": (program(env={"A": 1}), "env.A", "invalid_type", "string"),
    "env list": (program(env=["A=b"]), "env", "invalid_type", "object"),
    "env name empty": (program(env={"": "x"}), "env", "invalid_value", "name"),
    "env name =": (program(env={"A=B": "x"}), "env", "invalid_value", "name"),
    "env name digit": (program(env={"1A": "x"}), "env", "invalid_value", "name"),
    "env name newline": (program(env={"A\n": "x"}), "env", "invalid_value", "name"),
    "env name non-ASCII": (program(env={"É": "x"}), "env", "invalid_value", "name"),
    "env value NUL": (program(env={"A": "\0"}), "env.A", "invalid_value", "NUL"),
    "env too long": (program(env={"AB": "x" * 4095}), "env.AB", "too_long", "4096"),
    "env name too long": (program(env={"A" * 4097: ""}), "env.?", "too_long", "4096"),
    "stdin number": (program(stdin=1), "stdin", "invalid_type", "string"),
    "stdin too long": (program(stdin="x" * (MAX_STDIN_BYTES + 1)), "stdin", "too_long", str(MAX_STDIN_BYTES)),
    "17 metadata": (program(metadata={str(i): "" for i in range(17)}), "metadata", "too_many", "16"),
    "metadata number": (program(metadata={"a": 1}), "metadata.a", "invalid_type", "string"),
    "metadata nested": (program(metadata={"a": {"b": "c"}}), "metadata.a", "invalid_type", "string"),
    "metadata too long": (program(metadata={"a": "x" * 512}), "metadata.a", "too_long", "512"),
    "stream in the background": (program(stream=True, background=True), "stream", "invalid_value", "background"),
    "stream string": (program(stream="false"), "stream", "invalid_type", "true or false"),
    "stream number": (program(stream=0), "stream", "invalid_type", "true or false"),
    "isolation": (program(isolation="none"), "isolation", "invalid_value", "'container'"),
    "isolation null byte": (program(isolation="default\0"), "isolation", "invalid_value", "'container'"),
    "limits list": (program(limits=[]), "limits", "invalid_type", "object"),
    "unknown limit": (program(limits={"disk_mb": 1}), "limits.disk_mb", "unknown_field", "unknown field"),
    "unknown limit null": (program(limits={"x\n": None}), "limits.?", "unknown_field", "unknown field"),
}


@pytest.mark.parametrize(("body", "param", "code", "piece"), BAD.values(), ids=BAD.keys())
def test_refused(body, param, code, piece):
    error = refused(body).error
    assert (error.param, error.code, error.type) == (param, code, "invalid_request_error")
    assert piece in error.message
    assert len(error.message) < 250
    assert error.message.isprintable()


@pytest.mark.parametrize("name", LIMIT_RULES)
def test_limits_at_and_beyond_their_bounds(name):
    rule = LIMIT_RULES[name]
    cast = int if rule.integer else float
    for value in (cast(rule.minimum), cast(rule.ceiling)):
        assert parse_run(program(limits={name: value})).limits == {name: value}
    above = refused(program(limits={name: cast(rule.ceiling) + 1})).error
    assert (above.param, above.code) == (f"limits.{name}", "limit_exceeds_maximum")
    assert f"{cast(rule.ceiling):g}" in above.message.replace(str(cast(rule.ceiling)), f"{rule.ceiling:g}")
    below = refused(program(limits={name: cast(rule.minimum) - 1})).error
    assert (below.param, below.code) == (f"limits.{name}", "limit_below_minimum")


@pytest.mark.parametrize("name", LIMIT_RULES)
@pytest.mark.parametrize("value", ["1000", True, False, [], {}, [1], {"x": 1}, ""])
def test_limits_of_a_wrong_type(name, value):
    error = refused(program(limits={name: value})).error
    assert (error.param, error.code) == (f"limits.{name}", "invalid_type")


@pytest.mark.parametrize("name", [name for name, rule in LIMIT_RULES.items() if rule.integer])
@pytest.mark.parametrize("value", [100.0, 64.5])
def test_whole_limits_are_not_floats(name, value):
    assert refused(program(limits={name: value})).error.code == "invalid_type"


@pytest.mark.parametrize("name", LIMIT_RULES)
def test_an_integer_that_json_can_only_give_as_a_float_is_too_large(name):
    error = refused(program(limits={name: 1e20})).error
    assert (error.param, error.code) == (f"limits.{name}", "limit_exceeds_maximum")


@pytest.mark.parametrize("value", [2**63, -(2**63), 2**64 - 1, 10**400, -(10**400)])
@pytest.mark.parametrize("name", LIMIT_RULES)
def test_huge_limits_are_answered_shortly(name, value):
    assert len(refused(program(limits={name: value})).error.message) < 200


def test_null_and_absent_mean_the_default():
    nothing = dict.fromkeys(
        ["files", "args", "stdin", "env", "limits", "stream", "background", "isolation", "metadata", "entrypoint"]
    )
    assert parse_run(program(**nothing)) == parse_run(BASE)
    assert parse_run(program(limits={"timeout_ms": None, "cpus": 1})).limits == {"cpus": 1}
    assert parse_run(program(stream=False, background=False)) == parse_run(BASE)


def test_a_full_request():
    request = parse_run(
        {
            "language": "py",
            "entrypoint": "pkg/main.py",
            "files": [
                {"path": "pkg/main.py", "content": "é"},
                {"path": "pkg/logo", "content": base64.b64encode(b"\0\xff").decode(), "encoding": "base64"},
                {"path": "inputs/x", "content": "", "encoding": "utf-8"},
                {"path": "outputs/y", "content": ""},
            ],
            "args": ["--fast", ""],
            "stdin": "a\0b",
            "env": {"_A1": "x=y"},
            "limits": {"cpus": 0.5, "timeout_ms": 1},
            "isolation": "container",
            "metadata": {"": "x", "user": "42"},
        }
    )
    assert request.files[:2] == (JobFile("pkg/main.py", "é".encode()), JobFile("pkg/logo", b"\0\xff"))
    assert (request.args, request.stdin, request.env) == (("--fast", ""), "a\0b", {"_A1": "x=y"})
    assert (request.limits, request.isolation) == ({"cpus": 0.5, "timeout_ms": 1}, "container")
    assert request.metadata == {"": "x", "user": "42"}


def test_bounds_are_inclusive():
    parse_run(program(code="x" * MAX_CODE_BYTES))
    parse_run(program(args=["x" * 4096] * 64))
    parse_run(program(env={f"A{i:02}": "x" * 4093 for i in range(64)}))
    parse_run(program(metadata={f"{i:02}": "x" * 510 for i in range(16)}))
    parse_run(program(stdin="x" * MAX_STDIN_BYTES))
    parse_run(files(*[{"path": f"f{i}", "content": ""} for i in range(64)]))
    parse_run(files({"path": "x" * 255, "content": ""}, {"path": "/".join(["x" * 204] * 5), "content": ""}))


def test_an_inline_file_where_code_goes():
    for path in ("main.py", "main.py/x"):
        request = parse_run(files({"path": path, "content": ""}))
        with pytest.raises(ApiError) as caught:
            check_entry_file(request, "main.py")
        assert caught.value.error.param == "files.0.path"
    check_entry_file(parse_run(files({"path": "sub/main.py", "content": ""})), "main.py")
    check_entry_file(parse_run(entry("main.py", {"path": "main.py", "content": ""})), "main.py")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
FIELDS = [
    "language",
    "code",
    "entrypoint",
    "files",
    "args",
    "stdin",
    "env",
    "limits",
    "stream",
    "background",
    "isolation",
    "metadata",
]


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=10), anything, max_size=8))
def test_whatever_comes_the_answer_is_a_request_or_a_400(body):
    try:
        outcome: object = parse_run(body)
    except ApiError as e:
        outcome = None
        status, message = e.status, e.error.message
    if outcome is None:
        assert status == 400
        assert message.isprintable()
        assert len(message) < 300


@given(st.dictionaries(st.sampled_from([*LIMIT_RULES, "x"]), anything, max_size=4))
def test_whatever_the_limits_are(limits):
    try:
        outcome: object = parse_run(program(limits=limits))
    except ApiError as e:
        outcome = e.status
    assert outcome == 400 or all(value is not None for value in outcome.limits.values())
