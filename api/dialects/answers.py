"""Answer JSON as other services do: byte for byte, without the newline that ends this API's own answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from flask import Response

from api.errors import JSON

if TYPE_CHECKING:
    from collections.abc import Mapping


def exact_document(document: bytes, status: int = 200) -> Response:
    """Return an answer with a document that is JSON already."""
    return Response(document, status, content_type=JSON)


def exact_json(data: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer with these data as JSON."""
    return Response(orjson.dumps(data), status, headers=headers, content_type=JSON)
