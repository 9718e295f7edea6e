"""`/v1/files`: bring a file, look at files, fetch one, forget one. Artifacts of runs are files too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request

from api.context import context, limit_anonymous, next_url, require_caller, sharer
from api.errors import ApiError, invalid
from api.files.uploads import Upload, receive
from api.http.body import DRAIN_UNAUTHENTICATED_S, drain
from api.http.ids import bounded
from api.http.json_response import document_response, json_response
from api.http.pagination import list_body, parse_list
from api.openapi import examples
from api.openapi.decorator import Json, Query, RequestBody, operation
from api.openapi.error_codes import LISTED
from api.openapi.models import File as FileAnswer
from api.openapi.models import FileDeleted, FileList
from api.openapi.parameters import DOWNLOAD, FORM, PAGING
from config.clock import now_ms, rfc3339
from config.ids import new_id
from records.files import NewFile, StorageQuotaExceeded
from records.files import StoredBlob as NamedBlob
from storage import Blob, download, media_types
from storage.errors import BlobTooLarge, LinkError, LinkExpired
from storage.names import FileName

if TYPE_CHECKING:
    from api.keys.authentication import Caller
    from records.files import FileRecord
    from storage import BlobReader
    from storage.download import DownloadPlan

blueprint = Blueprint("files", __name__)

_PATH = {"file_id": "The file's id."}


@blueprint.post("/v1/files")
@operation(
    "Upload a file",
    tag="files",
    description="One `file` with a filename; runs refer to it by its id.",
    body=RequestBody({"multipart/form-data": FORM}),
    answers={200: Json("The file is stored.", FileAnswer, {"brought": examples.FILE})},
    errors=(
        "invalid_multipart", "incomplete_body", "missing_field", "unknown_field", "invalid_value", "too_many",
        "file_too_large", "storage_quota_exceeded", "unsupported_media_type", "unsupported_content_encoding",
        "overloaded", "too_many_connections", "storage_unavailable", "storage_low",
    ),
)  # fmt: skip
def create_file() -> Response:
    """Keep the one file of a multipart body.

    200 the file; 400 the body is invalid; 401; 413 it is too large, or the key keeps too much; 415; 429;
    503 storage or database cannot be used, and nothing was kept.
    """
    try:
        caller = require_caller(reading=False)
        context().room.require()
        release = context().places.uploads.acquire(caller.id)
    except ApiError:
        drain(request, DRAIN_UNAUTHENTICATED_S)
        raise
    try:
        upload = _receive(caller)
        return json_response(_object(_keep(caller, upload)))
    finally:
        release()


@blueprint.get("/v1/files")
@operation(
    "List your files",
    tag="files",
    description="Your uploads and the artifacts of your runs.",
    query=PAGING,
    answers={200: Json("The newest first, unless `order=asc`.", FileList, {"one": examples.page(examples.FILE)})},
    errors=LISTED,
)
def list_files() -> Response:
    """List the caller's files, uploads and artifacts, page by page: the newest first unless `order=asc`."""
    caller = require_caller(reading=True)
    asked = parse_list(request.args)
    page = context().records.files.list(caller.id, limit=asked.limit, after=asked.after, order=asked.order)
    body = list_body(
        [(file.id, _object(file)) for file in page.items], has_more=page.has_more, next_url=next_url(page.cursor)
    )
    return document_response(body)


@blueprint.get("/v1/files/<file_id>")
@operation(
    "Get a file's metadata",
    tag="files",
    path=_PATH,
    answers={200: Json("The file.", FileAnswer, {"brought": examples.FILE})},
    errors=("file_not_found",),
)
def get_file(file_id: str) -> Response:
    """Return a file's metadata. 404 for an unknown or expired file, or one of another key."""
    caller = require_caller(reading=True)
    return json_response(_object(_file(context().records.files.get(caller.id, bounded(file_id)))))


@blueprint.delete("/v1/files/<file_id>")
@operation(
    "Delete a file",
    tag="files",
    path=_PATH,
    answers={200: Json("Deleted.", FileDeleted)},
    errors=("file_not_found",),
)
def delete_file(file_id: str) -> Response:
    """Delete a file. Downloads in progress complete; its bytes are removed once no other file references them."""
    caller = require_caller(reading=False)
    if not context().records.files.delete(caller.id, bounded(file_id)):
        raise _no_such_file()
    return json_response({"id": file_id, "object": "file", "deleted": True})


@blueprint.get("/v1/files/<file_id>/content")
@operation(
    "Download a file",
    tag="files",
    description=(
        "With the owner's token, or by a signed link, which needs no token. Always an attachment. `HEAD` works."
    ),
    auth=("key", "link"),
    path=_PATH,
    query=(
        Query("Range", "One range of bytes, such as `bytes=0-99`.", {"type": "string"}, where="header"),
        Query("If-Range", "The ETag to which the range refers.", {"type": "string"}, where="header"),
        Query("If-None-Match", "The ETag of a copy that the client has.", {"type": "string"}, where="header"),
    ),
    answers=DOWNLOAD,
    errors=(
        "file_not_found",
        "unknown_field",
        "range_not_satisfiable",
        "file_damaged",
        "overloaded",
        "too_many_connections",
        "storage_unavailable",
    ),
)
def get_content(file_id: str) -> Response:
    """Send a file's bytes, or one range of them, to its owner or to the holder of a signed link.

    200, 206, 304 or 416; 302 to the S3 server with S3_PRESIGN; 403 a link that is not valid any more; 404; 503.
    """
    file, ttl_s, reader = _linked(file_id) if "token" in request.args else _owned(file_id)
    blob = Blob(file.sha256, file.size)
    headers = request.headers
    plan = download.plan(
        download.RequestedRange(
            request.method, headers.get("Range"), headers.get("If-Range"), headers.get("If-None-Match")
        ),
        blob,
        file.name,
        file.content_type,
    )
    store = context().storage.uploads if file.area == "upload" else context().storage.artifacts
    if plan.status == 416:
        words = f"Range: begins beyond the end of the file, which has {blob.size} bytes"
        raise ApiError(416, words, code="range_not_satisfiable", param="Range", headers=plan.headers)
    if plan.span is None:
        return _reply(plan, b"")
    address = store.presigned(blob, download.headers(file.name, file.content_type), ttl_s)
    if address is not None:
        return Response(status=302, headers=download.SAFE_HEADERS | {"Location": address})
    return _content(plan, blob, store, reader)


