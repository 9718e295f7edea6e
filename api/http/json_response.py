"""Answer JSON: every document ends in a newline, so that a shell's prompt begins on a line of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from flask import Response

from api.errors import JSON

if TYPE_CHECKING:
    from collections.abc import Mapping

NEWLINE = b"\n"


def json_response(data: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer with these data as JSON."""
    body = orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE)
    return Response(body, status, headers=headers, content_type=JSON)


def document_response(document: bytes, status: int = 200) -> Response:
    """Return an answer with a document that is JSON already, without a newline at its end."""
    # One piece: the server leaves the unsent rest of an answer to its loop only if it was given as a whole.
    return Response(document + NEWLINE, status, content_type=JSON)
