"""The life of a run as the API sees it: accepted, recorded, dispatched, waited for, recorded as it ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from api.errors import FAILURES, ApiError, ErrorObject, error_type, invalid, of_failure
from api.http.access_log import audit
from api.http.ids import bounded
from api.packages.policy import PackageRules
from api.runs.document import ResultError, RunRecord, result_error
from api.runs.events import Message, final_event, replay_events
from api.runs.execution import Execution, Wait
from api.runs.network import NetworkRules
from api.runs.quota import clamp_to_plan, quota_error, quota_for
from api.runs.reconciler import ResultReconciler
from api.runs.requests import check_entry_file
from api.runs.stored_outputs import store_request
from api.runs.submission import IdempotentReplay, Progress, RunSubmission, build_job, finished_run
from api.runs.tracked import LOST
from api.system.languages import Languages, worker_unavailable
from config.failpoints import failpoint
from config.logging import bind_also
from dispatch import ClientGone, Dispatcher, WorkerLost, WorkerUnavailable
from protocol.job import Job, JobInput
from protocol.result import Refusal
from protocol.states import LiveStatus
from records.errors import RecordsUnavailable
from records.files import StoredBlob as FileBlob
from records.runs import FIRST_ATTEMPT, AcceptedRun, Duplicate, ExternalIdUsed, Mismatch, Run, RunEnd

if TYPE_CHECKING:
    from api.files.links import ArtifactLinkSigner
    from api.http.concurrency import Pools
    from api.keys.authentication import Caller
    from api.runs.events import RunFollower
    from api.system.instance_lease import Lease
    from dispatch.source import MessageSource
    from records.files import FileStore
    from records.runs import RunStore
    from storage import BlobStore

log = logging.getLogger(__name__)

_UNEXPECTED = ErrorObject("The service failed to run this.", error_type(500), None, "internal_error")
#: Seconds to wait for the end of a cancelled run: the agent kills at once and has two seconds to report it.
CANCEL_S = 10.0
CANCEL_LOOK_S = 0.005
CANCEL_LOOK_MOST_S = 0.1


class RunService:
    """Runs programs and remembers how they ended."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        store: RunStore,
        languages: Languages,
        files: FileStore,
        *,
        follower: RunFollower,
        places: Pools,
        keep_files_ms: int,
        siblings: bool = False,
        instances: bool = False,
        lease: Lease | None = None,
        uploads: BlobStore | None = None,
        network: NetworkRules | None = None,
        packages: PackageRules | None = None,
    ) -> None:
        """`lease` must be held for a run to be accepted; None if no other instance uses the database.

        `siblings` are other processes of this instance, `instances` others that share the database.

        `uploads` is where requests are stored that are too large for a record; None keeps them all in records.
        `network` and `packages` are what runs may ask for; None is nothing.
        """
        self._network = network or NetworkRules()
        self._packages = packages or PackageRules()
        self._lease = lease
        self._uploads = uploads
        self._dispatcher = dispatcher
        self._store = store
        self._languages = languages
        self._files = files
        self._follower = follower
        self._places = places
        self._keep_files_ms = keep_files_ms
        self._collector = ResultReconciler(
            dispatcher,
            store,
            keep_files_ms=keep_files_ms,
            siblings=siblings,
            instances=instances,
            on_lost=languages.forget,
        )

    def start(self) -> None:
        """Take up what an earlier process left, and listen to the worker."""
        self._collector.start()

    def stop(self) -> None:
        """Disconnect from the worker, which keeps the results of runs that no client waits for."""
        self._collector.stop()

    def execute(
        self,
        submission: RunSubmission,
        *,
        wait: Wait,
        signer: ArtifactLinkSigner,
        client_fd: int | None = None,
        source: MessageSource | None = None,
    ) -> Execution:
        """Run a submission, or find the run of an earlier one with its Idempotency-Key, and return what to render.

        A caller that waits holds one of the waiters' places, one that gets an earlier run a reader's; the
        caller releases it. `client_fd` is the socket of the client: when its peer goes away while the result or
        the first event is waited for, the run is cancelled and ClientGone raised. `source` tells where the events
        come from that are waited for. Raises ApiError for every other error, with its status, code and headers, and
        the run's id if there is a run.
        """
        try:
            try:
                return self._execute(submission, wait, signer, client_fd, source)
            except IdempotentReplay as e:
                return self._replay(e.run, wait, signer)
        except FAILURES as e:
            raise of_failure(e) from e

    def _execute(
        self,
        submission: RunSubmission,
        wait: Wait,
        signer: ArtifactLinkSigner,
        client_fd: int | None,
        source: MessageSource | None,
    ) -> Execution:
        if wait == "background":
            return Execution(self.submit(submission))
        release = self._places.waiters.acquire(submission.caller.id)
        try:
            if wait == "events":
                events = self.stream(submission, signer, client_fd=client_fd, source=source)
                return Execution(events, release=release)
            run, end = self.run(submission, client_fd=client_fd)
            return Execution(run, release=release, timeline=end.events)
        except BaseException:
            release()
            raise

    def _replay(self, run: Run, wait: Wait, signer: ArtifactLinkSigner) -> Execution:
        """Return an ended run in the form that is asked for now. Raises ApiError, also for a run that failed."""
        readers = self._places.readers
        if wait == "events":
            release = readers.acquire(run.owner)
            try:
                events = self._follower.follow(self._follower.whole(run), 0, signer, client_fd=None)
            except BaseException:
                release()
                raise
            return Execution(events, is_replay=True, release=release)
        if run.status == "error" and wait == "result":
            raise ApiError.of_run(run.id, ErrorObject(**orjson.loads(run.document)["error"]))
        release = readers.acquire_for_response(len(run.document), run.owner)
        return Execution(run, is_replay=True, release=release)

    # -- three ways to run -------------------------------------------------------------------------

    def run(self, submission: RunSubmission, *, client_fd: int | None) -> tuple[Run, RunEnd]:
        """Run it, wait for its end, and return both.

        Raises ApiError, IdempotentReplay, or ClientGone (client disconnected).
        """
        facts, job, progress = self._begin(submission, "running")
        ends: list[RunEnd] = []

        def keep(result: dict[str, Any]) -> bool:
            ends.append(facts.ended(result))
            return self._kept(facts, ends[0])

        try:
            answer = self._dispatcher.run(job, client_fd=client_fd, on_event=progress, keep=keep)
        except Exception as e:
            raise self._failed(facts, progress, e) from e
        if isinstance(answer, Refusal):
            raise self._refused(facts, answer)
        if ends[0].status == "error":
            raise ApiError.of_run(facts.id, result_error(answer))
        return finished_run(facts, ends[0]), ends[0]

    def stream(
        self,
        submission: RunSubmission,
        signer: ArtifactLinkSigner,
        *,
        client_fd: int | None,
        source: MessageSource | None = None,
    ) -> Generator[Message, None, None]:
        """Run it and yield its events as they happen; to close the iterator cancels the run.

        Errors before its first event are raised by this call: ApiError, IdempotentReplay, ClientGone.
        """
        facts, job, progress = self._begin(submission, "running")
        messages = self._dispatcher.stream(replace(job, live=True), client_fd=client_fd, source=source)
        try:
            first = next(messages)
        except Exception as e:
            raise self._failed(facts, progress, e) from e
        if isinstance(refused := first.get("refused"), dict):
            raise self._refused(facts, Refusal(**refused))
        if source is not None:
            source.note_read_ahead()
        return self._streamed(facts, progress, first, messages, signer)

    def submit(self, submission: RunSubmission) -> Run:
        """Have it run in the background; the run as it is accepted. Raises ApiError, IdempotentReplay."""
        facts, job, progress = self._begin(submission, "queued")
        try:
            # A client that follows its events expects output as soon as it is printed.
            refusal = self._dispatcher.submit(replace(job, live=True))
        except Exception as e:
            if isinstance(e, WorkerLost):  # it may have been started, and no client will ask for it
                with suppress(WorkerUnavailable):
                    self._dispatcher.cancel(facts.id)
            raise self._failed(facts, progress, e) from e
        if refusal is not None:
            raise self._refused(facts, refusal)
        self._collector.take_over(facts.id)
        return Run(
            facts.id, facts.owner, "queued", facts.language, 1, facts.created_at_ms, None, facts.live("queued")
        )

    # -- runs that are there -----------------------------------------------------------------------

    def cancel(self, run: Run) -> Run:
        """End a run early and wait for its end; one that has ended stays as it is."""
        deadline = time.monotonic() + CANCEL_S
        pause_s = CANCEL_LOOK_S
        known = False
        while not run.ended and time.monotonic() < deadline:
            try:
                known = known or self._dispatcher.cancel(run.id)
            except WorkerUnavailable as e:
                raise worker_unavailable() from e
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, CANCEL_LOOK_MOST_S)
            run = self._store.get(run.owner, run.id) or run
        return run

    # -- the steps of a life -----------------------------------------------------------------------

    def _begin(self, submission: RunSubmission, status: LiveStatus) -> tuple[RunRecord, Job, Progress]:
        """Accept a run: from here on an end is always recorded for it."""
        request, caller = submission.request, submission.caller
        self._require_lease()
        language = self._languages.find(request.language)
        check_entry_file(request, language.entry_file)
        if submission.session_id is None:  # the limits of a run in a session are its session's, but for a few
            request = clamp_to_plan(request, caller.plan, language.pids_default)
        if request.network is not None:
            request = replace(request, network=self._network.permit(request.network, caller.plan))
        if request.packages:
            packages = self._packages.permit(language.id, request.packages, caller.plan)
            request = replace(request, packages=packages)
        facts = RunRecord.of(
            request,
            owner=caller.id,
            language=language.id,
            pids_default=language.pids_default,
            bytes_in=len(submission.body),
            keep_files_ms=self._keep_files_ms,
            session_id=submission.session_id,
        )
        bind_also(run_id=facts.id)
        blob = store_request(self._uploads, submission.body)
        self._collector.track(facts)
        try:
            run = facts.accepted(
                status, submission.body, *quota_for(caller.plan, request, facts.created_at_ms), blob=blob
            )
            accepted = self._store.accept(run, submission.idempotency)
        except BaseException as e:
            self._collector.untrack(facts.id)
            if isinstance(e, RecordsUnavailable):
                self._collector.mark_uncertain(facts.id)
            raise
        if not isinstance(accepted, AcceptedRun):
            self._collector.untrack(facts.id)
            if blob is not None:
                self._files.mark_unreferenced([FileBlob(blob.area, blob.sha256)])
            raise self._not_again(caller, accepted)
        try:
            # Only now: a repeated request is answered like the first, even if its files have been deleted.
            inputs = self._inputs(submission)
            self._require_lease()  # else another instance may just be giving the run up
        except BaseException:
            self._discard(facts)
            raise
        if inputs:
            facts = replace(facts, bytes_in=facts.bytes_in + sum(item.size for item in inputs))
            self._collector.track(facts)
        audit("run.accepted", key=caller.id, language=language.id)
        failpoint("accepted")
        progress = Progress(facts, self._store, facts.created_at if status == "running" else None)
        return facts, build_job(facts, request, inputs, caller.plan), progress

    def _require_lease(self) -> None:
        if self._lease is not None and not self._lease.held:
            raise RecordsUnavailable("another instance has the database")

    def _inputs(self, submission: RunSubmission) -> tuple[JobInput, ...]:
        """Look up the blobs of the files given by id. Raises ApiError that names the first unknown one."""
        use = submission.request.function
        found: list[JobInput] = [] if use is None else list(use.inputs)
        for item in submission.request.inputs:
            file = self._files.get(submission.caller.id, bounded(item.id))
            if file is None:
                param = f"files.{item.index}.id"
                raise invalid(f"{param}: there is no such file", param=param, code="file_not_found")
            found.append(JobInput(item.path, file.area, file.sha256, file.size))
        return tuple(found)

    def _not_again(self, caller: Caller, found: object) -> Exception:
        """Return the exception for a rejected acceptance: duplicate, mismatch or quota."""
        if isinstance(found, Duplicate):
            run = self._store.get(caller.id, found.run_id)
            if run is not None and run.ended:
                return IdempotentReplay(run)
            return ApiError(
                409,
                "Idempotency-Key: its run was deleted" if run is None else "Idempotency-Key: its run has not ended",
                code="idempotency_key_used" if run is None else "idempotency_key_in_use",
                param="Idempotency-Key",
                run_id=found.run_id,
            )
        if isinstance(found, Mismatch):
            return ApiError(
                422,
                "Idempotency-Key: was used with another request",
                code="idempotency_mismatch",
                param="Idempotency-Key",
            )
        if isinstance(found, ExternalIdUsed):
            message = "external_id: another run of yours has it"
            return ApiError(409, message, code="external_id_in_use", param="external_id")
        return quota_error(caller, found)

    def _streamed(
        self,
        facts: RunRecord,
        progress: Progress,
        first: Message,
        messages: Generator[Message, None, None],
        signer: ArtifactLinkSigner,
    ) -> Generator[Message, None, None]:
        message = first
        seq = t_ms = 0
        collecting = False
        try:
            while "result" not in message:
                # Artifacts are reported from the record, so that a client that gets the event can fetch them.
                collecting = collecting or message["event"] == "artifact"
                if not collecting:
                    seq, t_ms = message["seq"], message["t_ms"]
                    progress(message)
                    yield message
                message = next(messages)
            end = facts.ended(message["result"])
            if self._kept(facts, end):
                next(messages, None)  # acknowledged by that
            else:
                messages.close()
        except GeneratorExit:
            self._collector.take_over(facts.id)
            messages.close()
            raise
        except Exception as e:  # noqa: BLE001  # classified and logged there
            try:
                self._failed(facts, progress, e)
            except ClientGone:
                return
            end = facts.failed(LOST, progress.started_at)
        run = finished_run(facts, end)
        if collecting and end.events:
            yield from replay_events(run, end.events, seq, signer)
        else:
            yield final_event(run, seq + 1, t_ms, signer)

    def _kept(self, facts: RunRecord, end: RunEnd) -> bool:
        """Record an end; if that cannot be done now, the worker keeps the result for the collector."""
        failpoint("ended")
        try:
            self._store.finish(facts.id, FIRST_ATTEMPT, end)
        except RecordsUnavailable:
            log.warning("a run's end has to wait for the database")
            self._collector.take_over(facts.id)
            return False
        failpoint("recorded")
        self._collector.untrack(facts.id)
        return True

    def _refused(self, facts: RunRecord, refusal: Refusal) -> ApiError:
        """Delete the record of a refused run, and return the error to raise."""
        self._discard(facts)
        return ApiError.from_refusal(refusal)

    def _discard(self, facts: RunRecord) -> None:
        self._collector.untrack(facts.id)
        try:
            self._store.discard(facts.id)
        except RecordsUnavailable:
            self._collector.mark_uncertain(facts.id)

    def _failed(self, facts: RunRecord, progress: Progress, e: Exception) -> ApiError:
        """Record a failure of the worker or of this service, and return the error to raise. Raises ClientGone."""
        if isinstance(e, ClientGone):
            self._collector.take_over(facts.id)
            raise e
        if isinstance(e, WorkerUnavailable | WorkerLost):
            self._languages.forget()
        if isinstance(e, WorkerUnavailable):
            self._discard(facts)
            return worker_unavailable()
        error = LOST
        if isinstance(e, WorkerLost | ResultError):
            log.warning("a run was lost: %s", e)
        else:
            log.error("a run failed unexpectedly", exc_info=e)
            error = _UNEXPECTED
        self._collector.end(facts, facts.failed(error, progress.started_at))
        return ApiError.of_run(facts.id, error)
