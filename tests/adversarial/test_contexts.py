"""Kernels that their own code forges, breaks or hangs: bounded, ended, replaced; the session and its neighbours go on."""

from __future__ import annotations

import time

import pytest

#: Finds the pipe of the replies, which no child inherits, but which the code of a cell can reach.
FIND = """
import fcntl, json, os, struct, termios
def is_replies(fd):
    try:
        return fd >= 200 and os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:") \
            and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY and fd not in outputs
    except OSError:
        return False
outputs = [fd for fd in range(200, 400) if os.path.exists(f"/proc/self/fd/{fd}")
           and os.path.samestat(os.stat(f"/proc/self/fd/{fd}"), os.fstat(1))
           or os.path.exists(f"/proc/self/fd/{fd}") and os.path.samestat(os.stat(f"/proc/self/fd/{fd}"), os.fstat(2))]
fd = next(fd for fd in range(200, 400) if is_replies(fd))
def reply(header, *parts):
    head = json.dumps(header).encode()
    os.write(fd, struct.pack(">I", len(head)) + head + b"".join(parts))
"""
ROWS = {
    "garbage": "os.write(fd, b'?' * 60_000)",
    "a header of 4 GiB": "os.write(fd, b'\\xff\\xff\\xff\\xff')",
    "a header that is no JSON": "os.write(fd, struct.pack('>I', 4) + b'nope')",
    "a deep header": "os.write(fd, struct.pack('>I', 60_000) + b'[' * 60_000)",
    "a part of 4 GiB": "reply({'type': 'display', 'parts': [['text/plain', 4 << 30]]})",
    "a negative part": "reply({'type': 'display', 'parts': [['text/plain', -5]]})",
    "a name that is no MIME type": "reply({'type': 'display', 'parts': [['../../etc', 1]]}, b'x')",
    "many parts": "reply({'type': 'display', 'parts': [[f'text/x{n}', 0] for n in range(70)]})",
    "a message without an end": "reply({'type': 'display', 'parts': [['text/plain', 1000]]}, b'x')",
}
#: Forged, but well-formed: bounded and passed on as a claim.
CLAIMS = {
    "a display in an endless loop": (
        "import time\nend = time.monotonic() + 2\nwhile time.monotonic() < end:\n"
        "    reply({'type': 'display', 'parts': [['text/plain', 100_000]]}, b'x' * 100_000)"
    ),
    "JSON that is a bomb": (
        "bomb = b'[' + b'{},' * 600_000 + b'{}]'\n"
        "for _ in range(20): reply({'type': 'display', 'parts': [['text/plain', 1], ['application/json', len(bomb)]]}, b'x', bomb)"
    ),
    "exceptions": "for _ in range(1000): reply({'type': 'exception', 'parts': [['value', 5000]]}, b'\\xff' * 5000)",
    "clears": "for _ in range(10_000): reply({'type': 'clear', 'wait': {'a': 'b'}})",
    "unknown types": "for _ in range(1000): reply({'type': ['list'], 'parts': [['a', 1]]}, b'x')",
    "a display id without end": "reply({'type': 'display', 'display_id': 'd' * 50_000, 'parts': [['text/plain', 1]]}, b'x')",
}


@pytest.fixture
def path(service, invariants):  # checked when the case is over
    """A session for one case."""
    reply = service.post("/v1/sessions", json={"language": "python"})
    assert reply.status == 201, reply.body
    yield f"/v1/sessions/{reply.body['id']}"
    service.request("DELETE", f"/v1/sessions/{reply.body['id']}")


def run(service, path, code, **fields):
    reply = service.post(f"{path}/runs", json={"code": code, **fields}, timeout=120)
    assert reply.status == 200, reply.body
    return reply.body


def works(service, path):
    return run(service, path, "print(6 * 7)")["stdout"] == "42\n"


@pytest.mark.parametrize("name", ROWS)
def test_a_reply_that_is_none_ends_the_kernel_alone(service, path, name):
    done = run(service, path, f"{FIND}\n{ROWS[name]}\nimport time; time.sleep(1)", limits={"timeout_ms": 4000})
    assert done["status"] in ("failed", "killed", "timeout"), done
    assert works(service, path)


@pytest.mark.parametrize("name", CLAIMS)
def test_forged_replies_are_bounded(service, path, name):
    done = run(service, path, f"{FIND}\n{CLAIMS[name]}", limits={"timeout_ms": 30_000})
    assert len(done["results"]) <= 100
    assert sum(len(str(result)) for result in done["results"]) <= 12 * 1024 * 1024
    assert all(len(result["display_id"] or "") <= 256 for result in done["results"])
    assert works(service, path)


def test_an_end_that_is_forged_ends_the_run_and_no_more(service, path):
    forged = "reply({'type': 'done', 'exit_code': 0, 'execution_count': -7, 'dropped': 10**12})"
    done = run(service, path, f"{FIND}\n{forged}\nimport time; time.sleep(0.5)")
    assert (done["exit_code"], done["execution_count"], done["results_dropped"]) == (0, None, 0)
    # The true end of that cell is now taken for the next one's: a kernel that lies has only itself to blame.
    run(service, path, "1")
    assert service.post(f"{path}/runs", json={"code": "1"}).status == 200


