"""Hints of real runs: every code by a program that fails for that reason, in every way in which a run is asked for."""

from __future__ import annotations

import pytest

from tests.support.slow_machine import TIME_FACTOR

THREADS = "import threading, time\nfor n in range(200): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()"
FORKS = "import os, time\nwhile True:\n    if os.fork() == 0: time.sleep(9)"
FULL = "with open('/work/x', 'wb') as f:\n    while True: f.write(bytes(1 << 20))"

#: (language, code, fields of the run, the code of the hint, fields that the hint must have)
ROWS = {
    "python: a module": ("python", "import requets", {}, "module_not_found", {"name": "requets", "near": ["requests"]}),
    "python: a package's name": ("python", "import scikit_learn", {}, "module_not_found", {"near": ["sklearn"]}),
    "python: a name": ("python", "import socket; socket.create_connection(('api.example', 80))", {}, "network_disabled", {}),
    "python: an address": ("python", "import socket; socket.create_connection(('192.0.2.1', 80))", {}, "network_disabled", {}),
    "python: urllib": ("python", "import urllib.request as u; u.urlopen('https://api.example/')", {}, "network_disabled", {}),
    "python: requests": (
        "python", "import requests; requests.get('https://api.example/')", {}, "network_disabled", {"host": "api.example"},
    ),
    "python: a file": (
        "python", "open('data.csv')", {"files": [{"path": "inputs/data.csv", "content": "a"}]}, "file_not_found",
        {"path": "data.csv", "available": ["inputs/data.csv", "main.py"]},
    ),
    "python: read-only": ("python", "open('/etc/x', 'w')", {}, "read_only", {"path": "/etc/x"}),
    "python: memory": ("python", "x = bytearray(1 << 30)", {}, "out_of_memory", {"limit": "memory_mb"}),
    "python: wall time": ("python", "while True: pass", {"limits": {"timeout_ms": 300, "cpu_ms": 9000}}, "timed_out", {"limit": "timeout_ms"}),
    "python: processor time": ("python", "while True: pass", {"limits": {"cpu_ms": 200}}, "timed_out", {"limit": "cpu_ms"}),
    "python: threads": ("python", THREADS, {"limits": {"pids": 20}}, "pids_exhausted", {"limit": "pids"}),
    "python: processes": ("python", FORKS, {"limits": {"pids": 20}}, "pids_exhausted", {"limit": "pids"}),
    "python: disk": ("python", FULL, {"limits": {"memory_mb": 128}}, "disk_full", {"limit": "memory_mb"}),
    "python: a refused call": ("python", "import os; os.chroot('/work')", {}, "syscall_refused", {}),
    "python: input": ("python", "input(); input()", {"stdin": "one\n"}, "input_exhausted", {}),
    "python: syntax": ("python", "x = 1\nif x\n    pass", {}, "syntax_error", {"path": "main.py", "line": 2}),
    "node: a module": ("node", "require('lodash')", {}, "module_not_found", {"name": "lodash"}),
    "node: a package": ("node", "import x from 'lodash'", {}, "module_not_found", {"name": "lodash"}),
    "node: a local module": (
        "node", "require('./helper')", {"files": [{"path": "helpers.js", "content": ""}]}, "module_not_found", {"near": ["helpers.js"]},
    ),
    "node: a name": ("node", "require('http').get('http://api.example/')", {}, "network_disabled", {"host": "api.example"}),
    "node: fetch": ("node", "fetch('https://api.example/')", {}, "network_disabled", {"host": "api.example"}),
    "node: a file": ("node", "require('fs').readFileSync('data.csv')", {}, "file_not_found", {"path": "data.csv"}),
    "node: read-only": ("node", "require('fs').writeFileSync('/etc/x', 'x')", {}, "read_only", {"path": "/etc/x"}),
    "node: syntax": ("node", "let y = 1\nconst x = ;", {}, "syntax_error", {"path": "main.js", "line": 2}),
    "node: syntax of a module": ("node", "import 'fs'\n\nconst x = ;", {}, "syntax_error", {"path": "main.js", "line": 3}),
    "node: disk": ("node", "require('fs').writeFileSync('/work/x', Buffer.alloc(80 << 20))", {"limits": {"memory_mb": 128}}, "disk_full", {}),
    "typescript: a module": ("typescript", "import x from 'lodash'; x()", {}, "module_not_found", {"name": "lodash"}),
    "typescript: syntax": ("typescript", "let y: number = 1\nconst x: = ;", {}, "syntax_error", {"path": "main.ts", "line": 2}),
    "typescript: a file": ("typescript", "import fs from 'fs'; fs.readFileSync('data.csv')", {}, "file_not_found", {"path": "data.csv"}),
    "deno: a module": ("deno", "import x from 'lodash'; x()", {}, "module_not_found", {"name": "lodash"}),
    "deno: a file": ("deno", "Deno.readTextFileSync('data.csv')", {}, "file_not_found", {"path": "data.csv"}),
    "deno: syntax": ("deno", "let y = 1\nconst x = ;", {}, "syntax_error", {"path": "main.ts", "line": 2}),
    "deno: fetch": ("deno", "await fetch('https://api.example/')", {}, "network_disabled", {"host": "api.example"}),
    "bun: a module": ("bun", "import x from 'lodash'; x()", {}, "module_not_found", {"name": "lodash"}),
    "bun: a file": ("bun", "require('fs').readFileSync('data.csv')", {}, "file_not_found", {"path": "data.csv"}),
    "bun: syntax": ("bun", "let y = 1\nconst x = ;", {}, "syntax_error", {"path": "main.ts", "line": 2}),
    "bun: fetch": ("bun", "await fetch('https://api.example/')", {}, "network_disabled", {}),
    "ruby: a library": ("ruby", "require 'nokogiri'", {}, "module_not_found", {"name": "nokogiri"}),
    "ruby: a file": ("ruby", "File.read('data.csv')", {}, "file_not_found", {"path": "data.csv"}),
    "ruby: read-only": ("ruby", "File.write('/etc/x', 'x')", {}, "read_only", {"path": "/etc/x"}),
    "ruby: syntax": ("ruby", "x = 1\nputs (1 + )", {}, "syntax_error", {"path": "main.rb", "line": 2}),
    "ruby: input": ("ruby", "$stdin.readline", {}, "input_exhausted", {}),
    "ruby: a name": ("ruby", "require 'net/http'; Net::HTTP.get(URI('http://api.example/'))", {}, "network_disabled", {"host": "api.example"}),
    "php: a file": ("php", "<?php fopen('data.csv', 'r');", {}, "file_not_found", {"path": "data.csv"}),
    "php: syntax": ("php", "<?php\n$x = ;", {}, "syntax_error", {"path": "main.php", "line": 2}),
    "php: a name": ("php", "<?php file_get_contents('http://api.example/');", {}, "network_disabled", {"host": "api.example"}),
    "php: read-only": ("php", "<?php file_put_contents('/etc/x', 'x');", {}, "read_only", {"path": "/etc/x"}),
    "go: a package": (
        "go", 'package main\nimport "encoding/jsn"\nfunc main() { jsn.X() }', {}, "module_not_found",
        {"name": "encoding/jsn", "near": ["encoding/json"]},
    ),
    "go: a module": (
        "go", 'package main\nimport "github.com/x/y"\nfunc main() { y.X() }', {}, "module_not_found", {"name": "github.com/x/y", "near": []},
    ),
    "go: syntax": ("go", "package main\nfunc main() {\n\tx := \n}", {}, "syntax_error", {"path": "main.go"}),
    "go: a file": (
        "go", 'package main\nimport "os"\nfunc main() { _, e := os.ReadFile("data.csv"); if e != nil { panic(e) } }', {},
        "file_not_found", {"path": "data.csv"},
    ),
    "go: a name": (
        "go", 'package main\nimport "net/http"\nfunc main() { _, e := http.Get("http://api.example/"); panic(e) }', {},
        "network_disabled", {"host": "api.example"},
    ),
    "rust: a crate": ("rust", "use rand::Rng;\nfn main() {}", {}, "module_not_found", {"name": "rand"}),
    "rust: syntax": ("rust", "fn main() {\n    let x = ;\n}", {}, "syntax_error", {"path": "main.rs", "line": 2}),
    "rust: a file": ("rust", 'fn main() { std::fs::read("data.csv").unwrap(); }', {}, "file_not_found", {"available": ["main.rs"]}),
    "bash: a command": ("bash", "grepp x", {}, "module_not_found", {"name": "grepp", "near": ["grep"]}),
    "bash: a file": ("bash", "cat data.csv", {}, "file_not_found", {"path": "data.csv"}),
    "bash: a redirection": ("bash", "read x <data.csv", {}, "file_not_found", {"path": "data.csv"}),
    "bash: read-only": ("bash", "echo x >/etc/x", {}, "read_only", {"path": "/etc/x"}),
    "bash: syntax": ("bash", "echo 1\nfi", {}, "syntax_error", {"path": "main.sh", "line": 2}),
    "bash: a refused call": ("bash", "unshare --user true", {}, "syscall_refused", {}),
    "bash: processes": ("bash", "for i in $(seq 99); do sleep 5 & done", {"limits": {"pids": 20}}, "pids_exhausted", {}),
    "bash: disk": ("bash", "head -c 99000000 /dev/zero >x", {"limits": {"memory_mb": 128}}, "disk_full", {}),
}  # fmt: skip


