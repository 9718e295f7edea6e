"""Create sessions, look at them, change and end them: what is recorded, beside what the worker says of them."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from api.errors import ApiError
from api.http.access_log import audit
from api.packages.policy import PackageRules
from api.runs.network import NetworkRules
from api.runs.quota import quota_error
from api.sessions.bounds import bounded, check_age, check_quota
from api.sessions.objects import (
    CREATING,
    LATER,
    WORKER_LOST,
    changed_fields,
    document_of,
    ended,
    session_object,
)
from api.sessions.placing import place_files, stored_inputs
from api.sessions.requests import new_session_id
from api.system.languages import worker_unavailable
from config.clock import now_ms
from dispatch import WorkerLost, WorkerUnavailable
from protocol.result import Refusal
from protocol.session import SessionSpec, encode_change
from records.errors import RecordsUnavailable
from records.runs import OverQuota
from records.sessions import ExternalIdInUse, NewSession, StoredSession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from api.keys.authentication import Caller
    from api.keys.plans import Plan
    from api.sessions.requests import SessionPatch, SessionRequest
    from api.sessions.watch import SessionWatch
    from api.system.instance_lease import Lease
    from api.system.languages import Languages
    from dispatch.sessions import WorkerSessions
    from protocol.job import JobInput
    from records.files import FileStore
    from records.sessions import SessionStore
    from records.usage import UsageStore

log = logging.getLogger(__name__)

#: The fields that must be the same for a session to be found again by its name.
IDENTITY = ("language", "limits", "network", "packages", "isolation")


@dataclass(frozen=True, slots=True)
class _Begun:
    """A session that is recorded and about to be created, and what its key's plan allows."""

    new: NewSession
    request: SessionRequest
    plan: Plan | None
    #: The files that were given by id.
    inputs: tuple[JobInput, ...]

    def stored(self) -> StoredSession:
        new = self.new
        return StoredSession(new.id, new.owner, new.name, new.language, new.created_at_ms, None, new.document, b"")


