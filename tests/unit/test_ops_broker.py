"""The check of a broker before a start, against servers that answer in one way each."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager

import pytest

from config.environment import SETTINGS
from config.settings import Settings, SettingsError
from ops.broker import HEADER, check_broker

#: The beginning of what RabbitMQ 3.10 sends.
GREETING = bytes.fromhex("01000000000201000a000a0009000001dc")


@pytest.fixture
def environ(monkeypatch):
    for name in list(os.environ):
        if name.upper() in SETTINGS:
            monkeypatch.delenv(name)
    return monkeypatch


@contextmanager
def answering(answer):
    """A server that reads the header and sends `answer`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        heard = []

        def serve():
            with server.accept()[0] as peer:
                heard.append(peer.recv(100))
                peer.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", heard
        thread.join(5)


def check(environ, hosts, scheme="amqp"):
    environ.setenv("AMQP_URL", f"{scheme}://user:n33dle@{hosts}/v")
    check_broker(Settings())


def nobody():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_without_a_broker_nothing_is_asked(environ):
    check_broker(Settings())


def test_a_broker_that_greets_is_good_and_learns_no_password(environ):
    with answering(GREETING) as (host, heard):
        check(environ, host)
    assert heard == [HEADER]


def test_one_of_several_hosts_is_enough(environ):
    with answering(GREETING) as (host, _):
        check(environ, f"{nobody()},{host}")


@pytest.mark.parametrize(
    "answer", [b"", b"AMQP\x00\x00\x09\x01", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x01\x00\x00"]
)
def test_a_server_of_another_kind_is_named(environ, answer):
    with answering(answer) as (host, _), pytest.raises(SettingsError) as caught:
        check(environ, host)
    assert (
        str(caught.value)
        == f"AMQP_URL: no broker answers ({host}: it does not speak AMQP 0-9-1): start it, or set AMQP_URL"
    )


def test_every_host_that_does_not_answer_is_named_and_no_password(environ):
    hosts = nobody(), nobody()
    with pytest.raises(SettingsError) as caught:
        check(environ, ",".join(hosts))
    assert str(caught.value).count("Connection refused") == 2
    assert all(host in str(caught.value) for host in hosts)
    assert "n33dle" not in str(caught.value)


def test_a_server_without_tls_and_files_that_cannot_be_used(environ, tmp_path):
    with answering(GREETING) as (host, _), pytest.raises(SettingsError, match="no broker answers"):
        check(environ, host, "amqps")
    environ.setenv("AMQP_CA_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(SettingsError, match=r"AMQP_CA_FILE.* cannot be used: No such file"):
        check(environ, "127.0.0.1:1", "amqps")
