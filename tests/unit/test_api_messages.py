"""Messages for wrong fields and bodies: they name what was probably meant, and nothing that was sent."""

from __future__ import annotations

import pytest

from api.errors import ApiError
from api.files.uploads import _unknown
from api.http.body import parse_object
from api.http.validation import MAX_QUOTED, quoted_name
from api.keys.schemas import AdminKeyIn, AdminNewKeyIn, parsed
from api.runs.field_names import SYNONYMS
from api.runs.requests import FIELD_NAMES, FileIn, RunIn, parse_run
from api.system.languages import nearest_language
from config.nearest import plain
from protocol.limits import LIMIT_RULES

BASE = {"language": "python", "code": "x"}
LANGUAGES = (
    "bash", "sh", "shell", "bun", "deno", "go", "golang", "node", "js", "javascript", "nodejs", "php", "python", "py",
    "python3", "ruby", "rb", "rust", "rs", "typescript", "ts",
)  # fmt: skip


def message(call, *arguments):
    with pytest.raises(ApiError) as caught:
        call(*arguments)
    assert caught.value.status == 400
    return caught.value.error


# -- unknown fields --------------------------------------------------------------------------------

MEANT = {
    # spelled alike, or in another case
    "languge": "language", "Code": "code", "std_in": "stdin", "entryPoint": "entrypoint", "meta_data": "metadata",
    "backgroud": "background", "Limits": "limits",
    # of another level
    "timeout_ms": "limits.timeout_ms", "memoryMb": "limits.memory_mb", "cpus": "limits.cpus", "pids": "limits.pids",
    "content": "files.0.content", "encoding": "files.0.encoding",
    # of other services
    "timeout": "limits.timeout_ms", "run_timeout": "limits.timeout_ms", "timeLimit": "limits.timeout_ms",
    "wall_time_limit": "limits.timeout_ms", "cpu_time_limit": "limits.cpu_ms", "memory": "limits.memory_mb",
    "memory_limit": "limits.memory_mb", "run_memory_limit": "limits.memory_mb", "cpu": "limits.cpus",
    "max_processes_and_or_threads": "limits.pids", "max_file_size": "limits.max_artifact_bytes",
    "source_code": "code", "script": "code", "language_id": "language", "lang": "language", "runtime": "language",
    "input": "stdin", "std_input": "stdin", "stdin_data": "stdin", "command_line_arguments": "args", "argv": "args",
    "envs": "env", "environment": "env", "async": "background", "tags": "metadata", "filename": "entrypoint",
}  # fmt: skip


@pytest.mark.parametrize(("name", "field"), MEANT.items())
def test_an_unknown_field_gets_the_one_that_was_meant(name, field):
    error = message(parse_run, {**BASE, name: 1})
    assert error.code == "unknown_field"
    assert error.param == name
    assert error.message.startswith(f"{name}: unknown field; did you mean {field}? supported: language, code,")
    for known in RunIn.model_fields:
        assert known in error.message.partition("supported: ")[2].split(", ")


def test_a_field_that_resembles_none_gets_the_list():
    error = message(parse_run, {**BASE, "colour": 1})
    assert error.message == f"colour: unknown field; supported: {', '.join(RunIn.model_fields)}"


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("timeout", "limits.timeout_ms"), ("timeoutMs", "limits.timeout_ms"), ("memory", "limits.memory_mb"),
        ("cpu_time", "limits.cpu_ms"), ("nproc", "limits.pids"), ("stdin", "stdin"), ("disk", None),
    ],
)  # fmt: skip
def test_an_unknown_limit_gets_the_one_that_was_meant_and_the_list_of_limits(name, field):
    error = message(parse_run, {**BASE, "limits": {name: 1}})
    assert error.param == f"limits.{name}"
    mean = "" if field is None else f" did you mean {field}?"
    assert error.message == f"limits.{name}: unknown field;{mean} supported: {', '.join(LIMIT_RULES)}"


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("name", "files.1.path"),
        ("data", "files.1.content"),
        ("Path", "files.1.path"),
        ("timeout", "limits.timeout_ms"),
    ],
)
def test_an_unknown_field_of_a_file_gets_that_of_the_same_file(name, field):
    files = [{"path": "a", "content": ""}, {"path": "b", "content": "", name: "x"}]
    error = message(parse_run, {**BASE, "files": files})
    assert error.param == f"files.1.{name}"
    supported = ", ".join(FileIn.model_fields)
    assert error.message == f"files.1.{name}: unknown field; did you mean {field}? supported: {supported}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            {"lang": "python", "code": "x"},
            "language: is required; lang is an unknown field: did you mean language?",
        ),
        (
            {"colour": 1, "Language": "x"},
            "language: is required; Language is an unknown field: did you mean language?",
        ),
        ({"timeout": 1, "code": "x"}, "language: is required"),
        ({f"x{n}": 1 for n in range(50_000)} | {"lang": "x"}, "language: is required"),
    ],
    ids=["another service", "another case", "another field", "too many fields"],
)
def test_a_missing_field_gets_the_unknown_one_that_was_given_instead(body, expected):
    error = message(parse_run, body)
    assert (error.message, error.param, error.code) == (expected, "language", "missing_field")


