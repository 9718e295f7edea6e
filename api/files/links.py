"""Links of artifacts, put into what is answered at each reading: a run is recorded without them.

What is recorded of an artifact has, where a client sees `expires_at`, the moment its file is forgotten (in
milliseconds since the epoch); a link is never good beyond it, and after it there is none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from config.clock import rfc3339

if TYPE_CHECKING:
    from storage.links import Links

#: These bytes are in no text of a document: a quotation mark inside one has a backslash before it, and what a
#: client may name freely (metadata) has texts for values. So they are found without parsing megabytes of output.
_BEGIN, _NONE, _END = b'"artifacts":[', b'"artifacts":[]', b',"skipped_artifacts":'
#: What may stand in a link as the host a client has asked; anything else is not repeated.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)


class Signer:
    """Signs for one request: links begin as the client reached this service, unless that is set."""

    def __init__(self, links: Links, base_url: str | None = None) -> None:
        self._links = links
        self._base_url = base_url

    def document(self, document: bytes) -> bytes:
        """A run as it is recorded, with a link for each artifact. Most have none, and cost a search."""
        begin = document.rfind(_BEGIN)
        if begin < 0 or document.startswith(_NONE, begin):
            return document
        begin += len(_BEGIN) - 1
        end = document.index(_END, begin)
        artifacts = [self.artifact(item) for item in orjson.loads(document[begin:end])]
        return b"".join((document[:begin], orjson.dumps(artifacts), document[end:]))

    def artifact(self, item: dict[str, Any]) -> dict[str, Any]:
        """One artifact with its link; both fields are null once the file is forgotten."""
        until_ms = item["expires_at"]
        link = self._links.make(
            item["id"], base_url=self._base_url, until_s=None if until_ms is None else until_ms / 1000
        )
        if link is None:
            return item | {"url": None, "expires_at": None}
        return item | {"url": link.url, "expires_at": rfc3339(int(link.expires_at.timestamp()) * 1000)}


def origin(scheme: str, host: str) -> str | None:
    """How a client reached this service, from its request; None if that is not to be repeated."""
    return f"{scheme}://{host}" if _HOST.fullmatch(host) else None
