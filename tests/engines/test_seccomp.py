"""The system call filter that is in force: read out of a live sandbox, and tried for real call by call."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from config.ids import new_id
from protocol.job import Job
from sandbox.engines.confinement import PROFILES
from tests.support.seccomp_cases import CLONE_NAMESPACES, GIVEN, REFUSED, flipped
from tests.support.seccomp_filter import (
    ALLOW,
    ERRNO,
    I386,
    X32,
    all_calls,
    filters_of,
    known_to_the_library,
    number_of,
    wanted,
)

PROFILE = json.loads((PROFILES / "default.json").read_text())
#: Prints the errno of each call of a list [[number, [arguments]], …] on standard input, 0 where it was let in.
TRY = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
answers = []
for number, arguments in json.load(sys.stdin):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(a) for a in arguments))
    answers.append(ctypes.get_errno() if result < 0 else 0)
print(json.dumps(answers))
"""
#: In a child, since it may be the last thing that this does: a getpid by the gate of 32-bit programs.
BY_THE_OLD_GATE = """
import ctypes, mmap, os
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20; int 0x80; ret
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
pid = os.fork()
if pid == 0:
    result = call()
    os._exit(1 if result == os.getpid() else 0)
status = os.waitpid(pid, 0)[1]
print("answered" if status == 1 << 8 else "refused")
"""


def has_our_profile(column):
    if not column.seccomp:
        pytest.skip("gVisor takes no profile: its own kernel answers, under a filter of its own")


def pid_of(mark, seconds=20):
    """The host's pid of the process that has `mark` among its arguments."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and mark.encode() in Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0"):
                    return int(entry)
            except OSError:
                continue
        time.sleep(0.05)
    raise AssertionError("the program does not begin")


@pytest.fixture(scope="module")
def in_force(request, dispatcher, column):
    """What asks every filter that is in force for a running program: the strictest answer counts."""
    has_our_profile(column)
    mark = uuid.uuid4().hex
    job = Job(
        run_id=new_id("run"),
        language="bash",
        code="sleep 50; true",
        args=(mark,),
        key="test",
        limits={"timeout_ms": 60_000},
    )
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(dispatcher.run, job)
        pid = pid_of(mark)
        filters = filters_of(pid)
        os.kill(pid, signal.SIGKILL)
        running.result()
    assert filters

    def ask(number, *arguments, arch=None):
        answers = [f(number, *arguments, **({} if arch is None else {"arch": arch})) for f in filters]
        refusals = [answer for answer in answers if answer != ALLOW]
        return refusals[0] if refusals else ALLOW

    return ask


def by_default(column):
    """What the default may be: Docker 20.10 drops `defaultErrnoRet`, and answers EPERM."""
    return {errno.ENOSYS, errno.EPERM} if column.engine == "docker" else {errno.ENOSYS}


def named(name, number):
    """Whether a rule says this errno of this call by name, so that no default has a part in it."""
    rules = [rule for rule in PROFILE["syscalls"] if rule.get("errnoRet") == number]
    return any(name in rule["names"] for rule in rules) and known_to_the_library(name) is not None


def test_the_filter_in_force_is_the_profile(in_force, column):
    cases = [*flipped(PROFILE), *GIVEN, *((name, arguments) for name, arguments, _ in REFUSED)]
    cases += [(name, ()) for name in all_calls()]
    wrong = {}
    for name, arguments in cases:
        answer, expected = in_force(number_of(name), *arguments), _expected(name, arguments)
        if expected == ERRNO | errno.ENOSYS and not named(name, errno.ENOSYS):
            right = answer in {ERRNO | number for number in by_default(column)}
        else:
            right = answer == expected
        if not right:
            wrong[name, arguments] = hex(answer)
    assert wrong == {}


def _expected(name, arguments):
    return wanted(PROFILE, name, *arguments) if known_to_the_library(name) is not None else ERRNO | errno.ENOSYS


def test_the_filter_in_force_lets_no_namespace_and_no_other_architecture_through(in_force):
    for flag in CLONE_NAMESPACES.values():
        assert in_force(number_of("clone"), flag | 0x11) != ALLOW
    for number in range(470):
        assert in_force(number, arch=I386) != ALLOW
        assert in_force(X32 | number) != ALLOW


def tried(run, calls):
    result = run("python", TRY, stdin=json.dumps(calls))
    assert result["status"] == "succeeded", result["stderr"]
    return json.loads(result["stdout"])


def test_each_refused_call_is_refused_with_its_errno(run, column):
    has_our_profile(column)
    calls = [(number_of(name), arguments) for name, arguments, _ in REFUSED]
    assert None not in {number for number, _ in calls}
    answers = tried(run, calls)
    wrong = [
        (name, arguments, errno.errorcode.get(answer, answer))
        for (name, arguments, expected), answer in zip(REFUSED, answers, strict=True)
        if answer not in ({expected} if named(name, expected) else {expected} | by_default(column))
    ]
    assert wrong == []


def test_what_has_no_name_in_the_profile_does_not_exist(run, column):
    has_our_profile(column)
    names = {name for rule in PROFILE["syscalls"] for name in rule["names"]}
    unnamed = sorted(number for name, number in all_calls().items() if name not in names)
    numbers = [*unnamed, *range(470, 520), 100_000]
    answers = tried(run, [(number, ()) for number in numbers])
    assert {n: a for n, a in zip(numbers, answers, strict=True) if a not in by_default(column)} == {}


def test_a_call_by_the_gate_of_32_bit_programs_is_not_answered(run):
    assert run("python", BY_THE_OLD_GATE)["stdout"] == "refused\n"
