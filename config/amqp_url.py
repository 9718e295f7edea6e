"""Parse the address of a RabbitMQ server or cluster, `AMQP_URL`, and the name of its queue of jobs.

Each function raises ValueError whose message begins with the variable's name and never holds a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671}
MAX_HOSTS = 16
MAX_QUEUE_NAME = 100

_ADDRESS = re.compile(
    r"(?P<scheme>amqps?)://"
    r"(?:(?P<user>[^:/?#@,\s]+):(?P<password>[^:/?#@,\s]*)@)?"
    r"(?P<hosts>[^/?#@\s]+)"
    r"(?:/(?P<vhost>[^/?#@\s]*))?"
)
_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_QUEUE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_FORM = "must be amqp://user:password@host:port/vhost or amqps://…, with several hosts separated by commas"


@dataclass(frozen=True, slots=True)
class AmqpAddress:
    """The servers of one cluster, and the account there."""

    is_tls: bool
    hosts: tuple[tuple[str, int], ...]
    user: str
    password: str
    vhost: str


def parse_amqp_url(text: str) -> AmqpAddress:
    """Parse `amqp://user:password@host:port,host:port/vhost`; user, password and vhost are percent-decoded.

    Without an account it is `guest`, as RabbitMQ ships; without a name, the virtual host is `/`.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None or not text.isprintable() or not text.isascii() or _ESCAPE.search(text):
        raise ValueError(f"AMQP_URL: {_FORM}; other characters of a password are percent-encoded")
    scheme = found["scheme"]
    hosts = tuple(_host(entry, DEFAULT_PORTS[scheme]) for entry in found["hosts"].split(","))
    if len(hosts) > MAX_HOSTS:
        raise ValueError(f"AMQP_URL: {len(hosts)} hosts are more than {MAX_HOSTS}")
    user = unquote(found["user"] or "guest")
    password = "guest" if found["password"] is None else unquote(found["password"])
    return AmqpAddress(scheme == "amqps", hosts, user, password, unquote(found["vhost"] or "/"))


def _host(entry: str, default_port: int) -> tuple[str, int]:
    found = _HOST.fullmatch(entry)
    port = int(found["port"]) if found is not None and found["port"] is not None else default_port
    if found is None or not 1 <= port <= 65_535:
        raise ValueError(f"AMQP_URL: {_FORM}; a port is 1 to 65535")
    return found["name"].strip("[]"), port


def check_queue_name(text: str) -> None:
    """Check `AMQP_QUEUE`, the name before those of all queues and exchanges of the service."""
    if len(text) > MAX_QUEUE_NAME or not _QUEUE.fullmatch(text) or text.startswith("amq."):
        raise ValueError(
            f"AMQP_QUEUE: must be 1 to {MAX_QUEUE_NAME} of A-Z a-z 0-9 _ . - and must not begin with amq."
        )
