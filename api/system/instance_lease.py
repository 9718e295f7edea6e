"""The lease of an instance: taken before anything is recovered, kept by heartbeats, given up at the end.

Instances that reach the same workers through a broker share a database (`records.leases.may_share`). Any other
second instance would end the first one's runs, because its worker does not know them. So it
is refused while the first one is alive, which its heartbeat shows: the lease of a killed instance is waited
out, one whose heartbeat moves is not. A restart on the same STATE_DIR takes over its own lease at once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import socket
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from config.settings import SettingsError
from config.shared_parts import shared_queue
from records.errors import RecordsUnavailable
from records.leases import Holder, Instance, verify_each_other

if TYPE_CHECKING:
    from config.settings import Settings
    from records.leases import LeaseStore

log = logging.getLogger(__name__)

FILE = "instance"
#: Heartbeats in the time of a lease: a few may be late or fail.
BEATS = 10 / 3
LOOK_S = 0.5
STOP_WITHIN_S = 10.0
_ID = re.compile(r"inst_[0-9a-f]{24}")
#: The name of this start: of the process that has the lease, and of those that are forked from it.
_START = secrets.token_hex(8)
#: The instances whose lease this start has had: it takes it from no later start.
_had: set[str] = set()
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: Characters of the digest of a key: enough to tell keys apart.
_DIGEST = 16


class SecondInstance(SettingsError):
    """Another instance of the service uses this database."""

    def __init__(self, instance: Instance, other: Holder) -> None:
        super().__init__(
            f"DATABASE_URL: another instance of the service ({other.id} on {other.host}) uses this database, and "
            f"{_obstacle(instance, other)}. Or stop the other one, or give this one a database of its own"
        )


def _obstacle(instance: Instance, other: Holder) -> str:
    """Return why two instances cannot share a database, and what to do."""
    if instance.id == other.id:
        return (
            "this one has the same id: it runs on the same STATE_DIR, or on a copy, where a new id is made once "
            f"api/{FILE} is removed"
        )
    if instance.queue is None or other.queue is None:
        which = "this one" if instance.queue is None else "that one"
        return (
            f"{which} does not share its workers, storage and limits: several need AMQP_URL, PostgreSQL, "
            "STORAGE_URL, RATELIMIT_URL and SIGNING_KEY, the same in all"
        )
    if instance.queue != other.queue:
        return (
            f"it reaches its workers by AMQP_QUEUE={other.queue}, this one by AMQP_QUEUE={instance.queue}: set "
            "the same for both"
        )
    assert not verify_each_other(instance.signing, other.signing)
    return "its SIGNING_KEY is another one: each must have the other's newest key, or links fail"


def this_instance(folder: Path, settings: Settings | None = None) -> Instance:
    """Return this instance; its id is kept in `folder`, and made if there is none. Raises SettingsError.

    By the settings, if they are given, it may share its database.
    """
    queue = None if settings is None else shared_queue(settings)
    signing = () if settings is None or queue is None else tuple(map(_digest, settings.signing_keys()))
    try:
        boot = _BOOT_ID.read_text().strip()
        return Instance(_kept_id(folder), socket.gethostname(), boot, queue, signing, _START)
    except OSError as e:
        raise SettingsError(f"STATE_DIR: {folder / FILE} is unusable: {e.strerror}") from e


def _digest(key: str) -> str:
    return hashlib.sha256(f"runyard/instances/v1:{key}".encode()).hexdigest()[:_DIGEST]


def _kept_id(folder: Path) -> str:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / FILE
    with suppress(FileExistsError):
        made = f"inst_{secrets.token_hex(12)}\n"
        temporary = folder / f".{FILE}-{secrets.token_hex(8)}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(made)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # not by renaming: of two processes that make one, both get the first
        finally:
            temporary.unlink()
    found = path.read_text(errors="replace").strip()
    if not _ID.fullmatch(found):
        raise SettingsError(f"STATE_DIR: {path} is damaged; remove it, and a new one is created")
    return found


def acquire(leases: LeaseStore, instance: Instance, *, look_s: float = LOOK_S) -> None:
    """Take the lease; wait out one that has no heartbeat any more. Raises SecondInstance and RecordsUnavailable."""
    first: Holder | None = None
    while (other := leases.acquire(instance, again=instance.id in _had)) is not None:
        if first is None or other.id != first.id:
            first = other
            log.warning(
                "another instance may use this database; waiting for its next heartbeat, or for its lease to end",
                extra={"instance": other.id, "instance_host": other.host, "lease_s": leases.lease_ms / 1000},
            )
        elif other.heartbeat_ms != first.heartbeat_ms:
            raise SecondInstance(instance, other)
        time.sleep(look_s)
    _had.add(instance.id)


class Lease:
    """A lease that was acquired, kept by a thread. To be started after a fork."""

    def __init__(self, leases: LeaseStore, instance: Instance, *, beat_s: float | None = None) -> None:
        """`beat_s` are the seconds from one heartbeat to the next, by default three tenths of the lease."""
        self._leases = leases
        self._instance = instance
        self._beat_s = beat_s or leases.lease_ms / 1000 / BEATS
        self._stop = Event()
        self._is_mine = True
        #: Until then (monotonic seconds) no other instance takes over the runs of this one.
        self._sure_until = self._from_now()
        self._thread = Thread(target=self._keep, name="lease", daemon=True)

    @property
    def held(self) -> bool:
        """Return whether anything may be accepted: not once another instance has taken over.

        One that shares its database holds its lease no longer than the others, who take over its runs, believe.
        """
        return self._is_mine and (self._instance.queue is None or time.monotonic() < self._sure_until)

    def start(self) -> None:
        """Begin to give heartbeats."""
        self._sure_until = self._from_now()
        self._thread.start()

    def stop(self) -> None:
        """Stop the heartbeats; the lease stays until it is released or expires."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_WITHIN_S)

    def beat(self) -> None:
        """Send one heartbeat; take the lease again if it was lost and is free."""
        with suppress(RecordsUnavailable):  # logged elsewhere; without a database nothing is accepted
            sure_until = self._from_now()
            is_mine = self._leases.beat(self._instance) or self._leases.acquire(self._instance, again=True) is None
            if self._is_mine and not is_mine:
                log.critical("another instance has taken over the database: no run is accepted here any more")
            elif is_mine and not self._is_mine:
                log.warning("this instance has the database again")
            self._is_mine, self._sure_until = is_mine, sure_until

    def _from_now(self) -> float:
        return time.monotonic() + self._leases.lease_ms / 1000

    def _keep(self) -> None:
        while not self._stop.wait(self._beat_s):
            try:
                self.beat()
            except Exception:
                log.exception("a heartbeat failed; the next one is tried")
