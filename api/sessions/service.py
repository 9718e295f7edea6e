"""Create sessions, look at them and end them: what is recorded, beside what the worker says of the live ones."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import orjson

from api.errors import ApiError
from api.http.access_log import audit
from api.sessions.requests import new_session_id
from api.system.languages import worker_unavailable
from config.clock import now_ms, rfc3339
from dispatch import WorkerLost, WorkerUnavailable
from protocol.result import Refusal
from protocol.session import SessionSpec
from records.errors import RecordsUnavailable
from records.sessions import NewSession, StoredSession

if TYPE_CHECKING:
    from api.keys.authentication import Caller
    from api.sessions.requests import SessionRequest
    from api.system.instance_lease import Lease
    from api.system.languages import Languages
    from dispatch.sessions import UnixSessions
    from records.sessions import SessionStore

log = logging.getLogger(__name__)

#: What must be the same for a session to be found again by its name.
IDENTITY = ("language", "limits", "isolation")
_WORKER_LOST: dict[str, Any] = {"status": "ended", "end_reason": "worker_lost"}
#: A session that the worker does not list is given up when it was recorded so long ago.
SETTLED_MS = 15_000
LOOK_S = 2.0
NO_USAGE = {"memory_mb": 0, "disk_mb": 0, "cpu_ms": 0, "processes": 0, "egress_bytes": 0}


class SessionService:
    """The sessions of all keys. Safe for many threads."""

    def __init__(
        self, worker: UnixSessions, store: SessionStore, languages: Languages, *, lease: Lease | None = None
    ) -> None:
        """`lease` is what must be held for a session to be created; None where nobody else uses the database."""
        self._worker = worker
        self._store = store
        self._languages = languages
        self._lease = lease
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._reconcile, name="sessions", daemon=True)

    def start(self) -> None:
        """Start to record the ends of sessions."""
        self._thread.start()

    def stop(self) -> None:
        """Stop to record ends: the next process does, of all that have ended until then."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    # -- calls -------------------------------------------------------------------------------------

    def create(self, request: SessionRequest, caller: Caller) -> tuple[dict[str, Any], bool]:
        """Create a session, or find the live one of that name; its object, and whether it is new.

        Raises ApiError.
        """
        if self._lease is not None and not self._lease.held:
            raise RecordsUnavailable("another instance has the database")
        language = self._languages.find(request.language)
        new = NewSession(
            id=new_session_id(),
            owner=caller.id,
            name=request.name,
            language=language.id,
            created_at_ms=now_ms(),
            document=orjson.dumps(_document(request, language.id)),
        )
        found = self._store.create(new)
        if found is not None:
            return self._found_by_name(found, new), False
        try:
            facts = self._created(new, request)
        except BaseException:
            self._discard(new.id)
            raise
        audit("session.created", key=caller.id, language=language.id)
        stored = StoredSession(
            new.id, new.owner, new.name, new.language, new.created_at_ms, None, new.document, b""
        )
        return _object(stored, facts), True

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

    def objects(self, records: tuple[StoredSession, ...]) -> list[dict[str, Any]]:
        """Return the objects of several sessions. Raises ApiError 503 if one lives and no worker answers."""
        return [self._told(record) for record in records]

    def end(self, owner: str, session_id: str) -> None:
        """End a session, without effect on one that has ended. Raises ApiError 404 or 503."""
        found = self.record(owner, session_id)
        if found.ended:
            return
        try:
            facts = self._worker.end(session_id, owner, "deleted")
        except (WorkerUnavailable, WorkerLost) as e:
            raise worker_unavailable() from e
        self._ended(session_id, facts or _WORKER_LOST)
        audit("session.deleted", key=owner)

    def refused(self, owner: str, session_id: str, refusal: Refusal) -> ApiError:
        """Return the error for a refusal by the worker: of a session that has ended meanwhile, with the reason."""
        if refusal.code != "session_ended":
            return ApiError.from_refusal(refusal)
        try:
            facts = self._worker.facts(session_id)
            self._ended(session_id, facts if facts and facts["end_reason"] else _WORKER_LOST)
            self.live(owner, session_id)
        except ApiError as e:
            return e
        except (WorkerUnavailable, WorkerLost):
            return worker_unavailable()
        return ApiError.from_refusal(refusal)

    # -- creating ----------------------------------------------------------------------------------

    def _created(self, new: NewSession, request: SessionRequest) -> dict[str, Any]:
        spec = SessionSpec(
            session_id=new.id,
            language=new.language,
            key=new.owner,
            limits=request.limits,
            env=request.env,
            isolation=request.isolation,
            idle_timeout_s=request.idle_timeout_s,
            max_age_s=request.max_age_s,
        )
        try:
            facts = self._worker.create(spec)
            if isinstance(facts, Refusal):
                raise ApiError.from_refusal(facts)
            for file in request.files:
                arguments = [file.path.encode(), b"", b"%d" % len(file.content)]
                written = self._worker.write_file(new.id, new.owner, arguments, [file.content])
                if isinstance(written, Refusal):
                    self._worker.end(new.id, new.owner, "deleted")
                    raise ApiError.from_refusal(written)
        except WorkerUnavailable as e:
            raise worker_unavailable() from e
        except WorkerLost as e:
            self._languages.forget()
            raise worker_unavailable() from e
        return facts

    def _found_by_name(self, found: StoredSession, new: NewSession) -> dict[str, Any]:
        kept, asked = orjson.loads(found.document), orjson.loads(new.document)
        for name in IDENTITY:
            if kept[name] != asked[name]:
                message = f"name: a live session of this name has another {name}"
                raise ApiError(409, message, code="session_differs", param="name")
        return self._told(found)

    def _discard(self, session_id: str) -> None:
        try:
            self._store.discard(session_id)
        except RecordsUnavailable:
            log.warning("a session that was not created waits to be given up", extra={"session_id": session_id})

    # -- facts -------------------------------------------------------------------------------------

    def _told(self, record: StoredSession) -> dict[str, Any]:
        if record.ended:
            return _object(record, orjson.loads(record.facts))
        try:
            facts = self._worker.facts(record.id)
        except (WorkerUnavailable, WorkerLost) as e:
            raise worker_unavailable() from e
        if facts is None:
            return _object(record, {"status": "creating", "end_reason": None})
        if facts["end_reason"] is not None:
            self._ended(record.id, facts)
        return _object(record, facts)

    def _ended(self, session_id: str, facts: dict[str, Any]) -> None:
        self._store.end(session_id, now_ms(), orjson.dumps(facts))

    # -- the thread --------------------------------------------------------------------------------

    def _reconcile(self) -> None:
        """Record the end of each session that the worker has not any more, now and then."""
        while not self._stopped.wait(LOOK_S):
            try:
                self._look()
            except (RecordsUnavailable, WorkerUnavailable, WorkerLost):
                continue
            except Exception:
                log.exception("the ends of sessions could not be recorded")

    def _look(self) -> None:
        live = self._store.live()
        if not live:
            return
        began_ms = now_ms()
        for record in live:
            facts = self._worker.facts(record.id)
            if facts is not None and facts["end_reason"] is not None:
                self._ended(record.id, facts)
            elif facts is None and record.created_at_ms < began_ms - SETTLED_MS:
                log.warning("a session was lost with its worker", extra={"session_id": record.id})
                self._ended(record.id, _WORKER_LOST)


