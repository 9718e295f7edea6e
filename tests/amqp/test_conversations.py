"""Conversations through a real broker, between an opening and an accepting end in this process."""

from __future__ import annotations

import logging
import threading
import time

import pika
import pytest

from config.amqp_url import parse_amqp_url
from config.settings import SettingsError, load_settings
from tests.support.rabbit import RabbitMQ
from tests.support.workers import until
from transport import opener
from transport.acceptor import AcceptingEndpoint
from transport.access import BrokerAccess, broker_access
from transport.frames import WireFrame, encode
from transport.opener import OpeningEndpoint
from transport.window import WINDOW_BYTES


class Ends:
    """Both sides; the worker's serves each conversation on a thread by `answer(sock)`."""

    def __init__(self, server, queue, answer):
        self.access = BrokerAccess(parse_amqp_url(server.url))
        self.queue, self.answer = queue, answer
        self.served = 0
        self.workers = {}
        self.worker = AcceptingEndpoint(self.access, queue, serve=self._serve, facts=dict)
        self.api = OpeningEndpoint(
            self.access,
            queue,
            on_worker=lambda peer: self.workers.__setitem__(peer.name, peer),
            on_worker_gone=lambda peer: self.workers.pop(peer.name),
        )
        self.worker.start()
        self.api.start()
        until(lambda: self.workers, 20)

    def _serve(self, sock):
        self.served += 1
        threading.Thread(target=self._answer, args=(sock,), daemon=True).start()

    def _answer(self, sock):
        with sock:
            self.answer(sock)

    def open(self, **options):
        (worker,) = self.workers.values()
        return self.api.open(worker, **options)

    def stop(self):
        self.api.stop()
        self.worker.stop()


@pytest.fixture
def start(request, queue):
    def one(server, answer):
        made = Ends(server, queue, answer)
        request.addfinalizer(made.stop)
        return made

    return one


def echo(sock):
    while data := sock.recv(65536):
        sock.sendall(data)


