"""`/`: the admin page, files that were built into the package `web`. No token is needed to fetch them.

They are read once and served from memory: what is asked for is a key of a table, never a path.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

from flask import Blueprint, Response, request

from api.context import context, sharer
from api.openapi.decorator import Answer, operation
from api.openapi.document import HIDDEN
from api.system.unknown_path import path_not_found

blueprint = Blueprint("page", __name__)

INDEX = "index.html"
#: The page loads only its own files and connects only to its own service. Artifacts are drawn from
#: `blob:` addresses: images, and frames that are sandboxed on top of this.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "frame-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
#: A script's or a style's name has a hash of its content in it.
FOR_GOOD = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"
_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file as it is served: as it is, and packed."""

    content: bytes
    packed: bytes
    content_type: str
    cache_control: str
    etag: str


@blueprint.get("/")
@operation("The admin page", tag=HIDDEN, auth=("none",), answers={200: Answer("HTML.", {"text/html": {}})})
def index() -> Response:
    """Return the admin page."""
    return _reply(INDEX)


@blueprint.get("/licences.txt")
@operation("Its licences", tag=HIDDEN, auth=("none",), answers={200: Answer("Text.", {"text/plain": {}})})
def licences() -> Response:
    """Return the licences of the page's parts."""
    return _reply("licences.txt")


@blueprint.get("/assets/<name>")
@operation("A file of the page", tag=HIDDEN, auth=("none",), path={"name": ""}, answers={200: Answer("A file.")})
def asset(name: str) -> Response:
    """Return a script, a style or a picture of the page. 404 for every other name."""
    return _reply(f"assets/{name}")


@cache
def page_files() -> Mapping[str, PageFile]:
    """Return every file of the page by its path in the build."""
    root = resources.files("web") / "admin" / "static"
    assets = [(f"assets/{item.name}", item.read_bytes()) for item in (root / "assets").iterdir()]
    top = [(item.name, item.read_bytes()) for item in root.iterdir() if item.is_file()]
    return MappingProxyType({path: _file(path, content) for path, content in [*top, *assets]})


def _file(path: str, content: bytes) -> PageFile:
    hashed = path.startswith("assets/") and "-" in path
    return PageFile(
        content=content,
        packed=gzip.compress(content, mtime=0),
        content_type=_TYPES[path.rpartition(".")[2]],
        cache_control=FOR_GOOD if hashed else ASK_AGAIN,
        etag=hashlib.sha256(content).hexdigest()[:32],
    )


def _reply(path: str) -> Response:
    file = page_files().get(path)
    if file is None:
        raise path_not_found()
    packed = request.accept_encodings.quality("gzip") > 0
    body = file.packed if packed else file.content
    release = context().places.documents.acquire_for_response(len(body), sharer())
    response = Response(body, content_type=file.content_type)
    response.call_on_close(release)
    response.headers.update(HEADERS)
    response.headers["Cache-Control"] = file.cache_control
    response.headers["Vary"] = "Accept-Encoding"
    if packed:
        response.headers["Content-Encoding"] = "gzip"
    response.set_etag(file.etag + ("-gz" if packed else ""))
    response.make_conditional(request)
    return response
