"""Clients whose programs or requests mean ill. Each is answered properly, and nobody else notices."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

from tests.load.load_http import Refused, Target, Wrong, expect

SOON = {"timeout_ms": 1000}


def flood(target: Target) -> None:
    """Endless output on both streams: the first bytes are kept, the rest is not."""
    kept = 64 * 1024
    run = target.run("bash", "yes out & yes err >&2", limits=SOON | {"max_output_bytes": kept})
    run = target.run("python", "while True: print('x' * 10000)", limits=SOON | {"max_output_bytes": kept})
    expect(run["stdout_truncated"] and len(run["stdout"]) == kept, f"{run['status']} {len(run['stdout'])}")


def fork_bomb(target: Target) -> None:
    """Every process forks two more."""
    target.run("bash", ":(){ :|:& };: ; sleep 5", limits=SOON | {"pids": 40})
    target.run("python", "import os\nwhile True:\n try: os.fork()\n except OSError: pass", limits=SOON)


def memory_hog(target: Target) -> None:
    """More memory than there is for it."""
    run = target.run("python", "x = bytearray(500 << 20)", limits={"memory_mb": 48})
    expect(run["status"] in {"oom", "failed"}, f"{run['status']}")
    run = target.run("python", "x = []\nwhile True: x.append(' ' * 1000000)", limits={"memory_mb": 48})
    expect(run["oom_killed"] or "MemoryError" in run["stderr"], f"{run['status']} {run['stderr'][-200:]}")


def disk_hog(target: Target) -> None:
    """All of /work and /tmp, in blocks and in inodes."""
    target.run(
        "bash", "head -c 900M /dev/zero > /work/x; head -c 900M /dev/zero > /tmp/x", limits={"memory_mb": 64}
    )
    target.run("bash", "for n in {1..30000}; do : > $n || exit; done", limits=SOON)


def sleeper(target: Target) -> None:
    """Ends in time, whatever it ignores."""
    run = target.run("bash", "trap '' TERM INT HUP; (sleep 50 &) ; sleep 50", limits={"timeout_ms": 300})
    expect((run["status"], run["timed_out"]) == ("timeout", True), f"{run['status']}")


def spinner(target: Target) -> None:
    """As much CPU as it can get, by many threads."""
    code = "import threading\ndef f():\n while True: pass\nfor _ in range(20): threading.Thread(target=f).start()"
    run = target.run("python", code, limits=SOON)
    expect(run["status"] == "timeout", f"{run['status']}")


def escaper(target: Target) -> None:
    """What is forbidden stays so under load."""
    run = target.run("bash", "echo x > /etc/passwd; mount -t tmpfs x /mnt; kill -9 1; unshare -r true; echo done")
    expect(run["stdout"] == "done\n", f"{run['status']} {run['stdout'][:200]!r}")


def stranger(target: Target) -> None:
    """No token, or not the right one."""
    for authorization in ("", "Bearer", "Bearer wrong", f"Basic {target.token}", f"Bearer {'x' * 4000}"):
        status, _ = target.request(
            "POST", "/v1/runs", b'{"language":"bash","code":""}', Authorization=authorization
        )
        # Beyond so many wrong ones a second, an address is told to slow down.
        expect(status in (401, 429), f"{authorization[:20]!r}: {status}")


def babbler(target: Target) -> None:
    """JSON that is none, or not what is asked for."""
    for body in (
        b"",
        b"{",
        b"[" * 10_000,
        b'{"language": NaN}',
        b'{"language":"bash"}',
        b'{"language":"bash","code":"\\ud800"}',
        b'{"language":"../sh","code":""}',
        b'{"language":"bash","code":"","limits":{"timeout_ms":"1"}}',
        b'{"language":"bash","code":"","surprise":1}',
        b'{"language":"bash","code":"","stream":true,"background":true}',
        b'{"language":"bash","code":"","files":[{"path":"../x","content":""}]}',
    ):
        status, answer = target.request("POST", "/v1/runs", body)
        expect(status == 400, f"{body[:60]!r}: {status}")
        expect(bool(answer["error"]["message"]), f"{answer}")


def giant(target: Target) -> None:
    """A body larger than any may be."""
    status, _ = target.request("POST", "/v1/runs", b"x" * (17 << 20))
    expect(status == 413, f"{status}")


def gibberish(target: Target) -> None:
    """What is not HTTP is answered with 400, or with the end of the connection."""
    for sent in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 9000):
        with closing(target.connect()) as connection:
            try:
                connection.sendall(sent)
                answer = connection.recv(65536)
            except ConnectionError:
                continue
            expect(not answer or answer.startswith(b"HTTP/1.1 4"), f"{answer[:100]!r}")


def crowd(target: Target) -> None:
    """More at once than there are places: some run, the others are told to come again, none is forgotten."""
    wrong: list[str] = []
    refused: list[int] = []

    def one() -> None:
        try:
            run = target.run("bash", "sleep 1; echo here")
            if run["stdout"] != "here\n":
                wrong.append(f"{run['status']} {run['stdout']!r}")
        except Refused as e:
            refused.append(e.after_s)
        except (Wrong, OSError) as e:
            wrong.append(repr(e))

    threads = [threading.Thread(target=one) for _ in range(CROWD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(not wrong, f"{len(wrong)} of a crowd: {wrong[:2]}")
    expect(bool(refused), "a crowd beyond all places was not refused in part")
    expect(len(refused) < CROWD, "all of a crowd was refused")


#: More than may run and wait together in the service of this test.
CROWD = 100

CLIENTS: tuple[Any, ...] = (
    *(flood, fork_bomb, memory_hog, disk_hog, sleeper, spinner, escaper),
    *(stranger, babbler, giant, gibberish),
)
