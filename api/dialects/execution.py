"""Run a dialect's request through the service of runs, and send what the dialect makes of the ended run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
from flask import Response, request

from api.context import context
from api.errors import JSON
from api.http.body import DRAIN_UNAUTHENTICATED_S, drain
from api.http.concurrency import SMALL_BYTES
from api.runs.events import output_in_order
from api.runs.execution import ended_run
from api.runs.listing import document_of
from api.runs.live_input import FollowedRun, follow
from api.runs.rendering import client_fd, signer
from api.runs.requests import parse_run
from api.runs.stored_outputs import is_in_parts
from api.runs.submission import RunSubmission
from api.sessions.run_limits import parse_session_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.keys.authentication import Caller
    from api.runs.requests import RunRequest


@dataclass(frozen=True, slots=True)
class DialectRun:
    """An ended run: its document, as `GET /v1/runs/{id}` answers it. Hand it to `answer`, or call `release`."""

    document: dict[str, Any]
    #: Gives up the place that the request holds; may be called more than once.
    release: Callable[[], None]
    #: Returns both outputs in the order in which they were read from the program; None if that is not known.
    output_in_order: Callable[[], str | None]


def require_room() -> None:
    """Check that runs can be accepted, before the body is read. Raises ApiError 503."""
    context().room.require()


def discard_body() -> None:
    """Read what is left of a body that is refused, within bounds, so that its sender gets to the answer."""
    drain(request, DRAIN_UNAUTHENTICATED_S)


def execute(
    fields: dict[str, Any],
    caller: Caller,
    *,
    compile_limits: dict[str, int | float] | None = None,
    ends_when_cut: bool = False,
) -> DialectRun:
    """Run a request that is given in the fields of `POST /v1/runs`, and wait for its end.

    `compile_limits` and `ends_when_cut` are what `/v1/runs` has no field for: see `Job`.
    History, quotas, limits and isolation are those of `/v1/runs`, and so are the errors: ApiError with the status
    and code. ClientGone is raised when the client goes away, which cancels the run.
    """
    fields = _without_artifacts(fields, caller)
    asked = replace(parse_run(fields), compile_limits=compile_limits or {}, ends_when_cut=ends_when_cut)
    return execute_request(asked, caller, orjson.dumps(fields))


def execute_request(asked: RunRequest, caller: Caller, body: bytes) -> DialectRun:
    """Run a request as `execute` does; `body` is what is recorded of it. Raises ApiError, ClientGone."""
    return _ended(RunSubmission(asked, caller, body))


def execute_in_session(fields: dict[str, Any], caller: Caller, session_id: str) -> DialectRun:
    """Run a request that is given in the fields of `POST /v1/sessions/{id}/runs`, and wait for its end.

    It must name its language. Errors are those of `execute`, and those of a session that has ended or is in use.
    """
    asked = parse_session_run(fields, caller.plan, context().settings.session_timeout_max_ms)
    return _ended(RunSubmission(asked, caller, orjson.dumps(fields), session_id=session_id))


def recorded_run(owner: str, run_id: str) -> DialectRun | None:
    """Return a run of the history, in any state, with its outputs; None where the owner has no such run."""
    found = document_of(owner, run_id)
    return None if found is None else DialectRun(*found, lambda: None)


def _ended(submission: RunSubmission) -> DialectRun:
    """Run a submission and wait for its end."""
    found = context()
    execution = found.runs.execute(submission, wait="result", signer=signer(), client_fd=client_fd())
    run, release = ended_run(execution), execution.release
    try:
        if is_in_parts(run.document):
            # From here on a reader's place is held, as for every answer that is read from storage.
            release()
            release = found.places.readers.acquire(submission.caller.id)
            run = found.outputs.whole(run)
        document, timeline = orjson.loads(run.document), execution.timeline
        return DialectRun(document, release, lambda: output_in_order(document, timeline))
    except BaseException:
        release()
        raise


def execute_live(fields: dict[str, Any], caller: Caller, peer_fd: int) -> FollowedRun:
    """Run a request as `execute` does, and follow it; when the peer of `peer_fd` goes away it is cancelled.

    Raises ApiError, ClientLeft.
    """
    fields = _without_artifacts(fields, caller)
    submission = RunSubmission(parse_run(fields), caller, orjson.dumps(fields))
    return follow(context(), submission, signer(), peer_fd)


def answer(run: DialectRun, body: bytes, *, status: int = 200, content_type: str = JSON) -> Response:
    """Return the answer of an ended run, which gives its place back once sending it cannot block a thread."""
    response = Response(body, status, content_type=content_type)
    if len(body) > SMALL_BYTES:
        response.call_on_close(run.release)
    else:
        run.release()
    return response


def _without_artifacts(fields: dict[str, Any], caller: Caller) -> dict[str, Any]:
    """Return the fields of a run; without a key it has no artifacts.

    Nobody could fetch them, and they would count against the storage of the address.
    """
    if not caller.is_anonymous:
        return fields
    return {**fields, "limits": {"max_artifact_files": 0, **(fields.get("limits") or {})}}