def read(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        assert more, f"it ended after {len(data)} bytes"
        data += more
    return data


def test_bytes_go_both_ways_in_order_and_the_end_arrives(shared_broker, start):
    ends = start(shared_broker, echo)
    sock, conversation = ends.open()
    sent = bytes(range(256)) * 8192
    writer = threading.Thread(target=sock.sendall, args=(sent,))
    writer.start()
    with sock:
        assert read(sock, len(sent)) == sent
        writer.join()
    until(lambda: not ends.worker.conversations and not ends.api.conversations)
    assert conversation.is_begun


def test_the_worker_hangs_up_behind_its_last_byte(shared_broker, start):
    ends = start(shared_broker, lambda sock: (sock.recv(1), sock.sendall(b"x" * 1_000_000)))
    sock, _ = ends.open()
    with sock:
        sock.sendall(b"?")
        assert read(sock, 1_000_000) == b"x" * 1_000_000
        assert sock.recv(1) == b""
    until(lambda: not ends.worker.conversations and not ends.api.conversations)


def test_a_reader_that_does_not_read_holds_the_writer_up(shared_broker, start):
    sent = []

    def write(sock):
        sock.recv(1)
        sock.setblocking(False)
        while len(sent) < 200:
            try:
                sent.append(sock.send(b"x" * 65536))
            except BlockingIOError:
                time.sleep(0.01)
        sock.setblocking(True)

    ends = start(shared_broker, write)
    sock, _ = ends.open()
    with sock:
        sock.sendall(b"?")
        until(lambda: sum(sent) > WINDOW_BYTES)
        time.sleep(0.5)
        held = sum(sent)
        # The window, and what the kernel holds between two ends of a socket pair at either side.
        assert held < 4 * WINDOW_BYTES
        until(lambda: read(sock, 65536) and len(sent) == 200, 30)


def test_a_broker_that_is_killed_loses_no_byte(broker, start):
    ends = start(broker, echo)
    sock, _ = ends.open()
    with sock:
        sock.sendall(b"before")
        assert read(sock, 6) == b"before"
        broker.kill()
        sock.sendall(b"while it is away")
        until(lambda: not ends.api.is_connected)
        broker.start()
        back_at = time.monotonic()
        assert read(sock, 16) == b"while it is away"
        assert time.monotonic() - back_at < 5
        sock.sendall(b"after")
        assert read(sock, 5) == b"after"


def channel_to(server):
    connection = pika.BlockingConnection(pika.URLParameters(server.url))
    return connection, connection.channel()


def opening(ends, name, **fields):
    return WireFrame("open", name, reply_to=ends.api.queue_name(), sender=ends.api.name, payload=b"!", **fields)


def test_a_message_that_comes_again_begins_nothing_again(shared_broker, start):
    ends = start(shared_broker, echo)
    connection, channel = channel_to(shared_broker)
    for _ in range(3):
        channel.basic_publish("", ends.worker.queue_name(), encode(opening(ends, "a" * 32)))
    channel.basic_publish("", ends.worker.queue_name(), encode(opening(ends, "b" * 32)))
    until(lambda: ends.served == 2)
    time.sleep(0.2)
    assert ends.served == 2
    connection.close()


def test_a_late_job_is_not_begun_and_its_sender_knows(shared_broker, start, caplog):
    ends = start(shared_broker, echo)
    (worker,) = ends.workers.values()
    worker.facts["clock_ahead_ms"] = -60_000.0  # as if the message had waited for a minute
    sock, conversation = ends.open(is_durable=True)
    with sock, caplog.at_level(logging.WARNING):
        sock.sendall(b"job")
        assert sock.recv(1) == b""
    assert not conversation.is_begun
    assert conversation.reason == "the worker took it too late"
    assert ends.served == 0
    assert "came too late" in caplog.text


def test_what_the_worker_never_had_is_known_not_to_be_begun_and_never_will_be(shared_broker, start):
    ends = start(shared_broker, echo)
    sock, conversation = ends.open(is_durable=True)
    publish, lost = ends.api.link.publish, []

    def lose(exchange, key, body, **options):
        if not lost:
            lost.append(body)
            return True
        return publish(exchange, key, body, **options)

    ends.api.link.publish = lose
    with sock:
        sock.sendall(b"job")
        assert sock.recv(1) == b""
    assert not conversation.is_begun
    connection, channel = channel_to(shared_broker)
    channel.basic_publish("", ends.worker.queue_name(), lost[0])
    time.sleep(0.3)
    assert ends.served == 0
    connection.close()


def test_a_worker_that_may_have_forgotten_a_job_is_not_believed(shared_broker, start, monkeypatch):
    monkeypatch.setattr(opener, "REMEMBERED_S", 0.5)
    ends = start(shared_broker, echo)
    sock, conversation = ends.open(is_durable=True)
    ends.api.link.publish, publish = (lambda *_arguments, **_options: True), ends.api.link.publish
    with sock:
        sock.sendall(b"job")
        until(lambda: conversation.is_opened)
        ends.api.link.publish = publish
        assert sock.recv(1) == b""
    assert conversation.is_begun
    assert ends.served == 0


def test_a_queue_that_is_gone_is_known_at_once(shared_broker, start):
    ends = start(shared_broker, echo)
    connection, channel = channel_to(shared_broker)
    channel.queue_delete(ends.worker.queue_name())
    sock, conversation = ends.open(is_durable=True)
    with sock:
        sock.sendall(b"job")
        assert sock.recv(1) == b""
    assert not conversation.is_begun
    connection.close()


def test_a_job_of_a_newer_version_is_sent_back_and_reported(shared_broker, start, caplog):
    ends = start(shared_broker, echo)
    sock, conversation = ends.open()
    publish = ends.api.link.publish

    def newer(exchange, key, body, **options):
        return publish(exchange, key, body.replace(b'"v":1', b'"v":2'), **options)

    ends.api.link.publish = newer
    with sock, caplog.at_level(logging.WARNING):
        sock.sendall(b"job")
        assert sock.recv(1) == b""
    assert (conversation.is_begun, ends.served) == (False, 0)
    assert "older version" in conversation.reason
    assert "version 2; this process understands 1" in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        b"", b"no line", b"[]\n", b"{}\n", b'{"v":1}\n', b'{"v":1,"t":"x"}\n', b'{"v":"1","t":"data"}\n',
        b'{"v":1,"t":"open","c":7}\n', b'{"v":1,"t":"open"}\nx', b'{"v":1,"t":"data","c":"a","o":-1}\n',
        b'{"v":1,"t":"data","c":"a","k":1e9}\n', b'{"v":1,"t":"hello"}\n', b'{"v":1,"t":"resume","c":"a","r":"x"}\n',
        b'{"v":1,"t":"hello","s":"y","x":[]}\n', b'{"v":1,"t":"bye","s":"y"}\n', b"\xff\n", b"x" * 2_000_000,
    ],
)  # fmt: skip
def test_a_message_of_a_stranger_changes_nothing(shared_broker, start, body):
    ends = start(shared_broker, echo)
    connection, channel = channel_to(shared_broker)
    for end in (ends.worker, ends.api):
        channel.basic_publish("", end.queue_name(), body)
    connection.close()
    sock, _ = ends.open()
    with sock:
        sock.sendall(b"hello")
        assert read(sock, 5) == b"hello"
    assert ends.served == 1


