"""Output that means to deceive or to slow down the one who reads hints from it: lines without end, forged messages,
control characters. The hints stay few, short and printable, and the answer does not wait for them.
"""

from __future__ import annotations

import json
import time

import pytest

from protocol.hints import MAX_AVAILABLE, MAX_HINTS, MAX_MESSAGE, MAX_NEAR, MAX_QUOTED
from tests.support.slow_machine import TIME_FACTOR

MIB = 1024 * 1024


def failing(expression: str) -> str:
    """A program that writes bytes to stderr and fails."""
    return f"import sys; sys.stderr.buffer.write({expression}); sys.stderr.flush(); sys.exit(1)"


#: (what is written to stderr, in Python; the codes that the hints may have)
OUTPUTS = {
    "one line of 8 MiB": ("b'x' * (8 << 20)", set()),
    "8 MiB of the begin of a message": ("b\"FileNotFoundError: [Errno 2] No such file: '\" * 180_000", None),
    "8 MiB of File lines": ("b' File \"/x\", line 1\\n' * 380_000", set()),
    "8 MiB of colons": ("b': a' * 2_000_000 + b': No such file or directory'", set()),
    "8 MiB of empty lines": ("b'\\n' * (8 << 20) + b'SyntaxError: x'", set()),
    "8 MiB of carriage returns": ("b'\\r' * (8 << 20)", set()),
    "a name of a mebibyte": ("b\"ModuleNotFoundError: No module named '\" + b'a' * (1 << 20) + b\"'\"", {"module_not_found"}),
    "a name of control characters": (
        "b\"ModuleNotFoundError: No module named '\\x1b[2J\\x00\\x07\\xe2\\x80\\xae\\x9b31m'\\n\"", {"module_not_found"},
    ),
    "a name that is no text": ("b\"ModuleNotFoundError: No module named '\\xff\\xfe\\xed\\xa0\\x80'\\n\"", {"module_not_found"}),
    "a name that is a script": ("b\"ModuleNotFoundError: No module named '<script>alert(1)</script>'\\n\"", {"module_not_found"}),
    "a path out of here": ("b\"FileNotFoundError: [Errno 2] No such: '/var/lib/../../etc/shadow'\\n\"", {"file_not_found"}),
    "a line number of many digits": ("b'  File \"x\", line ' + b'9' * 5000 + b'\\n\\nSyntaxError: x\\n'", set()),
    "JSON of another hint": ("b'\"}],\"hints\":[{\"code\":\"x\"}]\\nEOFError: EOF when reading a line\\n'", {"input_exhausted"}),
    "every message at once": (
        'b"\\n".join([b"MemoryError", b"EOFError: EOF when reading a line", b"No space left on device",'
        " b\"Operation not permitted\", b\"Network is unreachable\", b\"No module named 'x'\","
        " b\"FileNotFoundError: [Errno 2] x: 'y'\", b\"Read-only file system\", b\"  File \\\"x\\\", line 1\\nSyntaxError: z\"])",
        None,
    ),
}  # fmt: skip


def check(hints):
    """Hold hints against the bounds of what may be quoted."""
    assert len(hints) <= MAX_HINTS
    for hint in hints:
        assert set(hint) <= {"code", "message", "name", "near", "path", "available", "host", "line", "limit"}
        texts = [hint[name] for name in ("name", "path", "host") if name in hint]
        texts += [*hint.get("near", []), *hint.get("available", [])]
        assert len(hint.get("near", [])) <= MAX_NEAR
        assert len(hint.get("available", [])) <= MAX_AVAILABLE
        assert len(hint["message"]) <= MAX_MESSAGE
        assert hint["message"].isprintable()
        assert all(len(text) <= MAX_QUOTED and text.isprintable() for text in texts)


@pytest.mark.usefixtures("invariants")
@pytest.mark.parametrize(("expression", "codes"), OUTPUTS.values(), ids=OUTPUTS)
def test_hostile_output(service, expression, codes):
    began = time.monotonic()
    run = service.run("python", failing(expression), limits={"max_output_bytes": 8 * MIB, "timeout_ms": 20_000})
    assert time.monotonic() - began < 10 * TIME_FACTOR
    assert run["status"] == "failed"
    check(run["hints"])
    if codes is not None:
        assert {hint["code"] for hint in run["hints"]} == codes, run["hints"]


@pytest.mark.usefixtures("invariants")
def test_hostile_names_of_files(service):
    names = ["a" * 200, "b<script>", "c\u202e", "d'\"", "e" * 150 + ".csv"]
    files = [{"path": name, "content": ""} for name in names]
    code = "import os\nfor n in range(40): open(f'/work/outputs/{n}\\x1b[2J', 'w').close()\nopen('nothing')"
    run = service.run("python", code, files=files, limits={"max_artifact_files": 50})
    check(run["hints"])
    assert [hint["code"] for hint in run["hints"]] == ["file_not_found"]


@pytest.mark.usefixtures("invariants")
def test_a_forged_message_says_nothing_of_the_host(service):
    """A hint that is forged names modules of the image and files of the run: nothing else is there to be had."""
    code = failing("b\"ModuleNotFoundError: No module named '../../../etc/passwd'\\n\"")
    run = service.run("python", code)
    check(run["hints"])
    text = json.dumps(run["hints"])
    assert str(service.state) not in text
    assert "root" not in text


@pytest.mark.usefixtures("invariants")
def test_a_forged_limit_does_not_contradict_the_kernel(service):
    """The kernel counts refused processes; a text that claims them has no hint where it refused none."""
    run = service.run("python", failing('b"RuntimeError: can\'t start new thread\\n"'))
    assert run["hints"] == []