@pytest.mark.parametrize(
    "code",
    [
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
        "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
        "import os, signal; os.kill(os.getppid(), signal.SIGSTOP); os.kill(os.getpid(), signal.SIGSTOP)",
        "import threading; threading.Thread(target=lambda: [None for _ in iter(int, 1)]).start()\nwhile True: pass",
        "import ctypes; ctypes.string_at(0)",
        "import sys; sys.setrecursionlimit(10**9)\ndef f(): return f()\nf()",
        "import os\nfor fd in range(3, 500):\n    try: os.close(fd)\n    except OSError: pass",
        "import os\nif os.fork() == 0:\n    import time; time.sleep(60)",
        "import sys; sys.stdout = sys.stderr = None",
        "import builtins; builtins.len = None; builtins.print = None",
        "import sys; sys.modules.clear()",
        "import json; json.dumps = None; json.loads = None",
        "get_ipython().run_cell = None",
        "import asyncio; asyncio.get_event_loop().close()",
        "while True: input()",
        "import os; os.environ.clear()",
        "while True: print('x' * 10_000)",
    ],
    ids=range(17),
)
def test_a_kernel_that_is_broken_is_replaced(service, path, code):
    run(service, path, code, limits={"timeout_ms": 1000})
    for context in service.get(f"{path}/contexts").body["data"]:
        service.post(f"{path}/contexts/{context['id']}/restart")
    assert works(service, path)


@pytest.mark.parametrize(
    "line",
    [
        "for fd in /proc/[0-9]*/fd/[123]; do (head -c 4M /dev/zero > $fd) 2>/dev/null & done; sleep 1; true",
        "for fd in /proc/[0-9]*/fd/0; do (timeout 1 cat $fd) 2>/dev/null & done; sleep 1; true",
        "kill -9 -1",
        "kill -INT -1",
    ],
    ids=["written to", "read from", "killed", "interrupted"],
)
def test_a_kernel_that_has_no_run_yet_is_attacked(service, path, line):
    time.sleep(0.5)  # it is started ahead
    service.post(f"{path}/processes", json={"command": line, "wait": True, "timeout_ms": 5000})
    done = run(service, path, "6 * 7")
    assert (done["status"], done["results"][0]["text"], done["state"]) == ("succeeded", "42", "kept")
    assert len(done["stdout"]) < 2 * 1024 * 1024
    assert works(service, path)


def test_contexts_of_another_key_are_not_found(service, path):
    assert run(service, path, "secret = 1")["exit_code"] == 0
    context = service.get(f"{path}/contexts").body["data"][0]["id"]
    for method, call in (
        ("GET", "/contexts"), ("POST", "/contexts"), ("POST", f"/contexts/{context}/restart"),
        ("POST", f"/contexts/{context}/interrupt"), ("POST", f"/contexts/{context}/complete"),
        ("DELETE", f"/contexts/{context}"), ("POST", "/runs"),
    ):  # fmt: skip
        body = None if method == "GET" else b'{"code": "secret"}'
        headers = {"Content-Type": "application/json"}
        reply = service.request(method, path + call, body, headers, token=service.other_token)
        assert (reply.status, reply.body["error"]["code"]) == (404, "session_not_found"), call
    assert run(service, path, "secret")["results"][0]["text"] == "1"


SINGLE_USE = ROWS | CLAIMS | {
    "an end that is forged": "reply({'type': 'done', 'exit_code': 0, 'execution_count': -7, 'dropped': 10**12})",
    "the keeper is killed": "os.kill(os.getppid(), 9)",
    "PID 1 is killed": "os.kill(1, 9); os.kill(-1, 9)",
    "everything is stopped": "import signal; os.kill(os.getppid(), signal.SIGSTOP); os.kill(os.getpid(), signal.SIGSTOP)",
    "forks that stay": "import time\nfor _ in range(20):\n    if os.fork() == 0: time.sleep(60)",
    "memory": "x = [bytearray(1 << 20) for _ in range(4000)]",
}  # fmt: skip


@pytest.mark.parametrize("name", SINGLE_USE)
def test_a_single_use_run_with_results_ends_whatever_its_kernel_does(service, invariants, name):
    code = f"{FIND}\n{SINGLE_USE[name]}\nimport time; time.sleep(0.3)"
    done = service.run("python", code, results=True, limits={"timeout_ms": 3000})
    assert done["status"] in ("succeeded", "failed", "killed", "timeout", "oom"), done
    assert (done["session_id"], done["context"], done["state"]) == (None, None, None)
    assert len(done["results"]) <= 100
    assert service.run("python", "6 * 7", results=True)["results"][0]["text"] == "42"


@pytest.mark.parametrize(
    ("language", "env", "path", "code"),
    [
        ("python", {"PYTHONPATH": "/work"}, "sitecustomize.py", "import signal\nsignal.signal(2, signal.SIG_IGN)\nwhile True: pass"),
        ("ruby", {"RUBYOPT": "-r/work/early"}, "early.rb", "trap('INT', 'IGNORE'); loop {}"),
    ],
)  # fmt: skip
def test_a_program_that_runs_before_its_kernel_has_a_run_s_limits(service, invariants, language, env, path, code):
    files = [{"path": path, "content": code}]
    began = time.monotonic()
    done = service.run(language, "1", results=True, env=env, files=files, limits={"timeout_ms": 500})
    assert (done["status"], done["timed_out"]) == ("timeout", True), done
    assert time.monotonic() - began < 15
    done = service.run(language, "1", results=True, env=env, files=files, limits={"cpu_ms": 400})
    assert (done["status"], done["timed_out"]) == ("timeout", True), done
