"""Many small pieces of output travel together, and none waits for long: the agent's server on real pipes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time

import pytest

LINE = b"123456\n"


class Host:
    """The host's end of the stream of a session whose one task has these pipes."""

    def __init__(self) -> None:
        from agent import frames
        from agent.link import HostStream, StreamClosed
        from agent.session.server import SessionServer
        from agent.session.tasks import Task

        self.frames = frames
        self._socket, theirs = socket.socketpair()
        self._theirs = theirs
        wake, self._wake = os.pipe()
        self._write_end = theirs.dup()
        stream = HostStream(theirs.fileno(), self._write_end.fileno())
        server = SessionServer(stream, wake, frames.pack([frames.pack([])]))
        notes, self.keeper = os.pipe()
        for fd in (wake, notes):
            os.set_blocking(fd, False)
        self.pipes = Pipes()
        self.task = Task(server, 5, 4_000_000, self.pipes, notes)
        server.tasks[5] = self.task
        self.task.update()
        self._closed = StreamClosed
        self._thread = threading.Thread(target=self._serve, args=(server,), daemon=True)
        self._thread.start()
        self._inbox = bytearray()
        assert self.receive()[0][1] == frames.IN_SESSION

    def _serve(self, server):
        try:
            server.serve()
        except self._closed:
            return

    def receive(self) -> list[tuple[int, bytes, bytes]]:
        """Wait for frames: (channel, kind, payload) each."""
        self._socket.settimeout(10)
        while not (found := list(self.frames.take_channel_frames(self._inbox))):
            data = self._socket.recv(1 << 20)
            assert data, "the server has ended"
            self._inbox += data
        return found

    def close(self) -> None:
        self._socket.close()
        self._thread.join(10)
        self._theirs.close()
        self._write_end.close()


class Pipes:
    """The pipes of a kernel, and their ends in it."""

    def __init__(self) -> None:
        _, self.stdin = os.pipe()
        self.stdout, self.out = os.pipe()
        self.stderr, self.err = os.pipe()
        self.replies, self.reply = os.pipe()
        for fd in (self.stdin, self.stdout, self.stderr, self.replies):
            os.set_blocking(fd, False)


@pytest.fixture
def host(fresh_agent):
    made = Host()
    yield made
    made.close()


def write(fd, count, pause_s=0.0):
    for _ in range(count):
        os.write(fd, LINE)
        if pause_s:
            time.sleep(pause_s)


PROGRAM = """
import os, time
for _ in range(5000):
    os.write(1, b"123456\\n")
    until = time.perf_counter() + 0.00005
    while time.perf_counter() < until:
        pass
os.write({reply}, b"done")
"""


def test_thousands_of_lines_are_some_hundred_frames_and_the_reply_is_behind_them(host):
    code = PROGRAM.format(reply=host.pipes.reply)
    kernel = subprocess.Popen(
        [sys.executable, "-c", code], stdout=host.pipes.out, pass_fds=[host.pipes.reply]
    )  # a process of its own: only then are the lines read one by one where nothing rests
    found = []
    while not found or found[-1][1] != host.frames.REPLY:
        found += host.receive()
    assert kernel.wait(10) == 0
    output = [payload for _, kind, payload in found if kind == host.frames.STDOUT]
    assert b"".join(output) == LINE * 5000
    assert len(output) < 300
    assert [kind for _, kind, _ in found].index(host.frames.REPLY) == len(found) - 1


def test_a_reply_does_not_wait_for_the_rest_that_its_output_has(host):
    write(host.pipes.out, 100)
    time.sleep(0.1)
    host.receive()
    late = []
    for _ in range(20):
        write(host.pipes.out, 30)
        began = time.monotonic()
        os.write(host.pipes.reply, b"done")
        while host.receive()[-1][1] != host.frames.REPLY:
            pass
        late.append(time.monotonic() - began)
    assert sorted(late)[10] < 0.005


def arrivals(host, count, pause_s):
    """Return for each of so many lines how long it took to arrive."""
    written = []

    def program():
        for _ in range(count):
            written.append(time.monotonic())
            write(host.pipes.out, 1)
            time.sleep(pause_s)

    thread = threading.Thread(target=program)
    thread.start()
    arrived = []
    while len(arrived) < count:
        lines = sum(len(payload) // len(LINE) for _, _, payload in host.receive())
        arrived += [time.monotonic()] * lines
    thread.join()
    return sorted(end - begin for begin, end in zip(written, arrived, strict=True))


@pytest.mark.parametrize(
    ("pause_s", "usual_s"), [(0.03, 0.003), (0.001, 0.02), (0.0001, 0.02)], ids=["apart", "close", "closer"]
)
def test_no_line_waits_for_long(host, pause_s, usual_s):
    late = arrivals(host, 60 if pause_s > 0.01 else 600, pause_s)
    assert late[len(late) // 2] < usual_s
    assert late[-len(late) // 20] < 0.04, "on a machine that does other work as well"


def test_large_pieces_do_not_rest(host):
    piece = b"x" * 8192
    threading.Thread(target=lambda: [os.write(host.pipes.out, piece) for _ in range(30)]).start()
    size = 0
    while size < 30 * len(piece):
        size += sum(len(payload) for _, _, payload in host.receive())
        assert not host.task.is_resting


def test_a_rest_is_shorter_for_a_program_that_it_holds_up(fresh_agent):
    from agent.session import bursts

    burst, now, rests = bursts.Burst(), 100.0, []
    for _ in range(6):
        while not (rest_s := burst.note(10, now)):
            pass
        rests.append(rest_s)
        now += rest_s
        burst.note(bursts.FULL_BYTES, now)
    assert rests[0] == bursts.MAX_REST_S
    assert rests == sorted(rests, reverse=True)
    while not (rest_s := burst.note(10, now)):
        pass
    assert rest_s >= bursts.MIN_REST_S
    for _ in range(8):
        now += rest_s
        while not (rest_s := burst.note(10, now)):
            pass
    assert rest_s == bursts.MAX_REST_S
