"""The refusals of jobs that a worker does not start, for a client that waits and for one that listens."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from protocol.result import JobError, Refusal
from sandbox.results import result_without_run
from storage.errors import StorageError, StorageUnavailable

if TYPE_CHECKING:
    from protocol.packages import PackagesFailed
    from protocol.result import Result
    from sandbox.admission.control import KeyLimit, Overloaded
    from sandbox.run.live import LiveRun
    from sandbox.run.package_layers import TooManyWait
    from sandbox.run.plan import ExecutionPlan

log = logging.getLogger(__name__)

#: The end of a tool's message is kept: it has the reason.
MAX_MESSAGE_CHARS = 2000
RETRY_OVERLOADED_S = 5
RETRY_NOT_READY_S = 30
#: Of what a stopping worker begins no more; it is back, or another one is, in a moment.
STOPPING = Refusal(503, "the service is stopping", "overloaded", None, 2)
NO_PACKAGES = "this service provides no packages: PACKAGES is off"


def overloaded(e: Overloaded) -> Refusal:
    """Return the refusal of a job for which there is no room."""
    return Refusal(503, f"the service is overloaded: {e}", "overloaded", None, RETRY_OVERLOADED_S)


def not_started(
    plan: ExecutionPlan, live: LiveRun, refusal: Refusal, code: str, queue_ms: int = 0
) -> Result | Refusal:
    """Return the refusal to a client that waits for the answer alone; to others a result with it as the error."""
    if live.outlet is not None and live.outlet.subscription == "status":
        return refusal
    kinds = {400: "invalid_request_error", 429: "rate_limit_error"}
    error = JobError(refusal.message, code, kinds.get(refusal.status, "server_error"), refusal.param)
    return result_without_run(plan, live, error, queue_ms=queue_ms)


def packages_refusal(e: PackagesFailed) -> Refusal:
    """Return the refusal of a run or session whose packages cannot be provided."""
    # It may have the words of a tool, or of a package that it built.
    message = e.message.encode("utf-8", "replace").decode()
    if len(message) > MAX_MESSAGE_CHARS:
        message = f"… {message[-MAX_MESSAGE_CHARS:]}"
    return Refusal(400, f"{e.param}: {message}", e.code, e.param)


def many_packages(e: TooManyWait) -> Refusal:
    """Return the refusal of a job for whose packages too many others wait."""
    return Refusal(429, f"packages: {e}; try again later", "too_many_runs", None, RETRY_OVERLOADED_S)


def share_used(share: KeyLimit) -> Refusal:
    """Return the refusal of a job beyond the plan of its key."""
    running = "" if share.running is None else f"{share.running} concurrent runs and "
    message = f"this key may have {running}{share.waiting} waiting runs; try again when one has ended"
    return Refusal(429, message, "too_many_runs", None, RETRY_OVERLOADED_S)


def beyond_share() -> Refusal:
    """Return the refusal of a job beyond the part of the service that its key may use."""
    message = (
        "this key uses its share of the service, and the rest is in use; try again when one of its runs has ended"
    )
    return Refusal(429, message, "too_many_runs", None, RETRY_OVERLOADED_S)


def not_ready(plan: ExecutionPlan) -> Refusal:
    """Return the refusal of a job whose language is not built."""
    message = f"language: {plan.language.id} is known but not built yet"
    return Refusal(503, message, "language_not_ready", "language", RETRY_NOT_READY_S)


def no_input(e: StorageError) -> Refusal:
    """Return the refusal for a run whose input could not be sent; the program was not started."""
    if isinstance(e, StorageUnavailable):
        log.warning("an input cannot be read: %s", e, extra={"cause": repr(e.__cause__)})
        message = "the storage is unavailable; nothing was started"
        return Refusal(503, message, "storage_unavailable", None, RETRY_OVERLOADED_S)
    log.error("an input is not what was stored: %s", e)
    return Refusal(500, "files: the bytes of one are lost or damaged; upload it again", "file_damaged", "files")