def ended(facts: dict[str, Any]) -> ApiError:
    """Return the error for a call on a session that has ended."""
    at = facts.get("ended_at")
    when = f" at {at}" if at else ""
    return ApiError(
        410, f"This session has ended{when}: {facts.get('end_reason')}.", code="session_ended", param="id"
    )


def _document(request: SessionRequest, language: str) -> dict[str, Any]:
    return {
        "name": request.name,
        "language": language,
        "limits": request.limits,
        "env": request.env,
        "idle_timeout_s": request.idle_timeout_s,
        "max_age_s": request.max_age_s,
        "isolation": request.isolation,
        "metadata": request.metadata,
    }


def _object(record: StoredSession, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the session object: what was asked for, and what is so now."""
    asked = orjson.loads(record.document)
    has_ended = facts.get("end_reason") is not None
    ended_at = facts.get("ended_at") or (rfc3339(record.ended_at_ms) if record.ended_at_ms is not None else None)
    expires_in_ms = facts.get("expires_in_ms", 0)
    return {
        "id": record.id,
        "object": "session",
        "status": facts["status"],
        "language": record.language,
        "keeps": "files",
        "name": record.name,
        "runs": facts.get("runs", 0),
        "usage": facts.get("usage", NO_USAGE),
        "limits": asked["limits"],
        "env": asked["env"],
        "idle_timeout_s": asked["idle_timeout_s"],
        "max_age_s": asked["max_age_s"],
        "isolation": asked["isolation"],
        "metadata": asked["metadata"],
        "created_at": rfc3339(record.created_at_ms),
        "last_active_at": facts.get("last_active_at") or rfc3339(record.created_at_ms),
        "expires_at": None if has_ended else rfc3339(round(time.time() * 1000) + expires_in_ms),
        "ended_at": ended_at if has_ended else None,
        "end_reason": facts.get("end_reason"),
    }
