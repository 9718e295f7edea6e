"""The Landlock domain, by what it does: it has to hold for whatever a program starts, and break nothing."""

from __future__ import annotations

import ctypes

import pytest

from tests.engines.columns import SERVICE

CREATE_RULESET = 444
ATTEMPTS = """
import errno, os, subprocess, sys

def attempt(what, *arguments):
    try:
        done = what(*arguments)
        return "done" if done is None or not isinstance(done, int) else str(done)
    except OSError as e:
        return errno.errorcode[e.errno]

def run(*argv):
    return subprocess.run(argv, capture_output=True, text=True).stdout.strip()
"""


@pytest.fixture(scope="module")
def version(column):
    """Of this kernel; below 2 it is not used, and gVisor's has none."""
    if column.own_kernel:
        return 0
    known = ctypes.CDLL(None, use_errno=True).syscall(CREATE_RULESET, None, 0, 1)
    return min(known, 5) if known >= 2 else 0


def test_what_is_in_force_is_reported(dispatcher, run, version):
    assert run("bash", "true")["status"] == "succeeded"
    assert dispatcher.status()["landlock"] == version


def test_nothing_is_written_but_to_the_programs_own_places(run, version, column):
    """The kernel itself lets a process write its own name: what refuses that here is the domain."""
    if column.own_kernel:
        pytest.skip("gVisor has no Landlock, and its /proc takes less")
    code = ATTEMPTS + (
        "for path in ('comm', 'oom_score_adj', 'mem', 'task/self/comm'):\n"
        "    path = '/proc/self/' + path.replace('self', str(os.getpid()))\n"
        "    print(attempt(open, path, 'r+b', 0))\n"
        "print(run('sh', '-c', 'echo x > /proc/$$/comm && echo done'))\n"
        "print(run('setsid', 'bash', '-c', '(echo x > /proc/self/comm) && echo done'))\n"
    )
    lines = run("python", code)["stdout"].split("\n")
    expected = ["EACCES"] * 4 + ["", ""] if version else ["done"] * 4 + ["done", "done"]
    assert lines[:6] == expected


def test_what_a_program_is_for_goes_on(run):
    code = ATTEMPTS + (
        "os.mkdir('a'); os.mkdir('b'); open('a/f', 'w').write('moved')\n"
        "os.rename('a/f', 'b/g'); os.link('b/g', 'a/h'); os.rename('b', 'a/b')\n"
        "print(open('a/b/g').read(), open('a/h').read())\n"
        "os.truncate('a/h', 3); print(open('a/h').read())\n"
        "os.symlink('h', 'a/s'); os.mkfifo('a/p'); os.rename('a/p', 'p')\n"
        "for place in ('/tmp', '/dev/shm'):\n"
        "    open(place + '/x', 'w').write('x'); os.rename(place + '/x', place + '/y'); print(os.listdir(place))\n"
        "for node in ('null', 'zero', 'urandom'): open('/dev/' + node, 'r+b', 0).write(b'x')\n"
        "print(run('sh', '-c', 'echo piped > /dev/stdout'), 'usr' in os.listdir('/'), len(open('/etc/passwd').read()) > 9)\n"
        "open('s.sh', 'w').write('#!/bin/sh\\necho executed\\n'); os.chmod('s.sh', 0o755); print(run('./s.sh'))\n"
        "fd = os.memfd_create('m'); os.write(fd, b'memory'); print(open(f'/proc/self/fd/{fd}').read())\n"
        "import socket; s = socket.socket(socket.AF_UNIX); s.bind('/tmp/sock'); s.listen()\n"
        "c = socket.socket(socket.AF_UNIX); c.connect('/tmp/sock'); print('connected')\n"
    )
    result = run("python", code)
    assert result["stderr"] == ""
    assert result["stdout"].split("\n") == [
        "moved moved", "mov", "['y']", "['y']", "piped True True", "executed", "memory", "connected", "",
    ]  # fmt: skip


def test_a_compiler_has_its_place_and_the_program_runs_from_it(run, column):
    if column is not SERVICE:
        pytest.skip("the images of compilers are kept for one column")
    code = 'package main\nimport ("fmt"; "os")\nfunc main() { fmt.Println(os.WriteFile("/proc/self/comm", nil, 0) != nil) }'
    result = run("go", code)
    assert (result["compile"]["exit_code"], result["stdout"]) == (0, "true\n")


def test_a_program_can_confine_itself_further(run, version):
    code = (
        "import ctypes; libc = ctypes.CDLL(None)\n"
        "fd = libc.syscall(444, (1).to_bytes(8, 'little') , 8, 0)\n"
        "print(fd >= 0 and libc.syscall(446, fd, 0) == 0)\n"
        "import subprocess\n"
        "try: subprocess.run(['true'])\n"
        "except PermissionError: print('refused')\n"
    )
    assert run("python", code)["stdout"] == ("True\nrefused\n" if version else "False\n")
