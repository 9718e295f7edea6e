"""Faults between api and worker that a real worker cannot be made to show: drops, garbage, restarts."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from dispatch import ClientGone, WorkerLost, WorkerUnavailable
from dispatch import connection as connection_module
from dispatch import worker_client as client_module
from dispatch.connection import LEAVE
from dispatch.unix import UnixDispatcher
from protocol.codec import decode_job
from protocol.job import Job, JobFile
from protocol.result import Refusal

JOB = Job(run_id="run_1", language="python", code="print(1)")
RESULT = {"result": {"status": "succeeded", "stdout": "1\n"}}


class Peer:
    """A worker made of one function per connection, counting the whole lines it read; what is not answered apart."""

    def __init__(self, path):
        self.path = str(path)
        self.lines: list[dict] = []
        self.acknowledged: list[str] = []
        self.connections = 0
        self.closed = threading.Event()
        self._live: list[socket.socket] = []
        self._listener = None

    def start(self, serve):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(16)
        threading.Thread(target=self._accept, args=(self._listener, serve), daemon=True).start()

    def _accept(self, listener, serve):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            self._live.append(connection)
            threading.Thread(target=self._serve, args=(connection, serve), daemon=True).start()

    def _serve(self, connection, serve):
        reader = connection.makefile("rb")
        try:
            serve(self, connection, reader)
        finally:
            reader.close()
            connection.close()
            self.closed.set()

    def read(self, reader):
        while (line := reader.readline()) and (message := json.loads(line)).get("op") in ("ack", "leave"):
            if message["op"] == "ack":
                self.acknowledged.append(message["run_id"])
        if line:
            self.lines.append(message)
        return line

    def stop(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        os.unlink(self.path)
        for connection in self._live:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def peer(tmp_path):
    made = Peer(tmp_path / "worker.sock")
    yield made
    if made._listener is not None and made._listener.fileno() >= 0:
        made.stop()


@pytest.fixture
def dispatcher(peer):
    made = UnixDispatcher(peer.path, queue_wait_s=1)
    yield made
    made.close()


def say(connection, *messages):
    connection.sendall(b"".join(json.dumps(message).encode() + b"\n" for message in messages))


def answer(peer, connection, reader, *messages):
    while peer.read(reader):
        say(connection, *(messages or (RESULT,)))


@contextmanager
def client_pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_runs_share_one_kept_connection(peer, dispatcher):
    peer.start(answer)
    for _ in range(5):
        assert dispatcher.run(JOB) == RESULT["result"]
    assert peer.connections == 1
    assert [line["job"]["run_id"] for line in peer.lines] == ["run_1"] * 5


def test_the_job_arrives_as_it_was(peer, dispatcher):
    peer.start(answer)
    job = Job(
        run_id="run_2",
        language="node",
        entrypoint="a/b.js",
        files=(JobFile("a/b.js", bytes(range(256))),),
        args=("x", "é\n"),
        stdin="☃",
        env={"A": "b"},
        limits={"timeout_ms": 5, "cpus": 0.5},
        key="key_1",
        isolation="container",
    )
    dispatcher.run(job)
    sent = peer.lines[0]["job"]
    assert base64.b64decode(sent["files"][0]["content"]) == bytes(range(256))
    assert decode_job(sent) == job


def test_refusal_is_returned(peer, dispatcher):
    refusal = Refusal(503, "full", "overloaded", None, 3)
    peer.start(lambda p, c, r: answer(p, c, r, {"refused": refusal.to_json()}))
    assert dispatcher.run(JOB) == refusal


def test_events_come_before_the_result(peer, dispatcher):
    events = [{"event": "queued", "at": "1"}, {"event": "started", "at": "2"}]
    peer.start(lambda p, c, r: answer(p, c, r, *events, RESULT))
    seen = []
    assert dispatcher.run(JOB, on_event=seen.append) == RESULT["result"]
    assert seen == events
    assert dispatcher.run(JOB) == RESULT["result"]
    assert peer.connections == 1


def test_a_result_in_single_bytes(peer, dispatcher):
    def trickle(p, connection, reader):
        while p.read(reader):
            for byte in json.dumps(RESULT).encode() + b"\n":
                connection.sendall(bytes([byte]))

    peer.start(trickle)
    assert dispatcher.run(JOB) == RESULT["result"]


def test_large_lines_both_ways_in_linear_time(peer, dispatcher):
    text = "x" * (24 * 1024 * 1024)
    peer.start(lambda p, c, r: answer(p, c, r, {"result": {"stdout": text}}))
    began = time.process_time()
    result = dispatcher.run(Job(run_id="run_3", language="python", code="x", stdin=text))
    assert result == {"stdout": text}
    assert peer.lines[0]["job"]["stdin"] == text
    # Quadratic accumulation of 24 MiB takes minutes.
    assert time.process_time() - began < 10


def test_a_line_without_end_is_bounded(peer, dispatcher, monkeypatch):
    monkeypatch.setattr(connection_module, "MAX_LINE_BYTES", 1024 * 1024)

    def flood(p, connection, reader):
        p.read(reader)
        try:
            while True:
                connection.sendall(b"x" * 65536)
        except OSError:
            pass

    peer.start(flood)
    with pytest.raises(WorkerLost):
        dispatcher.run(JOB)
    assert peer.closed.wait(5)


def test_nobody_listens(dispatcher):
    with pytest.raises(WorkerUnavailable):
        dispatcher.run(JOB)
    with pytest.raises(WorkerUnavailable):
        dispatcher.status()


def test_a_dead_socket_file(peer, dispatcher):
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(peer.path)
    dead.close()
    with pytest.raises(WorkerUnavailable):
        dispatcher.run(JOB)


def test_a_kept_connection_of_a_dead_worker_is_replaced(peer, dispatcher):
    peer.start(answer)
    dispatcher.run(JOB)
    peer.stop()
    peer.start(answer)
    assert dispatcher.run(JOB) == RESULT["result"]
    assert len(peer.lines) == 2
    assert peer.connections == 2


def test_a_worker_that_takes_the_job_and_dies_loses_it(peer, dispatcher):
    peer.start(lambda p, c, r: p.read(r))
    with pytest.raises(WorkerLost):
        dispatcher.run(JOB)
    assert len(peer.lines) == 1
    assert peer.connections == 1


def test_lost_after_an_event(peer, dispatcher):
    def die(p, connection, reader):
        p.read(reader)
        say(connection, {"event": "queued", "at": "1"})

    peer.start(die)
    with pytest.raises(WorkerLost):
        dispatcher.run(JOB)


def test_a_worker_that_dies_on_the_way_of_its_answer(peer, dispatcher):
    def die(p, connection, reader):
        p.read(reader)
        connection.sendall(json.dumps(RESULT).encode()[:-3])

    peer.start(die)
    with pytest.raises(WorkerLost):
        dispatcher.run(JOB)


def test_a_job_that_was_never_read_was_not_started(peer, dispatcher):
    def close_unread(p, connection, reader):
        # The kernel resets a Unix stream that is closed with bytes unread.
        while not connection.recv(1, socket.MSG_PEEK):
            time.sleep(0.001)

    peer.start(close_unread)
    with pytest.raises(WorkerUnavailable):
        dispatcher.run(JOB)
    assert peer.lines == []


def test_a_job_unread_on_a_kept_connection_is_sent_again_once(peer, dispatcher):
    taken = []

    def serve(p, connection, reader):
        if not taken:
            taken.append(1)
            p.read(reader)
            say(connection, RESULT)
            # The connection stays open until the next job lies in it, unread.
            connection.recv(1, socket.MSG_PEEK)
            return
        answer(p, connection, reader)

    peer.start(serve)
    dispatcher.run(JOB)
    assert dispatcher.run(JOB) == RESULT["result"]
    assert len(peer.lines) == 2
    assert peer.connections == 2


@pytest.mark.parametrize(
    "garbage", [b"\n", b"nonsense\n", b"[]\n", b"3\n", b"{}\n", b'{"refused":{"x":1}}\n', b'{"result":3}\n']
)
def test_garbage_loses_the_run_and_the_connection(peer, dispatcher, garbage):
    def serve(p, connection, reader):
        while p.read(reader):
            connection.sendall(garbage)

    peer.start(serve)
    with pytest.raises(WorkerLost):
        dispatcher.run(JOB)
    if b"refused" not in garbage:
        assert peer.closed.wait(5)


def test_bytes_nobody_asked_for_spoil_a_kept_connection(peer, dispatcher):
    def serve(p, connection, reader):
        while p.read(reader):
            connection.sendall(json.dumps(RESULT).encode() + b"\n{}\n")

    peer.start(serve)
    dispatcher.run(JOB)
    dispatcher.run(JOB)
    assert peer.connections == 2


def test_a_client_that_leaves_cancels(peer, dispatcher):
    started = threading.Event()
    said = []

    def hang(p, connection, reader):
        p.read(reader)
        started.set()
        said.append(reader.read())

    peer.start(hang)
    with client_pair() as (ours, theirs):
        threading.Thread(target=lambda: (started.wait(5), theirs.close()), daemon=True).start()
        with pytest.raises(ClientGone):
            dispatcher.run(JOB, client_fd=ours.fileno())
    assert peer.closed.wait(5)
    assert said == [LEAVE]


def test_a_client_that_leaves_before_the_job_is_sent_says_nothing_into_it(peer, dispatcher):
    said = []
    peer.start(lambda _, connection, reader: (time.sleep(0.3), said.append(reader.read())))
    job = replace(JOB, code="x" * 4_000_000)
    with client_pair() as (ours, theirs):
        theirs.close()
        with pytest.raises(ClientGone):
            dispatcher.run(job, client_fd=ours.fileno())
    assert peer.closed.wait(5)
    assert said[0].endswith(b"xxx")


def test_a_client_that_sends_more_has_not_left(peer, dispatcher):
    def slow(p, connection, reader):
        p.read(reader)
        time.sleep(0.2)
        say(connection, RESULT)

    peer.start(slow)
    with client_pair() as (ours, theirs):
        theirs.sendall(b"GET / HTTP/1.1\r\n")
        assert dispatcher.run(JOB, client_fd=ours.fileno()) == RESULT["result"]
        assert ours.recv(3) == b"GET"


def test_an_ended_run_counts_more_than_a_client_that_left(peer, dispatcher):
    def quick(p, connection, reader):
        p.read(reader)
        say(connection, RESULT)
        reader.readline()

    peer.start(quick)

    with client_pair() as (ours, theirs):
        connection = dispatcher._connect()
        connection._send(json.dumps({"op": "run"}).encode() + b"\n")
        time.sleep(0.1)
        theirs.close()
        connection._poll.register(ours.fileno(), connection_module._GONE)
        line = connection._line(time.monotonic() + 5, answered=False)
        connection.close()
    assert json.loads(line) == RESULT


def test_no_answer_in_time(peer, dispatcher, monkeypatch):
    monkeypatch.setattr(client_module, "RUN_MARGIN_S", -1.0)
    peer.start(lambda p, c, r: [p.read(r), r.readline()])
    job = Job(run_id="run_4", language="python", code="x", limits={"timeout_ms": 100})
    with pytest.raises(WorkerLost):
        dispatcher.run(job)
    assert peer.closed.wait(5)


def test_status(peer, dispatcher):
    peer.start(lambda p, c, r: answer(p, c, r, {"status": {"engine": "oci"}}))
    assert dispatcher.status() == {"engine": "oci"}
    assert peer.lines == [{"op": "status"}]


@pytest.mark.parametrize("reply", [b"", b"x\n", b"{}\n", b'{"status":1}\n'])
def test_an_unreadable_status_is_no_worker(peer, dispatcher, reply):
    def serve(p, connection, reader):
        p.read(reader)
        connection.sendall(reply)

    peer.start(serve)
    with pytest.raises(WorkerUnavailable):
        dispatcher.status()


def test_no_descriptor_is_left_by_any_fault(peer, dispatcher):
    def odd(p, connection, reader):
        while p.read(reader):
            if len(p.lines) % 3 == 0:
                return
            say(connection, RESULT if len(p.lines) % 3 == 1 else {})

    peer.start(odd)
    dispatcher.run(JOB)
    before = _open_sockets()
    for _ in range(60):
        with suppress(WorkerLost):
            dispatcher.run(JOB)
    time.sleep(0.2)
    assert _open_sockets() <= before + 4


def _open_sockets():
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return count


def test_many_threads_share_the_pool(peer, dispatcher):
    peer.start(answer)
    failures = []

    def work():
        try:
            for _ in range(50):
                assert dispatcher.run(JOB) == RESULT["result"]
        except Exception as e:  # noqa: BLE001
            failures.append(e)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(peer.lines) == 400
    assert peer.connections <= 8
