"""Plan the response to a download, without HTTP: its status, headers and range of bytes.

`plan` evaluates the headers of a GET or HEAD; the caller then opens the blob at `DownloadPlan.span` and sends it.
No response can execute or render on the API's origin: it is an attachment with a type that no browser renders,
it is not sniffed, it has a sandbox policy if a browser shows it anyway, and it is not cached.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from storage import Blob, ranges
from storage.media_types import served_type
from storage.names import content_disposition
from storage.ranges import RangeNotSatisfiable, Span

SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-store",
    # The address may hold a token.
    "Referrer-Policy": "no-referrer",
}
MAX_CONDITION_LENGTH = 4096
_TAG = re.compile(r'[ \t]*(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?:,|$)|[ \t]*,')


@dataclass(frozen=True, slots=True)
class RequestedRange:
    """A download as the client asks for it; headers that it does not send are None."""

    method: str = "GET"
    range: str | None = None
    if_range: str | None = None
    if_none_match: str | None = None


@dataclass(frozen=True, slots=True)
class DownloadPlan:
    """The reply: 200, 206, 304 or 416. `span` is the part of the blob that is its body; None for no body."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    span: Span | None = None


def etag(blob: Blob) -> str:
    """Return the entity tag, which names the bytes, not the file."""
    return f'"{blob.sha256}"'


def headers(name: str, kind: str) -> dict[str, str]:
    """Return the headers of every reply with bytes of a file: type, name, and restrictions for browsers."""
    return {"Content-Type": served_type(kind), "Content-Disposition": content_disposition(name), **SAFE_HEADERS}


def plan(asked: RequestedRange, blob: Blob, name: str, kind: str) -> DownloadPlan:
    """Decide the answer to a request for the file `name` of type `kind`, whose bytes are `blob`.

    Preconditions come before ranges (RFC 9110, section 13.2.2); a HEAD has no range and no body. An empty body
    has no span.
    """
    tag = etag(blob)
    common = {**SAFE_HEADERS, "ETag": tag, "Accept-Ranges": "bytes"}
    if asked.if_none_match is not None and _matches(asked.if_none_match, tag):
        return DownloadPlan(304, common)
    span = None
    if asked.method == "GET" and (asked.if_range is None or asked.if_range.strip() == tag):
        try:
            span = ranges.parse(asked.range, blob.size)
        except RangeNotSatisfiable:
            return DownloadPlan(416, {**common, "Content-Range": f"bytes */{blob.size}"})
    full = headers(name, kind) | common
    if span is not None:
        full |= {"Content-Range": span.content_range(blob.size), "Content-Length": str(span.length)}
        return DownloadPlan(206, full, span)
    body = Span(0, blob.size) if asked.method == "GET" and blob.size else None
    return DownloadPlan(200, full | {"Content-Length": str(blob.size)}, body)


def _matches(header: str, tag: str) -> bool:
    """Return whether a list of tags has this one, weak or not; `*` has all. A malformed list has none."""
    if len(header) > MAX_CONDITION_LENGTH:
        return False
    if header.strip() == "*":
        return True
    at, found = 0, False
    while at < len(header):
        one = _TAG.match(header, at)
        if one is None or one.end() == at:
            return False
        found = found or one.group(1) == tag
        at = one.end()
    return found
