"""Accept the worker's connections, serve each in a task, and tell what was permitted and what was not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson

from egress.accounts import Accounts
from egress.front import Front
from egress.opening import MAX_LINE_BYTES, Opening, OpeningInvalid, read_opening
from egress.peer import Peer
from egress.verdicts import VERDICTS, Refused

if TYPE_CHECKING:
    from pathlib import Path

    from egress.dialer import Dialer

log = logging.getLogger(__name__)
audit = logging.getLogger("audit")

BACKLOG = 1024
OPENING_S = 10.0
SWEEP_S = 10.0
ROOT = 0


class EgressServer:
    """Serves root's connections at a Unix socket."""

    def __init__(self, path: Path, dialer: Dialer, *, most: int, uids: frozenset[int] = frozenset({ROOT})) -> None:
        """`most` connections at a time; `uids` are the accounts that are served, the worker's alone."""
        self._dialer = dialer
        self._uids = uids
        self._accounts = Accounts(most)
        self._tasks: set[asyncio.Task[None]] = set()
        #: The connections that are served, by run.
        self._fronts: dict[str, set[Front]] = {}
        self._verdicts: Counter[str] = Counter()
        self._sent = self._received = 0
        self._listener = _listen(path)

    async def serve(self) -> None:
        """Serve until cancelled; then every connection is closed."""
        loop = asyncio.get_running_loop()
        sweeper = asyncio.create_task(self._sweep())
        try:
            while True:
                try:
                    accepted, _ = await loop.sock_accept(self._listener)
                except OSError as e:  # no more descriptors: those in use are released in time
                    log.warning("a connection cannot be accepted: %s", e)
                    await asyncio.sleep(0.1)
                    continue
                task = asyncio.create_task(self._connection(accepted))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            sweeper.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(sweeper, *self._tasks, return_exceptions=True)
            self._listener.close()

    def status(self) -> dict[str, Any]:
        """Return the counts since the start: connections by verdict, and bytes."""
        return {
            "open": self._accounts.open,
            "verdicts": {verdict: self._verdicts[verdict] for verdict in VERDICTS},
            "sent_bytes": self._sent,
            "received_bytes": self._received,
        }

    async def _connection(self, accepted: socket.socket) -> None:
        peer = Peer(accepted)
        try:
            if _peer_uid(accepted) not in self._uids | {os.geteuid()}:  # its own account: the health check
                log.warning("a stranger at the socket was turned away")
                return
            opening = await _read_opening(peer)
            if opening is None:
                await peer.write(orjson.dumps({"status": self.status()}) + b"\n")
            elif opening.is_change:
                await peer.write(orjson.dumps({"ended": self._change(opening)}) + b"\n")
            else:
                await self._serve(peer, opening)
        except (OpeningInvalid, TimeoutError) as e:
            log.warning("the worker's line is not what was agreed on: %s", e)
        except OSError:
            pass  # the worker has gone, or its run has ended
        except Exception:
            log.exception("a connection failed")
        finally:
            peer.close()

    def _change(self, opening: Opening) -> int:
        """Replace the patterns of a run. Returns how many connections that ends, as it permits them no more."""
        account = self._accounts.account(opening.run, opening.key, opening.left)
        account.used_at = time.monotonic()
        policy = account.newest_policy(opening.policy, opening.version)
        return sum(front.judge(policy) for front in list(self._fronts.get(opening.run, ())))

    async def _serve(self, peer: Peer, opening: Opening) -> None:
        account = self._accounts.account(opening.run, opening.key, opening.left)
        policy = account.newest_policy(opening.policy, opening.version)
        front = Front(peer, policy, account, self._dialer, any_address=opening.for_build)
        began = time.monotonic()
        try:
            delay_s = self._accounts.open_connection(account)
        except Refused as e:
            self._verdicts[e.verdict] += 1
            await front.refuse(e)
            _tell(front, began)
            return
        fronts = self._fronts.setdefault(opening.run, set())
        fronts.add(front)
        try:
            if delay_s:
                await asyncio.sleep(delay_s)
            await front.serve()
        finally:
            fronts.discard(front)
            if not fronts and self._fronts.get(opening.run) is fronts:
                del self._fronts[opening.run]
            self._accounts.close_connection(account)
            self._verdicts[front.outcome.verdict] += 1
            self._sent += front.outcome.sent
            self._received += front.outcome.received
            _tell(front, began)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            for account in self._accounts.forget_idle():
                audit.info(
                    "refused connections without a line",
                    extra={
                        "event": "egress.refused",
                        "run_id": account.run,
                        "key": account.key,
                        "count": account.unlogged,
                    },
                )


def _tell(front: Front, began: float) -> None:
    """Write the line of a connection; those that are refused have a budget of lines for each run."""
    outcome, account = front.outcome, front.account
    if not outcome.host and outcome.verdict == "allowed":
        return  # the program has gone before it asked for anything
    if outcome.verdict not in ("allowed", "idle") and not account.may_log_refusal():
        return
    audit.info(
        "connection",
        extra={
            "event": "egress.connection",
            "run_id": account.run,
            "key": account.key,
            "host": outcome.host,
            "port": outcome.port,
            "address": outcome.address,
            "verdict": outcome.verdict,
            "reason": outcome.message,
            "sent_bytes": outcome.sent,
            "received_bytes": outcome.received,
            "ms": round((time.monotonic() - began) * 1000),
        },
    )


async def _read_opening(peer: Peer) -> Opening | None:
    held = b""
    async with asyncio.timeout(OPENING_S):
        while b"\n" not in held:
            data = await peer.read()
            if not data:
                raise ConnectionError("the worker has gone")
            if len(held) > MAX_LINE_BYTES:
                raise OpeningInvalid("it has no end")
            held += data
    line, _, rest = held.partition(b"\n")
    peer.put_back(rest)
    return read_opening(line)


def _listen(path: Path) -> socket.socket:
    """Bind under a temporary name, so that the socket appears with its final mode."""
    fresh = path.with_suffix(".new")
    for old in (fresh, path):
        with contextlib.suppress(FileNotFoundError):
            old.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(fresh))
    finally:
        os.umask(mask)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    fresh.rename(path)
    return listener


def _peer_uid(connection: socket.socket) -> int:
    """Return the uid of the peer, as the kernel reports it (SO_PEERCRED, unix(7))."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
