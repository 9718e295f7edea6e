"""A request to run a program, the job made from it, and the records of its progress."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api.errors import invalid
from config import tracing
from config.clock import now
from config.logging import bound
from protocol.job import Job, JobInput
from records.errors import RecordsUnavailable
from records.runs import FIRST_ATTEMPT, IdempotencyKey, Run, RunEnd

if TYPE_CHECKING:
    from api.keys.authentication import Caller
    from api.keys.plans import Plan
    from api.runs.document import RunRecord
    from api.runs.requests import RunRequest
    from records.runs import RunStore

log = logging.getLogger(__name__)

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class IdempotentReplay(Exception):
    """A request of this Idempotency-Key was run before, and has ended: this is its run."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.id)
        self.run = run


@dataclass(frozen=True, slots=True)
class RunSubmission:
    """A request to run something: what, for whom, the body it came in, and its Idempotency-Key if it had one."""

    request: RunRequest
    caller: Caller
    body: bytes = b"{}"
    idempotency: IdempotencyKey | None = None
    #: The session that it is to run in; None for a sandbox of its own.
    session_id: str | None = None


def parse_idempotency_key(text: str | None, body: bytes) -> IdempotencyKey | None:
    """Return the key of a header with the digest of the body, which must be the same the next time.

    None for a request without the header. Raises ApiError 400.
    """
    if text is None:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(text):
        raise invalid("Idempotency-Key: must be 1 to 255 visible ASCII characters", param="Idempotency-Key")
    return IdempotencyKey(text, hashlib.sha256(body).digest())


@dataclass(slots=True)
class Progress:
    """Records the worker's reports about a run that had to wait."""

    facts: RunRecord
    store: RunStore
    started_at: str | None = None

    def __call__(self, event: dict[str, Any]) -> None:
        status = event["data"].get("status") if event.get("event") == "info" else None
        try:
            if status == "queued" and self.started_at is not None:
                self.started_at = None
                self.store.requeue(self.facts.id, FIRST_ATTEMPT, self.facts.live("queued"))
            elif status == "running" and self.started_at is None:
                self.started_at = str(event["data"].get("at") or now())
                document = self.facts.live("running", self.started_at)
                self.store.begin(self.facts.id, FIRST_ATTEMPT, document)
        except RecordsUnavailable:
            log.warning("a run's status could not be written down")


def finished_run(facts: RunRecord, end: RunEnd) -> Run:
    """Return the run with that end."""
    return Run(
        facts.id,
        facts.owner,
        end.status,
        facts.language,
        FIRST_ATTEMPT,
        facts.created_at_ms,
        end.ended_at_ms,
        end.answer or end.document,
    )


def build_job(facts: RunRecord, request: RunRequest, inputs: tuple[JobInput, ...], plan: Plan | None) -> Job:
    """Return the job for the worker."""
    use = request.function
    return Job(
        run_id=facts.id,
        language=facts.language,
        code=request.code,
        entrypoint=request.entrypoint,
        files=request.files,
        inputs=inputs,
        args=request.args,
        stdin=request.stdin,
        stdin_open=request.stdin_open,
        env=request.env,
        limits=request.limits,
        compile_limits=request.compile_limits,
        ends_when_cut=request.ends_when_cut,
        key=facts.owner,
        isolation=request.isolation,
        request_id=bound().get("request_id", ""),
        traceparent=tracing.current(),
        most_running=None if plan is None else plan.concurrency,
        most_waiting=None if plan is None else plan.queue,
        session=facts.session_id or "",
        outputs=request.outputs,
        context=request.context,
        results=request.results,
        network=request.network,
        packages=request.packages,
        handler="" if use is None else use.handler,
        returns="" if use is None else use.returns,
        executable=use is not None and use.executable,
    )
