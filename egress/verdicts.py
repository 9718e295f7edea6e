"""The verdicts on connections: the label of a metric, the status for the client and the alert for TLS."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

Verdict = Literal[
    "allowed", "denied", "address", "name", "unreachable", "tls", "http", "malformed", "connections", "rate",
    "budget", "idle",
]  # fmt: skip

#: Every verdict, with the status by which a proxy request is answered that ends with it.
STATUS: dict[Verdict, HTTPStatus] = {
    "allowed": HTTPStatus.OK,
    #: No pattern permits the host, or a prohibition names it.
    "denied": HTTPStatus.FORBIDDEN,
    #: The address is not public.
    "address": HTTPStatus.FORBIDDEN,
    #: The name cannot be looked up.
    "name": HTTPStatus.BAD_GATEWAY,
    "unreachable": HTTPStatus.BAD_GATEWAY,
    #: The ClientHello names another host, is encrypted, or is none.
    "tls": HTTPStatus.FORBIDDEN,
    #: The plain request is for another host, or can be read in two ways.
    "http": HTTPStatus.FORBIDDEN,
    #: The proxy request is none.
    "malformed": HTTPStatus.BAD_REQUEST,
    #: Too many connections at a time, or new ones in a second.
    "connections": HTTPStatus.TOO_MANY_REQUESTS,
    "rate": HTTPStatus.TOO_MANY_REQUESTS,
    #: The run has sent and received as much as it may.
    "budget": HTTPStatus.FORBIDDEN,
    #: Nothing was sent or received for too long.
    "idle": HTTPStatus.GATEWAY_TIMEOUT,
}
VERDICTS: tuple[Verdict, ...] = tuple(STATUS)
#: A fatal alert, unrecognized_name (RFC 8446, 6.2).
TLS_ALERT = bytes((21, 3, 3, 0, 2, 2, 112))


class Refused(Exception):
    """A connection that is not made, or is ended, with its verdict. The message is for the client."""

    def __init__(self, verdict: Verdict, message: str) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.message = message


def refusal_response(refused: Refused, where: str) -> bytes:
    """Return the response to a request for `where`: a host and port, or empty where it is not known."""
    status = STATUS[refused.verdict]
    subject = f"the connection to {where} is refused" if where else "the request is refused"
    body = f"runyard: {subject} ({refused.verdict}): {refused.message}\n".encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
