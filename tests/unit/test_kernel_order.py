"""The order of what a kernel sends: output and results that arrive together are passed on as they were written."""

from __future__ import annotations

from sandbox.sessions.kernel import Kernel
from sandbox.sessions.kernel_replies import encode_message


class Arrived:
    """Stands for a channel on which all of an answer has arrived at once."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)
        self.end = None
        self.on_arrival = None

    def write(self, data):
        return len(data)

    def take(self):
        pieces, self.pieces = self.pieces, []
        return pieces


def reply(kind):
    return ("reply", encode_message({"type": kind}, {}))


def test_output_and_messages_that_arrive_together_keep_their_order():
    kernel = Kernel(Arrived(("stdout", b"1"), reply("display"), ("stdout", b"2"), reply("done"), ("stdout", b"3")))
    seen = []
    answer = kernel.ask(
        {"op": "execute"},
        {},
        last="done",
        on_output=lambda name, data: seen.append(data),
        on_message=lambda message: seen.append(message.header["type"]),
        between=lambda channel: True,
    )
    assert (seen, answer.header["type"]) == ([b"1", "display", b"2", b"3"], "done")


def test_messages_behind_the_answer_are_taken_apart_and_dropped():
    first, rest = reply("done")[1] + reply("display")[1][:5], reply("display")[1][5:]
    channel = Arrived(("reply", first))
    kernel = Kernel(channel)
    facts = {"last": "done", "on_output": seen_nothing, "on_message": seen_nothing, "between": lambda channel: True}
    assert kernel.ask({}, {}, **facts).header["type"] == "done"
    channel.pieces = [("reply", rest), reply("done")]
    assert kernel.ask({}, {}, **(facts | {"on_message": lambda message: None})).header["type"] == "done"


def seen_nothing(*given):
    raise AssertionError(given)
