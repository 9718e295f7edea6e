"""Messages that are acknowledged together, published together, and announced no more often than is of use."""

from __future__ import annotations

import threading
import time

import pika
import pytest

from config.amqp_url import parse_amqp_url
from tests.support.workers import until
from transport.acceptor import CHANGED_S, AcceptingEndpoint
from transport.access import BrokerAccess
from transport.frames import WireFrame, encode
from transport.opener import OpeningEndpoint


class Echo:
    """A worker that sends back what it gets, and an api process."""

    def __init__(self, server, queue, facts=dict):
        access = BrokerAccess(parse_amqp_url(server.url))
        self.workers, self.heard = {}, []
        self.unacknowledged_when_served = []
        self.worker = AcceptingEndpoint(access, queue, serve=self._serve, facts=facts)
        self.api = OpeningEndpoint(
            access, queue, on_worker=self._on_worker, on_worker_gone=lambda peer: self.workers.pop(peer.name)
        )
        self.worker.start()
        self.api.start()
        until(lambda: self.workers, 20)

    def _on_worker(self, peer):
        self.workers[peer.name] = peer
        self.heard.append(dict(peer.facts))

    def _serve(self, sock):
        self.unacknowledged_when_served.append(self.worker.link._unacknowledged)
        threading.Thread(target=self._answer, args=(sock,), daemon=True).start()

    def _answer(self, sock):
        with sock:
            while data := sock.recv(65536):
                sock.sendall(data)

    def open(self):
        (worker,) = self.workers.values()
        return self.api.open(worker, is_durable=True)[0]

    def stop(self):
        self.api.stop()
        self.worker.stop()


@pytest.fixture
def start(request, queue):
    def one(server, **options):
        made = Echo(server, queue, **options)
        request.addfinalizer(made.stop)
        return made

    return one


def unacknowledged(server):
    lines = server.control("-q", "list_queues", "messages_unacknowledged").split()
    return sum(int(line) for line in lines if line.isdigit())


def test_a_job_is_acknowledged_before_it_is_served_and_all_else_soon(shared_broker, start):
    echo = start(shared_broker)
    with echo.open() as sock:
        for number in range(20):
            sock.sendall(bytes([number]))
            assert sock.recv(1) == bytes([number])
        until(lambda: echo.worker.link._unacknowledged == 0, 2)
        assert unacknowledged(shared_broker) == 0
        with echo.open() as second:
            second.sendall(b"?")
            until(lambda: len(echo.unacknowledged_when_served) == 2)
    assert echo.unacknowledged_when_served == [0, 0]


def test_what_comes_again_behind_a_lost_connection_is_dropped(shared_broker, start):
    """The messages of the last moment were not acknowledged when both connections are closed."""
    echo = start(shared_broker)
    sent, ended = bytearray(), threading.Event()
    with echo.open() as sock:

        def send():
            number = 0
            while not ended.is_set():
                piece = number.to_bytes(4, "big")
                sock.sendall(piece)
                sent.extend(piece)
                number += 1
                time.sleep(0.001)

        sender = threading.Thread(target=send)
        sender.start()
        arrived = bytearray(sock.recv(65536))
        shared_broker.control("close_all_connections", "a test")
        until(lambda: not echo.api.is_connected or not echo.worker.is_connected, 20)
        until(lambda: echo.api.is_connected and echo.worker.is_connected, 20)
        ended.set()
        sender.join()
        while len(arrived) < len(sent):
            more = sock.recv(65536)
            assert more
            arrived += more
        assert arrived == sent
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_what_a_hanging_broker_does_not_take_is_sent_when_it_goes_on(broker, start):
    """More than the kernel holds of a connection, in pieces that it takes in part."""
    echo = start(broker)
    streams = [echo.open() for _ in range(64)]
    piece = bytes(range(256)) * 1000
    for sock in streams:
        sock.sendall(b"?")
        assert sock.recv(1) == b"?"
    broker.hang()
    try:
        for sock in streams:
            sock.sendall(piece[: 200 * 1000])
        link = echo.api.link
        until(lambda: link._connection._transport.get_write_buffer_size() > 0, 4)
    finally:
        broker.go_on()
    for sock in streams:
        arrived = bytearray()
        while len(arrived) < 200 * 1000:
            more = sock.recv(65536)
            assert more
            arrived += more
        assert arrived == piece[: 200 * 1000]
        sock.close()


def test_an_announcement_that_the_broker_held_up_makes_no_job_late(shared_broker, start):
    echo = start(shared_broker)
    (worker,) = echo.workers.values()
    held_up = {"clock_ms": round(time.time() * 1000) - 60_000}
    connection = pika.BlockingConnection(pika.URLParameters(shared_broker.url))
    hello = WireFrame("hello", reply_to=worker.queue, sender=worker.name, facts=held_up)
    connection.channel().basic_publish("", echo.api.queue_name(), encode(hello))
    connection.close()
    until(lambda: any(facts["clock_ms"] == held_up["clock_ms"] for facts in echo.heard))
    with echo.open() as sock:
        sock.sendall(b"?")
        assert sock.recv(1) == b"?"


def test_facts_that_change_all_the_time_are_announced_at_intervals(shared_broker, start):
    began = time.monotonic()
    echo = start(shared_broker, facts=lambda: {"load": int((time.monotonic() - began) * 1000)})
    time.sleep(0.5)
    before, seconds = len(echo.heard), 3.0
    time.sleep(seconds)
    heard = len(echo.heard) - before
    # A tick late at most, and the announcement of every two seconds.
    assert seconds / (CHANGED_S + 0.3) <= heard <= seconds / CHANGED_S + 3
