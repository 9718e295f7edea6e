"""The tasks of a session as PID 1 keeps them: how they end, in whatever order their ends are noticed."""

import os
import signal

import pytest


class Server:
    """What a task needs of its server: it notes what is sent, and which tasks are over."""

    held_back = False

    def __init__(self):
        self.sent = []
        self.forgotten = []

    def watch(self, *_):
        pass

    def send(self, channel, kind, payload=b""):
        self.sent.append((channel, kind, payload))

    def forget(self, task):
        self.forgotten.append(task)

    def expect_end(self, task):
        pass


class Streams:
    def __init__(self):
        (_, self.stdin), (self.stdout, self.out), (self.stderr, self.err) = (os.pipe() for _ in range(3))
        for fd in (self.stdout, self.stderr):
            os.set_blocking(fd, False)


@pytest.fixture
def made(fresh_agent):
    from agent import frames
    from agent.session.tasks import Task

    streams = Streams()
    notes, keeper = os.pipe()
    os.set_blocking(notes, False)
    server = Server()
    return Task(server, 5, 4_000_000, streams, notes), server, streams, keeper, frames


def note(keeper, kind, number):
    os.write(keeper, kind + number.to_bytes(4, "big"))


@pytest.mark.parametrize("read_before", [True, False])
def test_a_task_closes_once_whether_its_last_note_is_read_before_its_end_or_with_it(made, read_before):
    task, server, streams, keeper, frames = made
    note(keeper, b"S", 12)
    note(keeper, b"X", 3 << 8)
    for fd in (keeper, streams.out, streams.err):
        os.close(fd)
    if read_before:
        task.read_note()
        task.read_note()
    assert task.child_ended(0) is True
    kinds = [kind for _, kind, _ in server.sent]
    assert kinds == [frames.STARTED, frames.EXIT]
    assert server.sent[-1][2] == frames.pack([b"exit", b"3"])
    assert server.forgotten == [task]


def test_a_keeper_that_ends_before_its_program_says_so(made):
    task, server, streams, keeper, _ = made
    note(keeper, b"S", 12)
    for fd in (keeper, streams.out, streams.err):
        os.close(fd)
    assert task.child_ended(signal.SIGKILL) is False
    assert server.forgotten == [task]


def test_a_process_that_is_killed_before_its_keeper_listens_was_killed(made):
    task, server, streams, keeper, frames = made
    for fd in (keeper, streams.out, streams.err):
        os.close(fd)
    task.child_ended(signal.SIGUSR1)
    assert server.sent[-1][1:] == (frames.EXIT, frames.pack([b"signal", b"9"]))
