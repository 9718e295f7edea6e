"""Hints from the facts of every engine and runtime, and from what programs print there."""

from __future__ import annotations

import pytest

THREADS = "import threading, time\nfor n in range(99): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()"
#: (language, code, limits, the code of the hint, fields that it must have)
ROWS = {
    "a module": ("python", "import requets", {}, "module_not_found", {"near": ["requests"]}),
    "a command": ("bash", "grepp", {}, "module_not_found", {"near": ["grep"]}),
    "a file": ("python", "open('data.csv')", {}, "file_not_found", {"path": "data.csv", "available": ["main.py"]}),
    "the network": ("python", "import socket; socket.create_connection(('api.example', 80))", {}, "network_disabled", {}),
    "a read-only file": ("bash", "echo x >/etc/x", {}, "read_only", {"path": "/etc/x"}),
    "memory": ("python", "x = bytearray(400 << 20)", {"memory_mb": 64}, "out_of_memory", {"limit": "memory_mb"}),
    "time": ("bash", "sleep 60", {"timeout_ms": 300}, "timed_out", {"limit": "timeout_ms"}),
    "disk": ("bash", "head -c 99000000 /dev/zero >x", {"memory_mb": 128}, "disk_full", {"limit": "memory_mb"}),
    "threads": ("python", THREADS, {"pids": 20}, "pids_exhausted", {"limit": "pids"}),
    "a refused call": ("python", "import os; os.chroot('/work')", {}, "syscall_refused", {}),
}  # fmt: skip


@pytest.mark.parametrize(("language", "code", "limits", "expected", "about"), ROWS.values(), ids=ROWS)
def test_a_program_that_fails_has_its_hint(run, language, code, limits, expected, about):
    result = run(language, code, limits=limits)
    hints = {hint["code"]: hint for hint in result["hints"]}
    assert expected in hints, (result["status"], result["hints"], result["stderr"][-1000:])
    assert {name: hints[expected][name] for name in about} == about


def test_a_program_that_succeeds_has_none(run):
    assert run("bash", "echo 1; echo 2 >&2")["hints"] == []
