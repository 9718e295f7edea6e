"""Check whether a broker answers, before a service that needs it is started. The start itself tries the account.

A broker greets a client that sends the header of AMQP 0-9-1 (section 4.2.2 of its specification) with the method
`connection.start`; a server that speaks something else does not.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack

from config.settings import Settings, SettingsError

ANSWER_S = 5.0
HEADER = b"AMQP\x00\x00\x09\x01"
#: A frame of a method (1) on channel 0; behind its length of four bytes the class 10 and the method 10.
GREETING = b"\x01\x00\x00"
START = b"\x00\x0a\x00\x0a"
GREETING_BYTES = 11


def check_broker(settings: Settings) -> None:
    """Check that one of the hosts of AMQP_URL answers. Raises SettingsError that names each and its problem."""
    address = settings.amqp_address
    if address is None:
        return
    context = _tls(settings) if address.is_tls else None
    problems = []
    for host, port in address.hosts:
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


def _tls(settings: Settings) -> ssl.SSLContext:
    """Return how the connection is secured. Raises SettingsError for a file that cannot be used."""
    name, path = "AMQP_CA_FILE", settings.amqp_ca_file
    try:
        context = ssl.create_default_context(cafile=None if path is None else str(path))
        if settings.amqp_cert_file is not None:
            name, path = "AMQP_CERT_FILE", settings.amqp_cert_file
            context.load_cert_chain(str(path), settings.amqp_key_file)
    except OSError as e:
        raise SettingsError(f"{name}: {path} cannot be used: {e.strerror or e}") from e
    return context
