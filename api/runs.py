"""The life of a run as the API sees it: accepted, recorded, dispatched, waited for, recorded as it ended."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api.errors import ApiError, ErrorObject, error_type
from api.ids import now
from api.languages import Languages, worker_unavailable
from api.runobject import ResultError, RunFacts, result_error
from api.schemas import RunRequest, check_entry_file
from dispatch import ClientGone, Dispatcher, WorkerLost, WorkerUnavailable
from sandbox.job import Job, Refusal

if TYPE_CHECKING:
    from api.auth import Caller
    from records.store import RunRecord, RunStore

log = logging.getLogger(__name__)

_LOST = ErrorObject(
    "The worker went away while this ran; its result is not known.", error_type(500), None, "worker_lost"
)
_UNEXPECTED = ErrorObject("The service failed to run this.", error_type(500), None, "internal_error")


@dataclass(slots=True)
class _Progress:
    """Writes down what the worker says of a run that had to wait."""

    facts: RunFacts
    store: RunStore
    started_at: str | None = None

    def __call__(self, event: dict[str, Any]) -> None:
        kind = event.get("event")
        if kind == "queued":
            self.started_at = None
            self.store.put(self.facts.live("queued"))
        elif kind == "started":
            self.started_at = str(event.get("at") or now())
            self.store.put(self.facts.live("running", self.started_at))


class Runs:
    """Runs programs and remembers how they ended."""

    def __init__(self, dispatcher: Dispatcher, store: RunStore, languages: Languages) -> None:
        self._dispatcher = dispatcher
        self._store = store
        self._languages = languages

    def run(self, request: RunRequest, caller: Caller, *, client_fd: int | None) -> RunRecord:
        """Run it and wait for its end. Raises ApiError, and ClientGone when nobody waits any more."""
        language = self._languages.find(request.language)
        check_entry_file(request, language.entry_file)
        facts = RunFacts.of(request, owner=caller.id, language=language.id, pids_default=language.pids_default)
        progress = _Progress(facts, self._store, facts.created_at)
        self._store.put(facts.live("running", progress.started_at))
        try:
            answer = self._dispatcher.run(_job(facts, request), client_fd=client_fd, on_event=progress)
            if not isinstance(answer, Refusal):
                return self._finish(facts, answer)
            self._store.discard(facts.id)
        except WorkerUnavailable as e:
            self._store.discard(facts.id)
            raise worker_unavailable() from e
        except ClientGone:
            self._store.put(facts.cancelled(progress.started_at))
            raise
        except (WorkerLost, ResultError) as e:
            log.warning("run %s: %s", facts.id, e)
            raise self._fail(facts, _LOST, progress.started_at) from e
        except ApiError:
            raise
        except Exception as e:
            log.exception("run %s failed unexpectedly", facts.id)
            raise self._fail(facts, _UNEXPECTED, progress.started_at) from e
        raise ApiError.from_refusal(answer)

    def get(self, run_id: str, caller: Caller) -> RunRecord | None:
        """The caller's run of that id, in any state."""
        return self._store.get(caller.id, run_id)

    def _finish(self, facts: RunFacts, result: dict[str, Any]) -> RunRecord:
        record = facts.ended(result)
        self._store.put(record)
        if record.status == "error":
            raise ApiError.of_run(facts.id, result_error(result))
        return record

    def _fail(self, facts: RunFacts, error: ErrorObject, started_at: str | None) -> ApiError:
        self._store.put(facts.failed(error, started_at))
        return ApiError.of_run(facts.id, error)


def _job(facts: RunFacts, request: RunRequest) -> Job:
    return Job(
        run_id=facts.id,
        language=facts.language,
        code=request.code,
        entrypoint=request.entrypoint,
        files=request.files,
        args=request.args,
        stdin=request.stdin,
        env=request.env,
        limits=request.limits,
        key=facts.owner,
        isolation=request.isolation,
    )
