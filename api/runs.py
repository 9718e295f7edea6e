"""The life of a run as the API sees it: accepted, recorded, dispatched, waited for, recorded as it ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api.collector import LOST, Collector
from api.errors import ApiError, ErrorObject, error_type
from api.events import Message, closing, shown
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

_UNEXPECTED = ErrorObject("The service failed to run this.", error_type(500), None, "internal_error")
#: A cancelled run is waited for so long: the agent kills at once, and is given two seconds to say so.
CANCEL_S = 10.0
CANCEL_LOOK_S = 0.005
CANCEL_LOOK_MOST_S = 0.1


@dataclass(slots=True)
class _Progress:
    """Writes down what the worker says of a run that had to wait."""

    facts: RunFacts
    store: RunStore
    started_at: str | None = None

    def __call__(self, event: dict[str, Any]) -> None:
        status = event["data"].get("status") if event.get("event") == "info" else None
        if status == "queued":
            self.started_at = None
            self.store.put(self.facts.live("queued"))
        elif status == "running":
            self.started_at = str(event["data"].get("at") or now())
            self.store.put(self.facts.live("running", self.started_at))


class Runs:
    """Runs programs and remembers how they ended."""

    def __init__(self, dispatcher: Dispatcher, store: RunStore, languages: Languages) -> None:
        self._dispatcher = dispatcher
        self._store = store
        self._languages = languages
        self._collector = Collector(dispatcher, store)

    # -- three ways to run -------------------------------------------------------------------------

    def run(self, request: RunRequest, caller: Caller, *, client_fd: int | None) -> RunRecord:
        """Run it and wait for its end. Raises ApiError, and ClientGone when nobody waits any more."""
        facts, progress = self._begin(request, caller)
        records: list[RunRecord] = []

        def keep(result: dict[str, Any]) -> None:
            records.append(self._ended(facts, result))

        try:
            answer = self._dispatcher.run(_job(facts, request), client_fd=client_fd, on_event=progress, keep=keep)
        except Exception as e:
            raise self._failed(facts, progress, e) from e
        if isinstance(answer, Refusal):
            raise self._refused(facts, answer)
        if records[0].status == "error":
            raise ApiError.of_run(facts.id, result_error(answer))
        return records[0]

    def stream(
        self, request: RunRequest, caller: Caller, *, client_fd: int | None
    ) -> Generator[Message, None, None]:
        """Run it and yield its events as they happen; to close the iterator cancels the run.

        What is wrong before its first event is raised here and now: ApiError, ClientGone.
        """
        facts, progress = self._begin(request, caller)
        messages = self._dispatcher.stream(_job(facts, request, live=True), client_fd=client_fd)
        try:
            first = next(messages)
        except Exception as e:
            raise self._failed(facts, progress, e) from e
        if isinstance(refused := first.get("refused"), dict):
            raise self._refused(facts, Refusal(**refused))
        return self._streamed(facts, progress, first, messages)

    def submit(self, request: RunRequest, caller: Caller) -> RunRecord:
        """Have it run in the background; the record as it is accepted. Raises ApiError."""
        facts, progress = self._begin(request, caller, background=True)
        try:
            refusal = self._dispatcher.submit(_job(facts, request))
        except Exception as e:
            raise self._failed(facts, progress, e) from e
        if refusal is not None:
            raise self._refused(facts, refusal)
        self._collector.leave(facts.id)
        return facts.live("queued")

    # -- runs that are there -----------------------------------------------------------------------

    def get(self, run_id: str, caller: Caller) -> RunRecord | None:
        """The caller's run of that id, in any state."""
        return self._store.get(caller.id, run_id)

    def cancel(self, record: RunRecord) -> RunRecord:
        """End a run early and wait for its end; one that has ended stays as it is."""
        deadline = time.monotonic() + CANCEL_S
        pause_s = CANCEL_LOOK_S
        known = False
        while not record.ended and time.monotonic() < deadline:
            try:
                known = known or self._dispatcher.cancel(record.id)
            except WorkerUnavailable as e:
                raise worker_unavailable() from e
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, CANCEL_LOOK_MOST_S)
            record = self._store.get(record.owner, record.id) or record
        return record

    # -- the steps of a life -----------------------------------------------------------------------

    def _begin(
        self, request: RunRequest, caller: Caller, *, background: bool = False
    ) -> tuple[RunFacts, _Progress]:
        language = self._languages.find(request.language)
        check_entry_file(request, language.entry_file)
        facts = RunFacts.of(request, owner=caller.id, language=language.id, pids_default=language.pids_default)
        progress = _Progress(facts, self._store, None if background else facts.created_at)
        self._store.put(facts.live("queued") if background else facts.live("running", facts.created_at))
        self._collector.expect(facts)
        return facts, progress

    def _streamed(
        self, facts: RunFacts, progress: _Progress, first: Message, messages: Generator[Message, None, None]
    ) -> Generator[Message, None, None]:
        message = first
        seq = t_ms = 0
        try:
            while "result" not in message:
                seq, t_ms = message["seq"], message["t_ms"]
                progress(message)
                yield shown(message)
                message = next(messages)
            record = self._ended(facts, message["result"])
            next(messages, None)  # it is recorded: acknowledged by that
        except GeneratorExit:
            self._collector.leave(facts.id)
            messages.close()
            raise
        except Exception as e:  # noqa: BLE001  # told apart and logged there
            try:
                self._failed(facts, progress, e)
            except ClientGone:
                return
            record = facts.failed(LOST, progress.started_at)
        yield closing(record, seq + 1, t_ms)

    def _ended(self, facts: RunFacts, result: dict[str, Any]) -> RunRecord:
        record = facts.ended(result)
        self._store.put(record)
        self._collector.drop(facts.id)
        return record

    def _refused(self, facts: RunFacts, refusal: Refusal) -> ApiError:
        """The run never was. The error to raise."""
        self._collector.drop(facts.id)
        self._store.discard(facts.id)
        return ApiError.from_refusal(refusal)

    def _failed(self, facts: RunFacts, progress: _Progress, e: Exception) -> ApiError:
        """What the worker's or our own failure makes of a run: the error to raise. Raises ClientGone."""
        if isinstance(e, ClientGone):
            self._collector.leave(facts.id)
            raise e
        self._collector.drop(facts.id)
        if isinstance(e, WorkerUnavailable):
            self._store.discard(facts.id)
            return worker_unavailable()
        error = LOST
        if isinstance(e, WorkerLost | ResultError):
            log.warning("run %s: %s", facts.id, e)
        else:
            log.error("run %s failed unexpectedly", facts.id, exc_info=e)
            error = _UNEXPECTED
        self._store.put(facts.failed(error, progress.started_at))
        return ApiError.of_run(facts.id, error)


def _job(facts: RunFacts, request: RunRequest, *, live: bool = False) -> Job:
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
        live=live,
    )
