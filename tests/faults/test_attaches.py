"""Clients attached to processes of sessions while parts of the service, or the clients themselves, are killed."""

from __future__ import annotations

import contextlib
import socket
import struct

import pytest

from tests.faults.test_sessions import create, kill, status_of
from tests.support.websocket import Refused, WebSocket
from tests.support.workers import until

MOST_ATTACHES = 4
GONE = 1001


@pytest.fixture
def started(shared_service):
    """A service, a session in it, and a process there that says its name and repeats its input."""
    service = shared_service()
    path = create(service)
    reply = service.post(f"{path}/processes", json={"argv": ["cat"], "stdin_open": True, "tag": "echo"})
    assert reply.status == 201, reply.body
    yield service, path, reply.body["id"]
    with contextlib.suppress(OSError):
        service.request("DELETE", path)


def attached(service, path, process):
    return WebSocket(service, f"{path}/processes/{process}/attach", token=service.token)


def test_a_killed_worker_ends_the_connection_and_the_session(started):
    service, path, process = started
    with attached(service, path, process) as client:
        kill(service, "worker")
        until(lambda: _has_ended(client), 20)
    until(lambda: (status_of(service, path) or {}).get("end_reason") == "worker_lost", 40)
    with pytest.raises(Refused) as refused:
        attached(service, path, process)
    assert refused.value.status == 410


def test_a_killed_api_ends_the_connection_and_not_the_process(started):
    service, path, process = started
    with attached(service, path, process) as client:
        kill(service, "api")
        until(lambda: _has_ended(client), 20)
    with attached(service, path, process) as again:
        again.send(b"typed\n")
        again.until(lambda: b"typed" in again.data)
    assert service.get(f"{path}/processes/{process}").body["status"] == "running"


def test_a_deleted_session_closes_with_going_away(started):
    service, path, process = started
    with attached(service, path, process) as client:
        assert service.request("DELETE", path).status == 200
        client.until(lambda: client.closed is not None, 20)
        assert client.closed[0] == GONE


def test_clients_that_are_gone_without_a_word_give_their_places_to_others(started):
    service, path, process = started
    for _ in range(3):
        clients = [attached(service, path, process) for _ in range(MOST_ATTACHES)]
        with pytest.raises(Refused) as refused:
            attached(service, path, process)
        assert refused.value.status == 409
        for client in clients:  # a reset, as of a machine that has crashed and is back
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sock.close()
        until(lambda: _has_place(service, path, process), 20)
    assert service.get(f"{path}/processes/{process}").body["status"] == "running"


def _has_place(service, path, process):
    try:
        attached(service, path, process).sock.close()
    except Refused:
        return False
    return True


def _has_ended(client):
    """Return whether nothing more comes: a close frame, the end of the stream, or a reset."""
    try:
        client.read(0.5)
    except OSError:
        return True
    return client.closed is not None
