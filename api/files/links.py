"""Links of artifacts, put into what is answered at each reading: a run is recorded without them.

The record of an artifact holds, in place of `expires_at`, the moment at which its file is deleted (milliseconds
since the epoch). No link is valid longer, and afterwards no link is made.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson

from config.clock import rfc3339

if TYPE_CHECKING:
    from storage.links import Links

#: These bytes are inside no string of a document, because a quotation mark has a backslash before it there.
#: Metadata, whose names a client chooses, have strings for values. Results and outputs, which are any JSON, stand
#: behind the list (checked by tests). So the first place is the list's: it is found without parsing megabytes of
#: output, and its end by parsing the list alone.
_FIELD, _NONE = b'"artifacts":[', b'"artifacts":[]'
_DECODER = json.JSONDecoder()


class ArtifactLinkSigner:
    """Signs for one request: links begin as the client reached this service, unless that is set."""

    def __init__(self, links: Links, base_url: str | None = None) -> None:
        self._links = links
        self._base_url = base_url

    def document(self, document: bytes) -> bytes:
        """Return a recorded run with a link for each artifact. Most runs have none, and cost one search."""
        begin = document.find(_FIELD)
        if begin < 0 or document.startswith(_NONE, begin):
            return document
        begin += len(_FIELD) - 1
        rest = document[begin:].decode()
        items, length = _DECODER.raw_decode(rest)
        artifacts = [self.artifact(item) for item in items]
        return b"".join((document[:begin], orjson.dumps(artifacts), rest[length:].encode()))

    def artifact(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return one artifact with its link; link and expiry are null once the file has expired."""
        until_ms = item["expires_at"]
        link = self._links.make(
            item["id"], base_url=self._base_url, until_s=None if until_ms is None else until_ms / 1000
        )
        if link is None:
            return item | {"url": None, "expires_at": None}
        return item | {"url": link.url, "expires_at": rfc3339(int(link.expires_at.timestamp()) * 1000)}