def test_a_missing_field_of_a_file_gets_that_of_the_same_file():
    files = [{"path": "a", "content": ""}, {"filename": "b", "content": ""}]
    error = message(parse_run, {**BASE, "files": files})
    said = "files.1.path: is required; filename is an unknown field: did you mean files.1.path?"
    assert (error.message, error.param, error.code) == (said, "files.1.path", "missing_field")


def test_every_name_of_another_service_leads_to_a_field_and_hides_none():
    paths = set(RunIn.model_fields) | {f"limits.{name}" for name in LIMIT_RULES}
    of_level = {"": paths, "files": set(FileIn.model_fields)}
    for level, synonyms in SYNONYMS.items():
        assert set(synonyms.values()) <= of_level[level]
        assert not set(synonyms) & {plain(name) for name in FIELD_NAMES.levels[level]}
        assert all(plain(word) == word for word in synonyms)


def test_the_bodies_of_keys_name_their_fields():
    assert message(parsed, AdminNewKeyIn, {"plan": "free", "lable": "x"}).message == (
        "lable: unknown field; did you mean label? supported: plan, label"
    )
    error = message(parsed, AdminKeyIn, {"Disabled": True})
    assert "did you mean disabled? supported: plan, disabled" in error.message


def test_the_form_of_an_upload_names_its_fields():
    error = _unknown("upload").error
    assert (error.message, error.param) == (
        "upload: unknown field; did you mean file? supported: file, purpose",
        None,
    )
    assert _unknown(None).error.message == '"": unknown field; supported: file, purpose'


HOSTILE = {
    "a line": "a\r\nX-Evil: 1",
    "a terminal's escape": "\x1b[2J",
    "HTML": "<script>alert(1)</script>",
    "a quotation mark": 'a"b',
    "right to left": "\u202egnp.exe",
    "an emoji": "\U0001f600",
    "empty": "",
    "a megabyte": "x" * (1 << 20),
    "a megabyte of emojis": "\U0001f600" * (1 << 18),
    "a prototype": "__proto__",
    "a token": "Bearer ry_" + "a" * 38,
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("place", ["top", "limits", "files"])
def test_a_hostile_name_is_quoted_escaped_and_cut(name, place):
    body = {
        "top": {**BASE, name: 1},
        "limits": {**BASE, "limits": {name: 1}},
        "files": {**BASE, "files": [{"path": "a", "content": "", name: 1}]},
    }[place]
    error = message(parse_run, body)
    assert error.code == "unknown_field"
    assert error.message.isprintable()
    assert len(error.message) < 700
    assert len(error.param) < 100
    assert not set(error.message) & set("<>\\\u202e\U0001f600") - {"\\"}
    assert error.param.rpartition(".")[2] in ("?", name)
    assert "a" * 38 not in error.message


def test_a_quoted_name_shows_its_beginning():
    assert quoted_name("max time") == '"max time"'
    assert quoted_name('a"\n') == r'"a\u{22}\u{a}"'
    assert quoted_name("é" * 100) == '"' + r"\u{e9}" * MAX_QUOTED + '…"'


# -- languages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Python", "python"), ("PYTHON", "python"), ("python2", "python"), ("python2.7", "python"), ("pyhton", "python"),
        ("python ", "python"), ("Python-3", "python"), ("JS", "js"), ("Node.JS", "nodejs"), ("node20", "node"),
        ("javascipt", "javascript"), ("TypeScript", "typescript"), ("tsx", "typescript"), ("Golang", "golang"),
        ("go1.22", "go"), ("rustc", "rust"), ("zsh", "bash"), ("Bash", "bash"), ("php8.3", "php"), ("ruby3", "ruby"),
        ("java", None), ("Java", None), ("c++", None), ("c", None), ("c#", None), ("cpp", None), ("perl", None),
        ("lua", None), ("r", None), ("kotlin", None), ("swift", None), ("", None), ("3", None), ("\x00", None),
        ("x" * 100_000, None), ("python" * 20_000, None), ("\u202epython", "python"),
    ],
)  # fmt: skip
def test_a_language_gets_the_one_that_was_meant(name, found):
    assert nearest_language(name, LANGUAGES) == found


