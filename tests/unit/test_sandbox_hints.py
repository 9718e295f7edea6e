"""Hints of a run: each row is something that a language prints, and the hint that comes of it."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.hints import MAX_AVAILABLE, MAX_HINTS, MAX_MESSAGE, MAX_NEAR, MAX_QUOTED
from protocol.limits import Limits
from sandbox.hints.derive import hints_of
from sandbox.hints.facts import HintFacts
from sandbox.hints.language_rules import LANGUAGE_RULES
from sandbox.hints.rules import COMMON_RULES
from sandbox.hints.text import HEAD_CHARS, LINE_CHARS, TAIL_CHARS, excerpt, quoted
from sandbox.languages import Catalogue

LIMITS = Limits.resolve({})
FACTS = HintFacts("python", "failed", LIMITS)


def hints(language="python", stderr="", **fields):
    return hints_of(replace(FACTS, language=language, stderr=stderr, **fields))


def only(found):
    assert len(found) == 1, found
    return {name: value for name, value in found[0].items() if name != "message"}


PYTHON_FILE = """Traceback (most recent call last):
  File "/work/main.py", line 1, in <module>
    open('data.csv')
    ~~~~^^^^^^^^^^^^
FileNotFoundError: [Errno 2] No such file or directory: 'data.csv'
"""
PYTHON_SYNTAX = """  File "/work/main.py", line 3
    if x
        ^
SyntaxError: expected ':'
"""
PYTHON_EVAL = """Traceback (most recent call last):
  File "/work/main.py", line 1, in <module>
    eval("1 +")
    ~~~~^^^^^^^
  File "<string>", line 7
    1 +
      ^
SyntaxError: invalid syntax
"""
NODE_MODULE = """node:internal/modules/cjs/loader:1215
  throw err;
  ^

Error: Cannot find module 'lodash'
Require stack:
- /work/main.js
    at Module._resolveFilename (node:internal/modules/cjs/loader:1212:15) {
  code: 'MODULE_NOT_FOUND',
  requireStack: [ '/work/main.js' ]
}

Node.js v24.1.0
"""
NODE_SYNTAX = """/work/main.js:2
const x = ;
          ^

SyntaxError: Unexpected token ';'
    at wrapSafe (node:internal/modules/cjs/loader:1464:18)
"""
NODE_SYNTAX_MODULE = """file:///work/main.js:12
export const x = ;
                 ^

SyntaxError: Unexpected token ';'
    at compileSourceTextModule (node:internal/modules/esm/utils:344:16)