# -- bringing one ----------------------------------------------------------------------------------


def _quota_bytes(caller: Caller) -> int:
    """Return how many bytes the key may keep in all."""
    plan = caller.plan
    if plan is None or plan.storage_bytes is None:
        return context().settings.storage_quota_bytes
    return plan.storage_bytes


def _receive(caller: Caller) -> Upload:
    """Store what the body brings, within what a file may have and what the key may still keep."""
    most = context().settings.max_upload_bytes
    room = _quota_bytes(caller) - context().records.files.stored_bytes(caller.id)
    try:
        return receive(request, context().storage.uploads.writer, max_bytes=max(0, min(most, room)))
    except BlobTooLarge as e:
        if room < most:
            raise _over_quota(caller) from e
        raise ApiError(
            413,
            f"file: is larger than the maximum of {most} bytes",
            code="file_too_large",
            param="file",
        ) from e


def _keep(caller: Caller, upload: Upload) -> FileRecord:
    """Record a stored upload, and return the record."""
    settings, files = context().settings, context().records.files
    name, created_at_ms = FileName.of(upload.given_name), now_ms()
    kept = files.put(
        caller.id,
        NewFile(
            id=new_id("file"),
            name=name.name,
            path=name.original,
            size=upload.blob.size,
            sha256=upload.blob.sha256,
            content_type=media_types.media_type(name.name, upload.head),
            created_at_ms=created_at_ms,
            expires_at_ms=created_at_ms + settings.keep_files_ms,
            purpose=upload.purpose,
        ),
        limit_bytes=_quota_bytes(caller),
    )
    if isinstance(kept, StorageQuotaExceeded):
        # Concurrent uploads used up the quota. Unless another file references these bytes, they are removed.
        files.mark_unreferenced([NamedBlob("upload", upload.blob.sha256)])
        raise _over_quota(caller)
    return kept


def _over_quota(caller: Caller) -> ApiError:
    return ApiError(
        413,
        f"file: this key may keep {_quota_bytes(caller)} bytes of files; delete some, or wait until they expire",
        code="storage_quota_exceeded",
        param="file",
    )


# -- fetching one ----------------------------------------------------------------------------------


def _owned(file_id: str) -> tuple[FileRecord, int, str]:
    """Return the caller's own file, for how long an address of it may be good, and who reads it."""
    caller = require_caller(reading=True)
    if request.args:
        raise invalid("the query has an unknown parameter; supported: token", code="unknown_field")
    file = _file(context().records.files.get(caller.id, bounded(file_id)))
    return file, context().settings.link_ttl_s, caller.id


def _linked(file_id: str) -> tuple[FileRecord, int, str]:
    """Return the file that a signed link opens, for how long it does, and who reads it: an address.

    A link has its token and nothing else: what was added to it is not what was signed. Raises ApiError 403, 404 or
    429.
    """
    limit_anonymous()
    if len(request.args) > 1 or len(request.args.getlist("token")) > 1:
        raise ApiError(403, "token: a link takes only this parameter, once", code="link_invalid", param="token")
    try:
        ttl_s = context().links.verify(file_id, request.args["token"])
    except LinkExpired as e:
        raise ApiError(403, f"token: {e}", code="link_expired", param="token") from e
    except LinkError as e:
        raise ApiError(403, f"token: {e}", code="link_invalid", param="token") from e
    return _file(context().records.files.linked(file_id)), ttl_s, sharer()


def _content(plan: DownloadPlan, blob: Blob, store: BlobReader, reader: str) -> Response:
    assert plan.span is not None
    release = context().places.readers.acquire_for_response(plan.span.length, reader)
    try:
        content = store.open(blob, plan.span.offset, plan.span.length)
        response = _reply(plan, b"")
        response.response = content
        response.call_on_close(content.close)
        response.call_on_close(release)
    except BaseException:
        release()
        raise
    return response


def _reply(plan: DownloadPlan, body: bytes) -> Response:
    response = Response(body, plan.status)
    response.headers.clear()
    response.headers.update(plan.headers)
    # The plan decides about a partial answer, not the framework's view of the body.
    response.automatically_set_content_length = False
    return response


# -- all of them -----------------------------------------------------------------------------------


def _object(file: FileRecord) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "name": file.name,
        "size": file.size,
        "sha256": file.sha256,
        "content_type": file.content_type,
        "created_at": rfc3339(file.created_at_ms),
    }


def _file(found: FileRecord | None) -> FileRecord:
    if found is None:
        raise _no_such_file()
    return found


def _no_such_file() -> ApiError:
    return ApiError(404, "There is no such file.", code="file_not_found", param="id")