class SessionService:
    """The sessions of all keys. Safe for many threads."""

    def __init__(
        self,
        worker: WorkerSessions,
        store: SessionStore,
        languages: Languages,
        files: FileStore,
        *,
        usage: UsageStore,
        watch: SessionWatch,
        lease: Lease | None = None,
        network: NetworkRules | None = None,
        packages: PackageRules | None = None,
    ) -> None:
        """`lease` is what must be held for a session to be created; None where nobody else uses the database.

        `network` and `packages` are what sessions may ask for; None is nothing.
        """
        self._network = network or NetworkRules()
        self._packages = packages or PackageRules()
        self._worker = worker
        self._store = store
        self._languages = languages
        self._files = files
        self._usage = usage
        self._watch = watch
        self._lease = lease

    # -- creating ----------------------------------------------------------------------------------

    def create(self, request: SessionRequest, caller: Caller) -> tuple[dict[str, Any], bool]:
        """Create a session, or find the live one of that name; its object, and whether it is new.

        Raises ApiError.
        """
        begun = self._begin(request, caller)
        if isinstance(begun, dict):
            return begun, False
        try:
            facts = self._created(begun)
        except BaseException:
            self._discard(begun.new.id)
            raise
        return session_object(begun.stored(), facts), True

    def create_later(self, request: SessionRequest, caller: Caller) -> tuple[dict[str, Any], bool]:
        """Do as `create` does, but answer while the session is being created. One that fails ends `failed`."""
        begun = self._begin(request, caller)
        if isinstance(begun, dict):
            return begun, False
        threading.Thread(target=self._create_alone, args=(begun,), name="create-session", daemon=True).start()
        return session_object(begun.stored(), CREATING), True

    def create_told(self, request: SessionRequest, caller: Caller) -> Iterator[dict[str, Any]]:
        """Do as `create` does, and yield the object at each step. An error before the first is raised at once.

        The lines of the tool that makes its packages come between as `{"status","output"}`. Raises ApiError.
        """
        begun = self._begin(request, caller)
        if isinstance(begun, dict):
            return iter((begun,))
        return self._told_creation(begun)

    def _told_creation(self, begun: _Begun) -> Iterator[dict[str, Any]]:
        try:
            yield session_object(begun.stored(), CREATING)
            for step in self._creation(begun):
                if isinstance(step, str):
                    yield {"status": "creating", "output": step}
                else:
                    facts = step
        except BaseException:
            self._worker_end(begun.new)
            self._discard(begun.new.id)
            raise
        yield session_object(begun.stored(), facts)

    def _create_alone(self, begun: _Begun) -> None:
        try:
            self._created(begun)
        except ApiError as e:
            problem = e.error.to_json()
        except Exception:
            log.exception("a session could not be created")
            problem = {"message": "The service failed to create this.", "code": "internal_error"}
        else:
            return
        facts = {"status": "ended", "end_reason": "failed", "error": problem}
        try:
            self._watch.record_end(begun.stored(), facts)
        except RecordsUnavailable:
            log.warning("a session that was not created waits to be given up")

    def _begin(self, request: SessionRequest, caller: Caller) -> _Begun | dict[str, Any]:
        """Record a session that is to be created; or return the object of the live one of that name."""
        if self._lease is not None and not self._lease.held:
            raise RecordsUnavailable("another instance has the database")
        language = self._languages.find(request.language)
        request = bounded(request, caller.plan)
        request = replace(
            request,
            network=self._network.permit(request.network, caller.plan),
            packages=self._packages.permit(language.id, request.packages, caller.plan),
        )
        check_quota(caller.id, caller.plan, self._usage)
        inputs = stored_inputs(self._files, caller.id, request)
        at_ms = now_ms()
        new = NewSession(
            id=new_session_id(),
            owner=caller.id,
            name=request.name,
            language=language.id,
            created_at_ms=at_ms,
            document=orjson.dumps(document_of(request, language)),
            external_id=request.external_id,
            metadata=request.metadata,
            quota=None if caller.plan is None else caller.plan.quota(at_ms),
        )
        found = self._store.create(new)
        if isinstance(found, StoredSession):
            return self._found_by_name(found, new)
        if isinstance(found, OverQuota):
            raise quota_error(caller, found)
        if isinstance(found, ExternalIdInUse):
            raise ApiError(
                409,
                "external_id: another session of yours has it",
                code="external_id_in_use",
                param="external_id",
            )
        return _Begun(new, request, caller.plan, inputs)

    def _created(self, begun: _Begun) -> dict[str, Any]:
        *_, facts = self._creation(begun)
        assert isinstance(facts, dict)
        return facts

    def _creation(self, begun: _Begun) -> Iterator[str | dict[str, Any]]:
        """Yield the output of the tool that makes the packages, at last the facts of the session."""
        new, request = begun.new, begun.request
        spec = SessionSpec(
            session_id=new.id,
            language=new.language,
            key=new.owner,
            limits=request.limits,
            env=request.env,
            isolation=request.isolation,
            idle_timeout_s=request.idle_timeout_s,
            max_age_s=request.max_age_s,
            most_sessions=None if begun.plan is None else begun.plan.sessions,
            freeze_after_s=request.freeze_after_s,
            on_idle=request.on_idle,
            expires_in_s=request.expires_in_s,
            network=request.network,
            workdir=request.workdir,
            outputs=request.outputs,
            packages=request.packages,
        )
        facts: dict[str, Any] = {}
        try:
            for step in self._worker.create(spec):
                if isinstance(step, Refusal):
                    raise ApiError.from_refusal(step)
                if isinstance(step, str):
                    yield step
                else:
                    facts = step
            place_files(self._worker, new.id, new.owner, request, begun.inputs)
        except WorkerUnavailable as e:
            raise worker_unavailable() from e
        except WorkerLost as e:
            self._languages.forget()
            raise worker_unavailable() from e
        audit("session.created", key=new.owner, session_id=new.id, language=new.language)
        yield facts

    def _found_by_name(self, found: StoredSession, new: NewSession) -> dict[str, Any]:
        kept, asked = LATER | orjson.loads(found.document), orjson.loads(new.document)
        for name in IDENTITY:
            # The order of packages means nothing.
            is_same = sorted(kept[name]) == sorted(asked[name]) if name == "packages" else kept[name] == asked[name]
            if not is_same:
                message = f"name: a live session of this name has another {name}"
                raise ApiError(409, message, code="session_differs", param="name")
        return self._told(found)

    def _worker_end(self, new: NewSession) -> None:
        try:
            self._worker.end(new.id, new.owner, "deleted")
        except (WorkerUnavailable, WorkerLost):
            log.warning("a session that nobody waits for may live on", extra={"session_id": new.id})

    def _discard(self, session_id: str) -> None:
        try:
            self._store.discard(session_id)
        except RecordsUnavailable:
            log.warning("a session that was not created waits to be given up", extra={"session_id": session_id})

    # -- looking -----------------------------------------------------------------------------------

    def get(self, owner: str, session_id: str) -> dict[str, Any]:
        """Return the object of a session. Raises ApiError 404 or 503."""
        return self._told(self.record(owner, session_id))

    def record(self, owner: str, session_id: str) -> StoredSession:
        """Return the record of a session. Raises ApiError 404."""
        found = self._store.get(owner, session_id) if session_id.startswith("sess_") else None
        if found is None:
            raise ApiError(404, "There is no such session.", code="session_not_found", param="id")
        return found

    def live(self, owner: str, session_id: str) -> StoredSession:
        """Return the record of a session that has not ended. Raises ApiError 404, or 410 with the reason."""
        found = self.record(owner, session_id)
        if found.ended:
            raise ended(orjson.loads(found.facts))
        return found

    def told(self) -> dict[str, dict[str, Any]]:
        """Return the facts of all live sessions by id. Raises ApiError 503."""
        return {facts["id"]: facts for facts in self._reached(self._worker.all_facts)}

    def objects(
        self, records: tuple[StoredSession, ...], told: dict[str, dict[str, Any]] | None = None
    ) -> list[dict[str, Any]]:
        """Return the objects of several sessions. Raises ApiError 503 if one lives and no worker answers."""
        if told is None and any(not record.ended for record in records):
            told = self.told()
        known = told or {}
        return [
            session_object(record, known[record.id])
            if not record.ended and record.id in known
            else self._told(record)
            for record in records
        ]

    # -- changing ----------------------------------------------------------------------------------

    def change(self, caller: Caller, session_id: str, patch: SessionPatch) -> dict[str, Any]:
        """Change what a live session was created with. Raises ApiError."""
        record = self.live(caller.id, session_id)
        check_age(patch.change.max_age_s, caller.plan)
        if patch.change.network is not None and caller.session is not None:
            # Such a token may be in the hands of the very programs that the hosts are kept from.
            message = "network: the token of a session cannot change its hosts; use the key"
            raise ApiError(403, message, code="network_not_allowed", param="network")
        network = self._network.permit(patch.change.network, caller.plan)
        change = replace(patch.change, network=network)
        facts = self._asked(record, "change", change=encode_change(change))
        document = orjson.loads(record.document) | changed_fields(change)
        if patch.change.idle_timeout_s is not None and patch.change.expires_in_s is None:
            document["expires_in_s"] = None
        if patch.metadata is not None:
            document["metadata"] = patch.metadata
        changed = replace(record, document=orjson.dumps(document))
        if not self._store.change(session_id, changed.document, patch.metadata):
            self.live(caller.id, session_id)
        if network is not None:
            audit(
                "session.network_changed",
                key=record.owner,
                session_id=session_id,
                allow=network.allow,
                deny=network.deny,
            )
        return session_object(changed, facts)

    def pause(self, owner: str, session_id: str) -> dict[str, Any]:
        """Stop everything in a session until it is resumed. Raises ApiError."""
        record = self.live(owner, session_id)
        return session_object(record, self._asked(record, "pause"))

    def resume(self, owner: str, session_id: str) -> dict[str, Any]:
        """Let a paused session go on. Raises ApiError."""
        record = self.live(owner, session_id)
        return session_object(record, self._asked(record, "resume"))

    def _asked(self, record: StoredSession, do: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401  # as they are sent
        found = self._reached(lambda: self._worker.ask(do, record.id, record.owner, "session", **fields))
        if isinstance(found, Refusal):
            raise self.refused(record.owner, record.id, found)
        facts: dict[str, Any] = found
        return facts

    # -- ending ------------------------------------------------------------------------------------

    def end(self, owner: str, session_id: str) -> None:
        """End a session, without effect on one that has ended. Raises ApiError 404 or 503."""
        found = self.record(owner, session_id)
        if found.ended:
            return
        facts = self._reached(lambda: self._worker.end(session_id, owner, "deleted"))
        self._watch.record_end(found, facts or WORKER_LOST)

    def refused(self, owner: str, session_id: str, refusal: Refusal) -> ApiError:
        """Return the error for a refusal by the worker: of a session that has ended meanwhile, with the reason."""
        if refusal.code != "session_ended":
            return ApiError.from_refusal(refusal)
        try:
            found = self.live(owner, session_id)
            facts = self._worker.facts(session_id)
            self._watch.record_end(found, facts if facts and facts["end_reason"] else WORKER_LOST)
            self.live(owner, session_id)
        except ApiError as e:
            return e
        except (WorkerUnavailable, WorkerLost):
            return worker_unavailable()
        return ApiError.from_refusal(refusal)

    # -- facts -------------------------------------------------------------------------------------

    def _told(self, record: StoredSession) -> dict[str, Any]:
        if record.ended:
            return session_object(record, orjson.loads(record.facts))
        facts = self._reached(lambda: self._worker.facts(record.id))
        if facts is None:
            return session_object(record, CREATING)
        if facts["end_reason"] is not None:
            self._watch.record_end(record, facts)
        return session_object(record, facts)

    @staticmethod
    def _reached(call: Callable[[], Any]) -> Any:  # noqa: ANN401  # what the worker answers
        try:
            return call()
        except (WorkerUnavailable, WorkerLost) as e:
            raise worker_unavailable() from e