@pytest.mark.parametrize("kind", ["data", "unknown", "late", "newer", "resumed", "credit"])
def test_a_forged_reply_does_not_find_its_conversation(shared_broker, start, kind):
    ends = start(shared_broker, echo)
    sock, conversation = ends.open()
    with sock:
        sock.sendall(b"1")
        assert read(sock, 1) == b"1"
        connection, channel = channel_to(shared_broker)
        for name in ("", "a" * 32, conversation.name[:-1]):
            forged = WireFrame(kind, name, offset=1, payload=b"forged")
            channel.basic_publish("", ends.api.queue_name(), encode(forged))
        connection.close()
        sock.sendall(b"2")
        assert read(sock, 1) == b"2"


def test_a_side_that_sends_more_than_its_window_is_cut(shared_broker, start, caplog):
    ends = start(shared_broker, lambda sock: time.sleep(5))
    sock, conversation = ends.open()
    with sock, caplog.at_level(logging.WARNING):
        sock.sendall(b"?")
        until(lambda: ends.served)
        connection, channel = channel_to(shared_broker)
        for offset in range(1, 4 * WINDOW_BYTES, WINDOW_BYTES):
            flood = WireFrame("data", conversation.name, offset=offset, payload=b"x" * WINDOW_BYTES)
            channel.basic_publish("", ends.worker.queue_name(), encode(flood))
        connection.close()
        assert sock.recv(1) == b""
    assert "a conversation is closed: " in caplog.text


def test_a_wrong_password_is_said_once_and_never_shown(shared_broker, queue, caplog):
    url = shared_broker.url.replace("of-the-tests", "n33dle")
    end = OpeningEndpoint(
        BrokerAccess(parse_amqp_url(url)), queue, on_worker=lambda peer: None, on_worker_gone=lambda peer: None
    )
    with caplog.at_level(logging.DEBUG):
        end.start()
        until(lambda: "refuses the account" in caplog.text, 20)
        time.sleep(2)
        end.stop()
    assert caplog.text.count("refuses the account of AMQP_URL") == 1
    assert "n33dle" not in caplog.text


def test_a_name_that_was_declared_otherwise_is_explained_and_found_when_it_is_free(shared_broker, queue, caplog):
    connection, channel = channel_to(shared_broker)
    channel.exchange_declare(f"{queue}.workers", "direct", durable=False)
    end = OpeningEndpoint(
        BrokerAccess(parse_amqp_url(shared_broker.url)),
        queue,
        on_worker=lambda peer: None,
        on_worker_gone=lambda peer: None,
    )
    with caplog.at_level(logging.WARNING):
        end.start()
        until(lambda: "declared otherwise before" in caplog.text, 20)
        assert not end.is_connected
        channel.exchange_delete(f"{queue}.workers")
        until(lambda: end.is_connected, 10)
        end.stop()
    assert caplog.text.count("declared otherwise") < 3
    connection.close()


def end_at(access, queue):
    return OpeningEndpoint(access, queue, on_worker=lambda peer: None, on_worker_gone=lambda peer: None)


def test_the_next_host_is_tried_when_one_does_not_answer(shared_broker, queue):
    url = shared_broker.url.replace("@127.0.0.1:", "@127.0.0.1:1,127.0.0.1:")
    end = end_at(BrokerAccess(parse_amqp_url(url)), queue)
    end.start()
    until(lambda: end.is_connected, 10)
    end.stop()


@pytest.mark.slow
def test_tls_with_the_certificates_of_both_sides(request, queue, caplog, monkeypatch):
    server = RabbitMQ(tls=True)
    request.addfinalizer(server.remove)
    monkeypatch.setenv("AMQP_URL", server.tls_url)
    monkeypatch.setenv("AMQP_CA_FILE", str(server.ca))
    without = end_at(broker_access(load_settings()), queue)
    with caplog.at_level(logging.WARNING):
        without.start()
        until(lambda: "no connection to the broker" in caplog.text, 20)
        time.sleep(1)
        assert not without.is_connected
        without.stop()
    monkeypatch.setenv("AMQP_CERT_FILE", str(server.certificate))
    monkeypatch.setenv("AMQP_KEY_FILE", str(server.key))
    proven = end_at(broker_access(load_settings()), queue)
    proven.start()
    until(lambda: proven.is_connected, 20)
    proven.stop()
    monkeypatch.delenv("AMQP_CA_FILE")
    untrusted = end_at(broker_access(load_settings()), f"{queue}x")
    with caplog.at_level(logging.WARNING):
        untrusted.start()
        until(lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text, 20)
        untrusted.stop()
    monkeypatch.setenv("AMQP_CERT_FILE", "/nowhere")
    with pytest.raises(SettingsError, match="AMQP_CERT_FILE"):
        broker_access(load_settings())