"""
NODE_JSON = """undefined:1
{bad
 ^

SyntaxError: Expected property name or '}' in JSON at position 1
    at JSON.parse (<anonymous>)
"""
RUST_SYNTAX = """error: expected expression, found `;`
 --> main.rs:2:13
  |
2 |     let x = ;
  |             ^ expected expression
"""
RUST_MODULE = """error[E0432]: unresolved import `rand`
 --> main.rs:1:5
"""

#: (language, stderr, the hint without its message)
ROWS = {
    "python: a module": (
        "python", "ModuleNotFoundError: No module named 'requestz'\n",
        {"code": "module_not_found", "name": "requestz", "near": []},
    ),
    "python: -m": ("python", "/usr/bin/python3: No module named x.y\n", {"code": "module_not_found", "name": "x.y", "near": []}),
    "python: a file": ("python", PYTHON_FILE, {"code": "file_not_found", "path": "data.csv", "available": []}),
    "python: a file with a quotation mark": (
        "python", "FileNotFoundError: [Errno 2] No such file or directory: \"it's\"\n",
        {"code": "file_not_found", "path": "it's", "available": []},
    ),
    "python: a file to be renamed": (
        "python", "FileNotFoundError: [Errno 2] No such file or directory: 'a' -> 'b'\n",
        {"code": "file_not_found", "path": "a", "available": []},
    ),
    "python: a command": (
        "python", "FileNotFoundError: [Errno 2] No such file or directory: 'ffmpeg'",
        {"code": "file_not_found", "path": "ffmpeg", "available": []},
    ),
    "python: a read-only file": (
        "python", "OSError: [Errno 30] Read-only file system: '/etc/x'\n", {"code": "read_only", "path": "/etc/x"},
    ),
    "python: syntax": ("python", PYTHON_SYNTAX, {"code": "syntax_error", "path": "main.py", "line": 3}),
    "python: syntax of a text": ("python", PYTHON_EVAL, {"code": "syntax_error", "path": "<string>", "line": 7}),
    "python: indentation": (
        "python", '  File "/work/main.py", line 2\n    x\nIndentationError: unexpected indent\n',
        {"code": "syntax_error", "path": "main.py", "line": 2},
    ),
    "python: no memory": ("python", "MemoryError\n", {"code": "out_of_memory", "limit": "memory_mb"}),
    "python: no memory for numpy": (
        "python", "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 80. GiB\n",
        {"code": "out_of_memory", "limit": "memory_mb"},
    ),
    "python: no thread": ("python", "RuntimeError: can't start new thread\n", {"code": "pids_exhausted", "limit": "pids"}),
    "python: no name": (
        "python", "socket.gaierror: [Errno -3] Temporary failure in name resolution\n", {"code": "network_disabled"},
    ),
    "python: no host": (
        "python", "urllib3.exceptions.NameResolutionError: x: Failed to resolve 'api.example' ([Errno -3] Temporary failure in name resolution)\n",
        {"code": "network_disabled", "host": "api.example"},
    ),
    "python: requests through the proxy": (
        "python", "requests.exceptions.ProxyError: HTTPSConnectionPool(host='a.example', port=443): (Caused by ProxyError('Unable to connect to proxy', OSError('Tunnel connection failed: 403 Forbidden')))\n",
        {"code": "network_disabled", "host": "a.example"},
    ),
    "python: urllib through the proxy": (
        "python", "OSError: Tunnel connection failed: 403 Forbidden\n", {"code": "network_disabled"},
    ),
    "the proxy's own words": (
        "bash", "runyard: the connection to a.example:80 is refused (denied): no pattern allows it\n",
        {"code": "network_disabled", "host": "a.example"},
    ),
    "python: no route": ("python", "OSError: [Errno 101] Network is unreachable\n", {"code": "network_disabled"}),
    "python: no input": ("python", "EOFError: EOF when reading a line\n", {"code": "input_exhausted"}),
    "python: refused": ("python", "PermissionError: [Errno 1] Operation not permitted\n", {"code": "syscall_refused"}),
    "python: not there": ("python", "OSError: [Errno 38] Function not implemented\n", {"code": "syscall_refused"}),
    "python: full": ("python", "OSError: [Errno 28] No space left on device\n", {"code": "disk_full", "limit": "memory_mb"}),
    "node: a module": ("node", NODE_MODULE, {"code": "module_not_found", "name": "lodash", "near": []}),
    "node: a package": (
        "node", "Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'lodash' imported from /work/main.js\n",
        {"code": "module_not_found", "name": "lodash", "near": []},
    ),
    "node: a file": (
        "node", "Error: ENOENT: no such file or directory, open 'data.csv'\n",
        {"code": "file_not_found", "path": "data.csv", "available": []},
    ),
    "node: a command": (
        "node", "Error: spawn ffmpeg ENOENT\n", {"code": "file_not_found", "path": "ffmpeg", "available": []},
    ),
    "node: a read-only file": (
        "node", "Error: EROFS: read-only file system, open '/etc/x'\n", {"code": "read_only", "path": "/etc/x"},
    ),
    "node: syntax": ("node", NODE_SYNTAX, {"code": "syntax_error", "path": "main.js", "line": 2}),
    "node: syntax of a module": ("node", NODE_SYNTAX_MODULE, {"code": "syntax_error", "path": "main.js", "line": 12}),
    "node: memory": (
        "node", "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n",
        {"code": "out_of_memory", "limit": "memory_mb"},
    ),
    "node: no process": ("node", "Error: spawn /bin/sh EAGAIN\n", {"code": "pids_exhausted", "limit": "pids"}),
    "node: no name": (
        "node", "Error: getaddrinfo EAI_AGAIN api.example\n", {"code": "network_disabled", "host": "api.example"},
    ),
    "node: no route": (
        "node", "Error: connect ENETUNREACH 192.0.2.1:80 - Local (0.0.0.0:0)\n",
        {"code": "network_disabled", "host": "192.0.2.1:80"},
    ),
    "node: no input": ("node", "Error: EOF: end of file, read\n", {"code": "input_exhausted"}),
    "node: refused": ("node", "Error: EPERM: operation not permitted, chown 'x'\n", {"code": "syscall_refused"}),
    "node: full": ("node", "Error: ENOSPC: no space left on device, write\n", {"code": "disk_full", "limit": "memory_mb"}),
    "deno: a module": (
        "deno", 'error: Relative import path "lodash" not prefixed with / or ./ or ../\n',
        {"code": "module_not_found", "name": "lodash", "near": []},
    ),
    "deno: syntax": (
        "deno", "error: The module's source code could not be parsed: Expression expected at file:///work/main.ts:1:11\n",
        {"code": "syntax_error", "path": "main.ts", "line": 1},
    ),
    "deno: syntax with its lines": (
        "deno", "error: SyntaxError: Expression expected\n  |\n2 | const x = ;\n  |           ~\n    at file:///work/main.ts:2:11\n",
        {"code": "syntax_error", "path": "main.ts", "line": 2},
    ),
    "deno: a file": (
        "deno", "error: Uncaught (in promise) NotFound: No such file or directory (os error 2): readfile 'data.csv'\n",
        {"code": "file_not_found", "path": "data.csv", "available": []},
    ),
    "bun: a module": (
        "bun", 'error: Cannot find module "lodash" from "/work/main.ts"\n',
        {"code": "module_not_found", "name": "lodash", "near": []},
    ),
    "bun: syntax": (
        "bun", "1 | const x = ;\n              ^\nerror: Unexpected ;\n    at /work/main.ts:1:11\n",
        {"code": "syntax_error", "path": "main.ts", "line": 1},
    ),
    "ruby: a library": (
        "ruby", "<internal:/usr/lib/ruby/3.3.0/rubygems/core_ext/kernel_require.rb>:136:in `require': cannot load such file -- nokogiri (LoadError)\n",
        {"code": "module_not_found", "name": "nokogiri", "near": []},
    ),
    "ruby: a file": (
        "ruby", "main.rb:1:in `initialize': No such file or directory @ rb_sysopen - data.csv (Errno::ENOENT)\n",
        {"code": "file_not_found", "path": "data.csv", "available": []},
    ),
    "ruby: a read-only file": (
        "ruby", "main.rb:1:in `initialize': Read-only file system @ rb_sysopen - /etc/x (Errno::EROFS)\n",
        {"code": "read_only", "path": "/etc/x"},
    ),
    "ruby: syntax": (
        "ruby", "main.rb:2: syntax error, unexpected end-of-input\n", {"code": "syntax_error", "path": "main.rb", "line": 2},
    ),
    "ruby: syntax behind an interpreter": (
        "ruby", "ruby: main.rb:4: syntax errors found (SyntaxError)\n", {"code": "syntax_error", "path": "main.rb", "line": 4},
    ),
    "ruby: no input": (
        "ruby", "main.rb:1:in `readline': end of file reached (EOFError)\n", {"code": "input_exhausted"},
    ),
    "ruby: no thread": (
        "ruby", "main.rb:1:in `new': can't create Thread: Resource temporarily unavailable (ThreadError)\n",
        {"code": "pids_exhausted", "limit": "pids"},
    ),
    "ruby: no memory": (
        "ruby", "main.rb:1: failed to allocate memory (NoMemoryError)\n", {"code": "out_of_memory", "limit": "memory_mb"},
    ),
    "php: a file": (
        "php", "Warning: fopen(data.csv): Failed to open stream: No such file or directory in /work/main.php on line 2\n",
        {"code": "file_not_found", "path": "data.csv", "available": []},
    ),
    "php: syntax": (
        "php", 'PHP Parse error:  syntax error, unexpected token ";" in /work/main.php on line 3\n',
        {"code": "syntax_error", "path": "main.php", "line": 3},
    ),
    "php: no name": (
        "php", "file_get_contents(): php_network_getaddresses: getaddrinfo for api.example failed: Temporary failure in name resolution\n",
        {"code": "network_disabled", "host": "api.example"},
    ),
    "php: no memory": (
        "php", "PHP Fatal error:  Allowed memory size of 1 bytes exhausted (tried to allocate 2 bytes)\n",
        {"code": "out_of_memory", "limit": "memory_mb"},
    ),
    "go: a file": (
        "go", "panic: open data.csv: no such file or directory\n\ngoroutine 1 [running]:\nmain.main()\n",
        {"code": "file_not_found", "path": "data.csv", "available": []},
    ),
    "go: no name": (
        "go", 'Get "http://api.example": dial tcp: lookup api.example on [::1]:53: connection refused\n',
        {"code": "network_disabled", "host": "api.example"},
    ),
    "go: no input": ("go", "2026/11/29 01:02:03 unexpected EOF\n", {"code": "input_exhausted"}),
    "go: no thread": (
        "go", "runtime: failed to create new OS thread (have 5 already; errno=11)\n", {"code": "pids_exhausted", "limit": "pids"},
    ),
    "rust: a file": (
        "rust", 'called `Result::unwrap()` on an `Err` value: Os { code: 2, kind: NotFound, message: "No such file or directory" }\n',
        {"code": "file_not_found", "available": []},
    ),
    "rust: no memory": (
        "rust", "memory allocation of 99999999 bytes failed\n", {"code": "out_of_memory", "limit": "memory_mb"},
    ),
    "bash: a command": (
        "bash", "main.sh: line 1: ffmpeg: command not found\n", {"code": "module_not_found", "name": "ffmpeg", "near": []},
    ),
    "bash: a file": (
        "bash", "cat: data.csv: No such file or directory\n", {"code": "file_not_found", "path": "data.csv", "available": []},
    ),
    "bash: a file of ls": (
        "bash", "ls: cannot access 'a b': No such file or directory\n", {"code": "file_not_found", "path": "a b", "available": []},
    ),
    "bash: a redirection": (
        "bash", "main.sh: line 1: data.csv: No such file or directory\n",
        {"code": "file_not_found", "path": "data.csv", "available": []},
    ),
    "bash: a read-only file": (
        "bash", "main.sh: line 1: /etc/x: Read-only file system\n", {"code": "read_only", "path": "/etc/x"},
    ),
    "bash: a command for a read-only file": (
        "bash", "touch: cannot touch '/etc/x': Read-only file system\n", {"code": "read_only", "path": "/etc/x"},
    ),
    "bash: syntax": (
        "bash", "main.sh: line 2: syntax error near unexpected token `done'\n", {"code": "syntax_error", "path": "main.sh", "line": 2},
    ),
    "bash: syntax at the end": (
        "bash", "main.sh: line 3: unexpected EOF while looking for matching `\"'\n",
        {"code": "syntax_error", "path": "main.sh", "line": 3},
    ),
    "bash: no process": (
        "bash", "main.sh: fork: retry: Resource temporarily unavailable\n", {"code": "pids_exhausted", "limit": "pids"},
    ),
    "bash: no host": (
        "bash", "curl: (6) Could not resolve host: api.example\n", {"code": "network_disabled", "host": "api.example"},
    ),
    "bash: refused": ("bash", "unshare: unshare failed: Operation not permitted\n", {"code": "syscall_refused"}),
    "bash: full": ("bash", "dd: error writing 'x': No space left on device\n", {"code": "disk_full", "limit": "memory_mb"}),
    "CRLF": ("python", "EOFError: EOF when reading a line\r\n", {"code": "input_exhausted"}),
}  # fmt: skip
#: (language, the compiler's output, the hint without its message)
COMPILED = {
    "go: a package": (
        "go", "main.go:3:8: package github.com/x/y is not in std (/usr/lib/go-1.24/src/github.com/x/y)\n",
        {"code": "module_not_found", "name": "github.com/x/y", "near": []},
    ),
    "go: a module": (
        "go", "main.go:3:8: no required module provides package github.com/x/y; to add it:\n",
        {"code": "module_not_found", "name": "github.com/x/y", "near": []},
    ),
    "go: syntax": (
        "go", "# command-line-arguments\n./main.go:4:7: syntax error: unexpected newline, expected expression\n./main.go:9:1: syntax error: more\n",
        {"code": "syntax_error", "path": "main.go", "line": 4},
    ),
    "rust: syntax": ("rust", RUST_SYNTAX, {"code": "syntax_error", "path": "main.rs", "line": 2}),
    "rust: a crate": ("rust", RUST_MODULE, {"code": "module_not_found", "name": "rand", "near": []}),
}  # fmt: skip
#: Output that gives no hint.
NONE = {
    "another error": ("python", "ZeroDivisionError: division by zero\n"),
    "JSON that cannot be read": ("node", NODE_JSON),
    "a read that would block": ("python", "BlockingIOError: [Errno 11] Resource temporarily unavailable\n"),
    "a type error in rust": ("rust", "error[E0308]: mismatched types\n --> main.rs:2:5\n"),
    "nothing": ("bash", ""),
    "a word": ("bash", "syntax"),
}


@pytest.mark.parametrize(("language", "stderr", "expected"), ROWS.values(), ids=ROWS)
def test_an_output_gives_its_hint(language, stderr, expected):
    assert only(hints(language, stderr)) == expected


@pytest.mark.parametrize(("language", "output", "expected"), COMPILED.values(), ids=COMPILED)
def test_a_compilers_output_gives_its_hint(language, output, expected):
    assert only(hints(language, compiler_output=output)) == expected


@pytest.mark.parametrize(("language", "stderr"), NONE.values(), ids=NONE)
def test_another_output_gives_none(language, stderr):
    assert hints(language, stderr) == ()


def test_every_language_has_rows():
    assert set(LANGUAGE_RULES) == set(Catalogue.load().ids)


def test_the_commands_errors_are_read_in_every_language():
    for language in LANGUAGE_RULES:
        assert only(hints(language, "x\nsh: 1: cannot fork\n"))["code"] == "pids_exhausted"


# -- facts ------------------------------------------------------------------------------------------


def test_a_run_that_succeeded_has_none_and_asks_for_nothing():
    def never():
        raise AssertionError

    facts = HintFacts("python", "succeeded", LIMITS, files=never, refused_processes=never)
    assert hints_of(facts) == ()
    assert hints_of(replace(facts, status="cancelled", stderr="MemoryError")) == ()


@pytest.mark.parametrize(("wall_ms", "limit"), [(10_000, "timeout_ms"), (9_000, "cpu_ms")])
def test_the_time_that_was_used_up_is_named(wall_ms, limit):
    found = only(hints(status="timeout", timed_out=True, wall_ms=wall_ms))
    assert found == {"code": "timed_out", "limit": limit}


def test_a_compiler_that_was_ended_has_no_limit_to_raise():
    assert only(hints("go", status="timeout", timed_out=True, compiler_output="")) == {"code": "timed_out"}
    assert only(hints("go", status="oom", oom_killed=True, compiler_output="")) == {"code": "out_of_memory"}


def test_a_killed_process_is_a_hint_beside_success():
    found = hints(status="succeeded", oom_killed=True)
    assert only(found) == {"code": "out_of_memory", "limit": "memory_mb"}
    assert "256 MiB" in found[0]["message"]


def test_the_kernels_count_decides_about_processes():
    text = "main.sh: fork: retry: Resource temporarily unavailable\n"
    assert only(hints("bash", "quiet\n", refused_processes=lambda: 3))["code"] == "pids_exhausted"
    assert hints("bash", text, refused_processes=lambda: 0) == ()
    assert only(hints("bash", text, refused_processes=lambda: None))["code"] == "pids_exhausted"


def test_facts_precede_what_was_read():
    found = hints(stderr="EOFError: EOF when reading a line\n", status="timeout", timed_out=True, oom_killed=True)
    assert [each["code"] for each in found] == ["timed_out", "out_of_memory", "input_exhausted"]


def test_a_session_names_its_own_limit():
    assert only(hints(stderr="No space left on device", in_session=True))["limit"] == "disk_mb"


def test_a_network_by_permission_is_told_apart():
    stderr = "curl: (56) CONNECT tunnel failed, response 403\n"
    assert "network.allow" in hints("bash", stderr, has_network=True)[0]["message"]
    assert "no network" in hints("bash", "Could not resolve host: a.example", has_network=False)[0]["message"]


def test_the_files_of_the_run_are_named_the_nearest_first():
    files = ["main.py", "inputs/data.csv", "outputs/plot.png"]
    found = hints(stderr=PYTHON_FILE, files=lambda: files)
    assert found[0]["available"] == ["inputs/data.csv", "main.py", "outputs/plot.png"]
    assert "/work/inputs/data.csv" in found[0]["message"]
    misspelt = hints(stderr=PYTHON_FILE.replace("data.csv", "dta.csv"), files=lambda: files)
    assert misspelt[0]["available"][0] == "inputs/data.csv"


def test_a_local_module_is_near():
    files = ["main.js", "helpers.js"]
    found = hints("node", "Error: Cannot find module './helper.js'\n", files=lambda: files)
    assert found[0]["near"] == ["helpers.js"]
    found = hints("node", "Error: Cannot find module './lib/helpers'\n", files=lambda: files)
    assert found[0]["near"] == ["helpers.js"]
    found = hints(stderr="ModuleNotFoundError: No module named 'helpr'\n", files=lambda: ["main.py", "helper.py"])
    assert found[0]["near"] == ["helper"]


# -- hostile output ---------------------------------------------------------------------------------


def check_bounds(found):
    assert len(found) <= MAX_HINTS
    assert len({each["code"] for each in found}) == len(found)
    for each in found:
        assert len(each["message"]) <= MAX_MESSAGE
        assert len(each.get("near", [])) <= MAX_NEAR
        assert len(each.get("available", [])) <= MAX_AVAILABLE
        texts = [each["message"], *(each.get(name, "") for name in ("name", "path", "host"))]
        texts += [*each.get("near", []), *each.get("available", [])]
        assert all(text.isprintable() for text in texts)
        assert all(len(text) <= MAX_QUOTED for text in texts[1:])
    json.dumps(found)


SIGNS = sorted({row.sign for rows in (*LANGUAGE_RULES.values(), COMMON_RULES) for row in rows})
PIECES = st.one_of(
    st.sampled_from(SIGNS),
    st.sampled_from(
        ["'", '"', ":", "\n", "\r", "/", " ", "line 1", "(", ")", "\x00", "\u202e", 'File "', "at ", "9" * 30]
    ),
    st.text(max_size=30),
)


@given(
    language=st.sampled_from(sorted(LANGUAGE_RULES)),
    pieces=st.lists(PIECES, max_size=40),
    status=st.sampled_from(["failed", "succeeded", "oom", "timeout", "killed"]),
    compiled=st.booleans(),
    files=st.lists(st.text(min_size=1, max_size=300), max_size=20),
)
def test_any_text_gives_bounded_hints(language, pieces, status, compiled, files):
    text = "".join(pieces)
    check_bounds(
        hints(language, text, status=status, compiler_output=text if compiled else None, files=lambda: files)
    )


@given(st.binary(max_size=4000), st.sampled_from(sorted(LANGUAGE_RULES)))
def test_any_bytes_give_bounded_hints(data, language):
    check_bounds(hints(language, data.decode("utf-8", "replace") + "\nNo such file or directory\n"))


@given(st.text(), st.integers(1, 200))
def test_a_quoted_text_is_bounded_and_printable(text, most):
    assert len(quoted(text, most)) <= most
    assert quoted(text, most).isprintable()


def test_an_excerpt_has_the_first_and_the_last_lines():
    text = "panic: first\n" + "x" * 100_000 + "\nlast\n"
    found = excerpt(text)
    assert found.startswith("panic: first\n")
    assert found.endswith("\nlast\n")
    assert len(found) <= HEAD_CHARS + TAIL_CHARS + 1
    assert max(map(len, found.split("\n"))) <= LINE_CHARS


@pytest.mark.parametrize("language", sorted(LANGUAGE_RULES))
def test_no_text_takes_long(language):
    """Repeat the begin of every row: a pattern that tries all ways of a repetition would take seconds."""
    size = HEAD_CHARS + TAIL_CHARS
    for sign in (
        *SIGNS,
        ": ",
        "a: ",
        ' File "',
        "'",
        "/work/x:1\n",
        "error: Expected\n",
        "open ",
        "(",
        "spawn ",
        "\n",
    ):
        for behind in ("", ": No such fil", "SyntaxError: ", "\nerror: ", " on line "):
            unit = sign + behind
            text = " ".join(SIGNS) + "\n" + unit * (size // len(unit))
            began = time.process_time()
            check_bounds(hints(language, text))
            assert time.process_time() - began < 0.5, unit


def test_ordinary_errors_take_no_time():
    began = time.process_time()
    for _ in range(100):
        hints(stderr=PYTHON_FILE)
    assert time.process_time() - began < 1
