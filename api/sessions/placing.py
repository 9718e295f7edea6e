"""The files of a new session: those that come with the request, and those that are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.errors import ApiError, invalid
from api.http.ids import bounded
from protocol.job import JobInput

if TYPE_CHECKING:
    from api.sessions.requests import SessionRequest
    from dispatch.sessions import WorkerSessions
    from protocol.result import Refusal
    from records.files import FileStore


def stored_inputs(files: FileStore, owner: str, request: SessionRequest) -> tuple[JobInput, ...]:
    """Return the files that were given by id. Raises ApiError 400 naming the first that is not there."""
    found: list[JobInput] = []
    for item in request.inputs:
        file = files.get(owner, bounded(item.id))
        if file is None:
            param = f"files.{item.index}.id"
            raise invalid(f"{param}: there is no such file", param=param, code="file_not_found")
        found.append(JobInput(item.path, file.area, file.sha256, file.size))
    return tuple(found)


def place_files(
    worker: WorkerSessions, session_id: str, owner: str, request: SessionRequest, inputs: tuple[JobInput, ...]
) -> None:
    """Write the files into the session, and end it if one cannot be. Raises ApiError."""
    for file in request.files:
        arguments = [file.path.encode(), b"", b"%d" % len(file.content)]
        written = worker.write_file(session_id, owner, arguments, [file.content])
        if not isinstance(written, dict):
            raise _ended(worker, session_id, owner, written)
    refusal = worker.place(session_id, owner, inputs) if inputs else None
    if refusal is not None:
        raise _ended(worker, session_id, owner, refusal)


def _ended(worker: WorkerSessions, session_id: str, owner: str, refusal: Refusal) -> ApiError:
    worker.end(session_id, owner, "deleted")
    return ApiError.from_refusal(refusal)
