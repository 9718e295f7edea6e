"""Clients that behave: whatever goes on beside them, their answers are right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any

from tests.load.load_http import Target, body_of, check_status, ended, expect

#: A program in each language that prints a text; the others' own example is run instead.
PRINTS = {
    "python": "print('{}')",
    "node": "console.log('{}')",
    "typescript": "const s: string = '{}'; console.log(s)",
    "deno": "const s: string = '{}'; console.log(s)",
    "bun": "const s: string = '{}'; console.log(s)",
    "bash": "echo '{}'",
    "ruby": "puts '{}'",
    "php": "<?php echo '{}', PHP_EOL;",
}
#: More than any buffer on the way holds.
LINES = 40_000
COUNTS = f"for n in range({LINES}): print(n, '{{}}')"


def hello(target: Target) -> None:
    """Each ready language in turn."""
    for language in target.languages:
        nonce, name = target.nonce(), language["id"]
        code = PRINTS[name].replace("{}", nonce) if name in PRINTS else language["example"]
        run = target.run(name, code)
        expect(run["status"] == "succeeded", f"{name}: {run['status']} {run['stderr'][:300]}")
        expect(name not in PRINTS or run["stdout"] == f"{nonce}\n", f"{name}: {run['stdout'][:100]!r} for {nonce}")


def conversation(target: Target) -> None:
    """Standard input, an inline file, an argument and a variable all arrive, and are this run's own."""
    nonces = [target.nonce() for _ in range(4)]
    code = "import os, sys; print(input(), open('a.txt').read(), sys.argv[1], os.environ['A'])"
    files = [{"path": "a.txt", "content": nonces[1]}]
    run = target.run("python", code, stdin=nonces[0], files=files, args=[nonces[2]], env={"A": nonces[3]})
    expect(run["stdout"].split() == nonces, f"{run['status']} {run['stdout'][:200]!r}")


def failure(target: Target) -> None:
    """A program's own failure is told as such."""
    nonce = target.nonce()
    run = target.run("bash", f"echo {nonce} >&2; exit 3")
    expect((run["status"], run["exit_code"], run["stderr"]) == ("failed", 3, f"{nonce}\n"), str(run)[:300])


def stream(target: Target) -> None:
    """A long stream, read as it comes: every line, in order, once."""
    nonce = target.nonce()
    body = body_of("python", COUNTS.format(nonce), stream=True)
    with closing(target.open("POST", "/v1/runs", body, Accept="application/x-ndjson")) as connection:
        text, run = whole(events(connection))
    expect(run["status"] == "succeeded", f"{run['status']} {run['stderr'][:300]}")
    expect(text == run["stdout"], "the stream is not what the run says")
    expect(text == "".join(f"{n} {nonce}\n" for n in range(LINES)), "a stream's text is not the program's")


def server_sent(target: Target) -> None:
    """The same as server-sent events."""
    nonce = target.nonce()
    body = body_of("bash", f"for n in 1 2 3; do echo $n {nonce}; sleep 0.1; done", stream=True)
    with closing(target.open("POST", "/v1/runs", body, Accept="text/event-stream")) as connection:
        text, _run = whole(events(connection))
    expect(text == "".join(f"{n} {nonce}\n" for n in (1, 2, 3)), f"{text[:200]!r}")


def background(target: Target) -> None:
    """A run in the background is polled to its end, and its events are read again."""
    nonce = target.nonce()
    status, run = target.request("POST", "/v1/runs", body_of("python", f"print('{nonce}')", background=True))
    expect((status, run["status"]) == (202, "queued"), f"{status} {run}")
    run = target.await_end(run["id"])
    expect((run["status"], run["stdout"]) == ("succeeded", f"{nonce}\n"), str(run)[:300])
    path = f"/v1/runs/{run['id']}/events"
    with closing(target.open("GET", path)) as connection:
        text, again = whole(events(connection))
    expect((text, again["id"]) == (f"{nonce}\n", run["id"]), f"{text[:200]!r}")


def follower(target: Target) -> None:
    """The events of a live run, from the middle on."""
    code = "for n in 1 2 3 4; do echo $n; sleep 0.2; done"
    _, run = target.request("POST", "/v1/runs", body_of("bash", code, background=True))
    with closing(target.open("GET", f"/v1/runs/{run['id']}/events?after=1")) as connection:
        text, end = whole(events(connection), first=2)
    expect((end["status"], text) == ("succeeded", "1\n2\n3\n4\n"), f"{end['status']} {text!r}")


def insists(target: Target) -> None:
    """Asks for the same run twice, and gets the same one."""
    nonce = target.nonce()
    body = body_of("bash", f"echo {nonce}")
    answers = [target.request("POST", "/v1/runs", body, **{"Idempotency-Key": nonce}) for _ in "12"]
    expect([status for status, _ in answers] == [200, 200], str(answers)[:300])
    once, again = (run for _, run in answers)
    expect((once["id"], once["stdout"]) == (again["id"], f"{nonce}\n"), f"{once['id']} {again['id']}")


def health(target: Target) -> None:
    """Health is answered whatever goes on."""
    for path in ("/healthz", "/v1/health", "/v1/languages"):
        status, _ = target.request("GET", path)
        expect(status == 200, f"{path}: {status}")


def events(connection: Any) -> Iterator[dict[str, Any]]:
    """The events of an answer, in either form, as they come."""
    response = connection.getresponse()
    check_status(response)
    expect(response.status == 200, f"{response.status} {response.headers}")
    sse = (response.getheader("Content-Type") or "").startswith("text/event-stream")
    while line := response.readline():
        if sse and not line.startswith(b"data:"):
            continue
        yield json.loads(line.removeprefix(b"data:"))


def whole(found: Iterator[dict[str, Any]], *, first: int = 1) -> tuple[str, dict[str, Any]]:
    """All of a stream: what was written to stdout, and the run of its one last event."""
    seen = list(found)
    expect(bool(seen), "a stream without events")
    expect(seen[0]["seq"] == first, f"a stream begins with {seen[0]['seq']}")
    expect(all(b["seq"] == a["seq"] + 1 for a, b in pairwise(seen)), "a stream's numbers have a gap")
    last = [event["event"] in {"result", "error"} for event in seen]
    expect(last.count(True) == 1 and last[-1], f"a stream closes with {seen[-1]['event']}")
    expect(seen[-1]["event"] == "result", f"the service failed: {seen[-1]['data']}")
    return "".join(event["data"] for event in seen if event["event"] == "stdout"), ended(seen[-1]["data"])


CLIENTS = (hello, conversation, failure, stream, server_sent, background, follower, insists, health)
