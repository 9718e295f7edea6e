"""Check a request that asks for a WebSocket, and answer that it is one from now on."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from wsproto.utilities import generate_accept_token

from api.context import context
from api.errors import ApiError, invalid
from api.http.forwarded import origin
from api.http.takeover import can_take_over

if TYPE_CHECKING:
    from flask import Request

VERSION = "13"
KEY_BYTES = 16


def check(request: Request) -> None:
    """Check that a request is one for a WebSocket, and of no foreign page. Raises ApiError 400, 403 or 426."""
    headers = request.headers
    connection = [token.strip().lower() for token in headers.get("Connection", "").split(",")]
    asked = headers.get("Upgrade", "").lower() == "websocket" and "upgrade" in connection
    if not asked or not can_take_over(request):
        raise ApiError(
            426, "This call is a WebSocket: send Upgrade: websocket.", code="upgrade_required",
            headers={"Upgrade": "websocket", "Connection": "Upgrade"},
        )  # fmt: skip
    if headers.get("Sec-WebSocket-Version") != VERSION:
        raise ApiError(
            426, "Sec-WebSocket-Version: must be 13", code="upgrade_required", param="Sec-WebSocket-Version",
            headers={"Sec-WebSocket-Version": VERSION},
        )  # fmt: skip
    if not _is_key(headers.get("Sec-WebSocket-Key", "")):
        raise invalid("Sec-WebSocket-Key: must be 16 bytes in base64", param="Sec-WebSocket-Key")
    check_origin(request)


def check_origin(request: Request) -> None:
    """Refuse the page of another origin. A client that is no browser sends no Origin. Raises ApiError 403."""
    given = request.headers.get("Origin")
    if given is None:
        return
    known = {origin(request.scheme, request.headers.get("Host", "")), context().settings.public_base_url}
    if given.rstrip("/").lower() not in {one.rstrip("/").lower() for one in known if one}:
        raise ApiError(403, "Origin: is not this service's own.", code="foreign_origin", param="Origin")


def accept(request: Request) -> bytes:
    """Return the answer to a request that was checked."""
    token = generate_accept_token(request.headers["Sec-WebSocket-Key"].encode())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + token + b"\r\n\r\n"
    )


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text.encode(), validate=True)) == KEY_BYTES
    except (binascii.Error, UnicodeEncodeError):
        return False
