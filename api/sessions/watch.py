"""Record what becomes of sessions that nobody asks about: what they use, and that they end; end those of keys that
may have none any more.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Literal

import orjson

from api.http.access_log import audit
from api.sessions.bounds import beyond_quota
from api.sessions.objects import WORKER_LOST
from config.clock import now_ms
from dispatch import WorkerLost, WorkerUnavailable
from dispatch.worker_client import DEFAULT_PACKAGES_S
from records.errors import RecordsUnavailable
from records.sessions import SessionUse
from records.usage import SessionUsed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from api.keys.plans import Plan, Plans
    from dispatch.sessions import WorkerSessions
    from records.keys import KeyStore
    from records.sessions import SessionStore, StoredSession
    from records.usage import UsageStore

log = logging.getLogger(__name__)

#: Seconds since its record after which a session that the worker does not list is given up.
SETTLED_MS = 15_000
#: The same in addition to PACKAGES_TIMEOUT_S, for one that waits for its packages.
PACKAGES_SLACK_MS = 60_000
LOOK_S = 2.0
#: So many looks lie between two that count what is used.
COUNT_EVERY = 5
#: So many looks lie between two at all that lives at the workers, which needs a question where nothing else does.
STRAYS_EVERY = 8
#: The memory of sessions at rest is counted so often, and at their end.
COUNT_AT_REST_S = 300.0


class SessionWatch:
    """A thread that looks at all live sessions now and then."""

    def __init__(
        self,
        worker: WorkerSessions,
        store: SessionStore,
        usage: UsageStore,
        keys: KeyStore,
        plans: Plans,
        *,
        packages_timeout_s: float = DEFAULT_PACKAGES_S,
        instances: bool = False,
    ) -> None:
        """`packages_timeout_s` is how long the creation of a session may wait for its packages.

        `instances`: others share the database, and the sessions of those that die are looked after here.
        """
        self._instances = instances
        self._packages_ms = round(packages_timeout_s * 1000) + PACKAGES_SLACK_MS
        self._worker = worker
        self._store = store
        self._usage = usage
        self._keys = keys
        self._plans = plans
        #: The usage counted of each session, and when, on the monotonic clock.
        self._counted: dict[str, tuple[SessionUsed, float]] = {}
        self._looks = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sessions", daemon=True)

    def start(self) -> None:
        """Start to look."""
        self._thread.start()

    def stop(self) -> None:
        """Stop to look: the next process does, at all that has happened until then."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def record_end(self, record: StoredSession, facts: dict[str, Any]) -> None:
        """Record an end, with what was used until then. Without effect if it is recorded."""
        used = used_of(facts) if "awake_ms" in facts else None
        if self._store.end(record.id, now_ms(), orjson.dumps(facts), used):
            audit(
                "session.ended",
                key=record.owner,
                session_id=record.id,
                language=record.language,
                reason=facts["end_reason"],
            )

    def _run(self) -> None:
        while not self._stopped.wait(LOOK_S):
            try:
                self._look()
            except (RecordsUnavailable, WorkerUnavailable, WorkerLost):
                continue
            except Exception:
                log.exception("the sessions could not be looked at")

    def _look(self) -> None:
        # An instance that is alone finds only those of earlier ones, with another STATE_DIR.
        if (self._instances or not self._looks) and (adopted := self._store.adopt()):
            log.warning("taking over the sessions of another instance", extra={"sessions": adopted})
        live = self._store.live()
        self._looks += 1
        looks_for_strays = self._looks % STRAYS_EVERY == 0
        if not live:
            self._counted.clear()
            if not looks_for_strays:
                return
        began_ms = now_ms()
        told = {facts["id"]: facts for facts in self._worker.all_facts()}
        for record in live:
            if record.id not in told:
                self._note_missing(record, began_ms)
        if looks_for_strays:
            self._end_strays(told.keys() - {record.id for record in live})
        known = self._kill_of_ended_keys([record for record in live if record.id in told])
        if self._looks % COUNT_EVERY == 0:
            self._count(known, told)

    def _kill_of_ended_keys(self, live: list[StoredSession]) -> list[StoredSession]:
        """End the sessions of keys that were disabled or revoked. Returns the others."""
        ended = {owner for owner in {record.owner for record in live} if self._is_over(owner)}
        for record in live:
            if record.owner in ended:
                self._end(record, "killed")
        return [record for record in live if record.owner not in ended]

    def _is_over(self, owner: str) -> bool:
        """Return whether a key may do nothing any more; a static one is not stored, and is there or not."""
        key = self._keys.get(owner)
        return key is not None and (key.disabled or key.revoked_at_ms is not None)

    def _note_missing(self, record: StoredSession, began_ms: int) -> None:
        """Record the end of a session that does not live any more; one that is being created may not live yet."""
        facts = self._worker.facts(record.id)
        if facts is not None and facts["end_reason"] is not None:
            self.record_end(record, facts)
        elif facts is None and record.created_at_ms < began_ms - self._settled_ms(record):
            log.warning("a session was lost with its worker", extra={"session_id": record.id})
            last = orjson.loads(record.facts) if record.facts else {}
            self.record_end(record, last | WORKER_LOST)

    def _end_strays(self, others: Iterable[str]) -> None:
        """End at their worker the sessions that were given up without it: it was taken for lost, and is back."""
        for session_id in others:
            record = self._store.find(session_id)
            if record is not None and record.ended and self._worker.end(record.id, record.owner, "killed"):
                log.warning("a session that was given up is ended at its worker", extra={"session_id": record.id})

    def _settled_ms(self, record: StoredSession) -> int:
        was_seen = bool(record.facts) or record.id in self._counted
        waits = not was_seen and bool(orjson.loads(record.document).get("packages"))
        return SETTLED_MS + (self._packages_ms if waits else 0)

    def _count(self, live: list[StoredSession], told: dict[str, dict[str, Any]]) -> None:
        """Count what has been used since the last look, and end the sessions of keys that may use no more."""
        moment = time.monotonic()
        used = {record.id: used_of(told[record.id]) for record in live}
        due = {name: used[name] for name in used if self._is_due(name, used[name], moment)}
        if due:
            uses = (SessionUse(name, use, orjson.dumps(told[name])) for name, use in due.items())
            self._store.count(tuple(uses), now_ms())
        self._counted = {name: (used[name], moment) if name in due else self._counted[name] for name in used}
        for owner in {record.owner for record in live}:
            if beyond_quota(owner, self._plan_of(owner), self._usage) is not None:
                for record in live:
                    if record.owner == owner:
                        self._end(record, "quota")

    def _is_due(self, name: str, used: SessionUsed, moment: float) -> bool:
        """Return whether a session's usage is to be counted now: of one at rest only memory is used, and slowly."""
        if name not in self._counted:
            return True
        before, at = self._counted[name]
        if before._replace(memory_mb_ms=used.memory_mb_ms) != used:
            return True
        return used != before and moment - at >= COUNT_AT_REST_S

    def _end(self, record: StoredSession, reason: Literal["quota", "killed"]) -> None:
        facts = self._worker.end(record.id, record.owner, reason)
        if facts is not None:
            self.record_end(record, facts)

    def _plan_of(self, owner: str) -> Plan | None:
        key = self._keys.get(owner)
        return None if key is None else self._plans.get(key.plan)


def used_of(facts: dict[str, Any]) -> SessionUsed:
    """Return what a session has used until the worker reported it."""
    usage = facts["usage"]
    return SessionUsed(
        awake_ms=int(facts["awake_ms"]),
        cpu_ms=int(usage["cpu_ms"]),
        memory_mb_ms=int(facts.get("charged_mb_ms", 0)),
        egress_bytes=int(usage.get("egress_bytes", 0)),
    )
