"""Clients that are slow, or that leave: nothing of theirs stays behind."""

from __future__ import annotations

import json
import time
from contextlib import closing

from tests.load.load_good import events, whole
from tests.load.load_http import Target, body_of, expect


def leaves_its_run(target: Target) -> None:
    """Goes away while it waits. Its run has no name for it; that none lives on is seen at the end."""
    with closing(target.open("POST", "/v1/runs", body_of("bash", "sleep 55"))):
        time.sleep(target.rng.uniform(0, 0.5))


def drops_its_stream(target: Target) -> None:
    """Goes away in the middle of a stream: its run is cancelled."""
    body = body_of("bash", "while :; do echo $((n++)); sleep 0.01; done", stream=True)
    with closing(target.open("POST", "/v1/runs", body)) as connection:
        some = events(connection)
        run_id = next(some)["data"]["id"]
        for _ in range(target.rng.randrange(20)):
            next(some)
        some.close()
    run = target.await_end(run_id)
    expect((run["status"], run["cancelled"]) == ("cancelled", True), f"{run['status']} after its client left")


def cancels(target: Target) -> None:
    """Ends its run in the background, asleep or at work; to do it twice changes nothing."""
    code = target.rng.choice(["sleep 55", "trap '' TERM INT; while :; do :; done"])
    _, run = target.request("POST", "/v1/runs", body_of("bash", code, background=True))
    time.sleep(target.rng.uniform(0, 0.5))
    for _ in range(2):
        status, found = target.request("POST", f"/v1/runs/{run['id']}/cancel")
        expect((status, found["status"]) == (200, "cancelled"), f"{status} {found.get('status')}")


def forgets(target: Target) -> None:
    """Never asks for its run in the background; looked at here all the same, as every run must end."""
    body = body_of("python", "import time; time.sleep(1); print(1)", background=True)
    _, run = target.request("POST", "/v1/runs", body)
    time.sleep(2)
    expect(target.await_end(run["id"])["stdout"] == "1\n", "a forgotten run is not what it was")


def reads_slowly(target: Target) -> None:
    """Takes seconds for a stream that the program has written at once."""
    body = body_of("python", "for n in range(150000): print(n)", stream=True)
    with closing(target.open("POST", "/v1/runs", body)) as connection:
        time.sleep(1)
        text, run = whole(slowly(events(connection)))
    expect(run["status"] == "succeeded", f"{run['status']} of a stream read slowly")
    expect(text == run["stdout"], "a stream read slowly is not what the run says")


def slowly(found):
    for event in found:
        time.sleep(0.05)
        yield event


def trickles(target: Target) -> None:
    """Sends its body in small pieces, over seconds; it is waited for."""
    nonce = target.nonce()
    body = body_of("bash", f"echo {nonce}")
    with closing(target.connect()) as connection:
        connection.sendall(target.head(len(body)))
        for start in range(0, len(body), 10):
            connection.sendall(body[start : start + 10])
            time.sleep(0.2)
        answer = read_answer(connection)
    if answer.startswith(b"HTTP/1.1 200"):
        run = json.loads(answer.partition(b"\r\n\r\n")[2])
        expect(run["stdout"] == f"{nonce}\n", f"{run['status']} {run['stdout'][:100]!r}")
    else:
        expect(
            answer.startswith((b"HTTP/1.1 429", b"HTTP/1.1 503")) and b"\r\nretry-after:" in answer.lower(),
            f"{answer[:300]!r}",
        )


def read_answer(connection) -> bytes:
    answer = b""
    while True:
        head, found, rest = answer.partition(b"\r\n\r\n")
        lengths = [
            line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        ]
        if found and lengths and len(rest) >= int(lengths[0]):
            return answer
        piece = connection.recv(65536)
        expect(bool(piece), f"the connection ended without an answer: {answer[:200]!r}")
        answer += piece


def stops_half_way(target: Target) -> None:
    """Goes away in the middle of its head, or of its body."""
    body = body_of("bash", "echo never")
    whole_request = target.head(len(body)) + body
    with closing(target.connect()) as connection:
        connection.sendall(whole_request[: target.rng.randrange(1, len(whole_request) - 1)])
        time.sleep(target.rng.uniform(0, 1))


def lingers(target: Target) -> None:
    """Many connections that say nothing."""
    idle = [target.connect() for _ in range(30)]
    time.sleep(1)
    for connection in idle:
        connection.close()


CLIENTS = (
    *(leaves_its_run, drops_its_stream, cancels, forgets),
    *(reads_slowly, trickles, stops_half_way, lingers),
)