def test_a_synonym_of_a_language_that_is_not_offered_leads_nowhere():
    assert nearest_language("zsh", ["python", "py"]) is None
    assert nearest_language("Python", []) is None


# -- JSON ------------------------------------------------------------------------------------------

NOT_JSON = {
    "trailing comma": (b'{"a":1,\n}', "trailing comma", (1, 7, 6)),
    "single quotes": (b"{'a':1}", "double quotes", (1, 2, 1)),
    "NaN": (b'{"a":\n  NaN}', "NaN is not JSON", (2, 3, 8)),
    "infinity": (b'{"a":Infinity}', "Infinity is not JSON", (1, 6, 5)),
    "cut": (b'{"a":1', "unexpected end of data", (1, 7, 6)),
    "a comment": (b"// hi\n{}", "no comments", (1, 1, 0)),
    "Python's None": (b'{"a": None}', "null instead of None", (1, 7, 6)),
    "text behind it": (b"{}\n\nx", "unexpected content", (3, 1, 4)),
    "after letters of two bytes": ('{"é":\n "é" x}'.encode(), "expected ',' or '}'", (2, 6, 13)),
    "after an emoji": ('{"\U0001f600":x}'.encode(), "expected a JSON value", (1, 6, 8)),
    "not UTF-8": (b'{"\xc3\xa9":\n"\xff"}', "not UTF-8", (2, 2, 8)),
    "a mark": (b"\xef\xbb\xbf{}", "byte order mark", (1, 1, 0)),
    "UTF-16": ('{"a":1}'.encode("utf-16"), "byte order mark", (1, 1, 0)),
    "compressed": (b"\x1f\x8b\x08\x00abc", "not UTF-8", (1, 2, 1)),
    "a lone surrogate": (rb'{"a":"\ud800"}', "surrogate", (1, 7, 6)),
    "a control character": (b'{"a":"\x01"}', "control character", (1, 7, 6)),
    "an infinite number": (b'{"a":1e999}', "infinity", (1, 6, 5)),
    "too deep": (b'{"a":' + b"[" * 2000, "nested too deep", (1, 1030, 1029)),
    "spaces": (b" \n ", "empty", None),
}


@pytest.mark.parametrize(("data", "reason", "position"), NOT_JSON.values(), ids=NOT_JSON.keys())
def test_a_body_that_is_not_json_gets_the_reason_and_the_position(data, reason, position):
    error = message(parse_object, data)
    assert error.code == "invalid_json"
    assert reason in error.message
    if position is not None:
        assert error.message.endswith("(line {}, column {}, byte {}).".format(*position))


@pytest.mark.parametrize("prefix", [b"", b'{"a":', b"[", b'{"', b"{} ", b'{"a":"\\'])
def test_nothing_of_a_body_that_is_not_json_is_repeated(prefix):
    for secret in (b"hunter2" * 1000, b"<hunter2>", b"'hunter2'", b"\xff" + b"hunter2", b"\x00hunter2"):
        error = message(parse_object, prefix + secret)
        assert "hunter2" not in error.message
        assert error.message.isprintable()
        assert len(error.message) < 250


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"[]", "an array"),
        (b'"{}"', "a string"),
        (b"1", "a number"),
        (b"1.5", "a number"),
        (b"true", "a boolean"),
        (b"null", "null"),
    ],
)
def test_a_body_of_another_kind_is_named(data, kind):
    assert message(parse_object, data).message == f"The body must be a JSON object, and is {kind}."
