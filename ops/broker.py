"""Check whether a broker answers, before a service that needs it is started. The start itself tries the account.

A broker greets a client that sends the header of AMQP 0-9-1 (section 4.2.2 of its specification) with the method
`connection.start`; a server that speaks something else does not.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack

from config.settings import Settings, SettingsError
from transport.access import broker_access

ANSWER_S = 5.0
HEADER = b"AMQP\x00\x00\x09\x01"
#: A frame of a method (1) on channel 0; behind its length of four bytes the class 10 and the method 10.
GREETING = b"\x01\x00\x00"
START = b"\x00\x0a\x00\x0a"
GREETING_BYTES = 11


def check_broker(settings: Settings) -> None:
    """Check that one of the hosts of AMQP_URL answers. Raises SettingsError that names each and its problem."""
    access = broker_access(settings)
    if access is None:
        return
    context, problems = access.tls(), []
    for host, port in access.address.hosts:
        problem = _problem_of(host, port, context)
        if problem is None:
            return
        problems.append(f"{host}:{port}: {problem}")
    raise SettingsError(f"AMQP_URL: no broker answers ({', '.join(problems)}): start it, or set AMQP_URL")


def _problem_of(host: str, port: int, context: ssl.SSLContext | None) -> str | None:
    try:
        with ExitStack() as opened:
            connection = opened.enter_context(socket.create_connection((host, port), timeout=ANSWER_S))
            if context is not None:
                connection = opened.enter_context(context.wrap_socket(connection, server_hostname=host))
            connection.sendall(HEADER)
            said = _read(connection)
    except OSError as e:
        return str(e.strerror or e)
    if not said.startswith(GREETING) or said[7:] != START:
        return "it does not speak AMQP 0-9-1"
    return None


def _read(connection: socket.socket) -> bytes:
    said = b""
    while len(said) < GREETING_BYTES:
        piece = connection.recv(GREETING_BYTES - len(said))
        if not piece:
            break
        said += piece
    return said