def found(run, code):
    """The hint of that code; the run is shown if there is none."""
    by_code = {hint["code"]: hint for hint in run["hints"]}
    assert code in by_code, (run["status"], run["hints"], run["stderr"][-1500:], run["compile"])
    assert by_code[code]["message"]
    return by_code[code]


@pytest.mark.parametrize(("language", "code", "fields", "expected", "about"), ROWS.values(), ids=ROWS)
def test_a_program_that_fails_has_its_hint(service, language, code, fields, expected, about):
    hint = found(service.run(language, code, **fields), expected)
    assert {name: hint[name] for name in about} == about


def test_a_program_that_succeeds_has_none(service):
    assert service.run("python", "print(1)")["hints"] == []
    assert service.run("python", "import sys; print('x', file=sys.stderr); print(1)")["hints"] == []


def test_a_killed_child_is_a_hint_beside_success(service):
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = bytearray(400 << 20)'])"
    run = service.run("python", code, limits={"memory_mb": 64})
    assert run["status"] == "succeeded"
    found(run, "out_of_memory")


def test_hints_are_recorded_streamed_and_in_background_runs(service):
    run = service.run("python", "import nothing_like_it")
    assert service.get(f"/v1/runs/{run['id']}").body["hints"] == run["hints"] != []
    streamed = service.stream("python", "import nothing_like_it")[-1]
    assert (streamed["event"], streamed["data"]["hints"]) == ("result", run["hints"])
    ended = service.ended(service.submit("python", "import nothing_like_it"))
    assert ended["hints"] == run["hints"]
    with service.events(f"/v1/runs/{ended['id']}/events") as replayed:
        assert list(replayed)[-1][1]["data"]["hints"] == run["hints"]


def test_a_run_of_a_session_has_hints(service):
    session = service.post("/v1/sessions", json={"language": "python", "limits": {"pids": 20}}).body
    try:
        path = f"/v1/sessions/{session['id']}/runs"

        def run(code, **fields):
            return service.post(path, json={"code": code, **fields}).body

        assert found(run("import requets"), "module_not_found")["near"] == ["requests"]
        assert found(run("open('data.csv')", files=[{"path": "in/data.csv", "content": ""}]), "file_not_found")[
            "available"
        ] == ["in/data.csv"]
        found(run(THREADS), "pids_exhausted")
        # Later runs are not blamed for what an earlier one was refused.
        assert run("import sys; sys.exit('no')")["hints"] == []
        late = run("import time; time.sleep(60)", limits={"timeout_ms": int(500 * TIME_FACTOR)})
        assert found(late, "timed_out")["limit"] == "timeout_ms"
    finally:
        service.request("DELETE", f"/v1/sessions/{session['id']}")


def test_a_queued_run_has_none(service):
    run_id = service.submit("bash", "sleep 1")
    assert service.get(f"/v1/runs/{run_id}").body["hints"] == []
    service.ended(run_id)
