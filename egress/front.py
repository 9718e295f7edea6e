"""Serve one connection of a program: its proxy request, the checks, the connection that it asked for."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.http_head import (
    HeadInvalid,
    RequestHead,
    may_hold_head,
    parse_absolute_target,
    parse_authority,
    read_head,
)
from egress.inspect import HttpInspector, Inspector, TunnelInspector
from egress.peer import Peer
from egress.policy import NotPermitted
from egress.relay import IDLE_S, Relay
from egress.verdicts import TLS_ALERT, Refused, refusal_response

if TYPE_CHECKING:
    from egress.accounts import RunAccount
    from egress.dialer import Dialer
    from egress.policy import Policy
    from egress.verdicts import Verdict

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
#: Seconds that a refused program has to take the answer.
ANSWER_S = 5.0


@dataclass(slots=True)
class Outcome:
    """The facts of one connection, for its line in the log. `host` is empty where none was understood."""

    host: str = ""
    port: int = 0
    address: str = ""
    verdict: Verdict = "allowed"
    message: str = ""
    sent: int = 0
    received: int = 0

    @property
    def where(self) -> str:
        """Return host and port as one text; empty where no host was understood."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}" if self.host else ""


@dataclass(slots=True, eq=False)
class Front:
    """The connection of one program, from its first byte to its last."""

    program: Peer
    policy: Policy
    account: RunAccount
    dialer: Dialer
    #: True if no address of the permitted hosts is refused.
    any_address: bool = False
    outcome: Outcome = field(default_factory=Outcome)
    _tunnel: TunnelInspector | None = None
    _is_answered: bool = False
    _task: asyncio.Task[None] | None = None
    _withdrawn: Refused | None = None

    async def serve(self) -> None:
        """Serve it to its end; `outcome` then tells how that was. Never raises for what a program or host does."""
        self._task = asyncio.create_task(self._serve())
        try:
            await self._task
        except Refused as e:
            await self.refuse(e)
        except asyncio.CancelledError:
            if self._withdrawn is None:
                raise
            await self.refuse(self._withdrawn)
        except OSError as e:
            # One of the two ends has broken off: that is an end as any other.
            self.outcome.message = (e.strerror or "broken off").lower()

    def judge(self, policy: Policy) -> bool:
        """Replace the patterns. Returns whether that ends the connection, because they do not permit its host."""
        self.policy = policy
        if not self.outcome.host or self._task is None or self._task.done() or self._withdrawn is not None:
            return False
        try:
            policy.check(self.outcome.host, self.outcome.port)
        except NotPermitted as e:
            self._withdrawn = Refused("denied", str(e))
            self._task.cancel()
            return True
        return False

    async def refuse(self, refused: Refused) -> None:
        """Answer the program with the reason of the refusal, if an answer is still possible."""
        self.outcome.verdict, self.outcome.message = refused.verdict, refused.message
        if not self._is_answered:
            answer = refusal_response(refused, self.outcome.where)
        elif self._tunnel is not None and self._tunnel.speaks_tls and refused.verdict == "tls":
            answer = TLS_ALERT
        elif refused.verdict == "http" and not self.outcome.received:
            answer = refusal_response(refused, self.outcome.where)
        else:
            return
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                await self.program.write(answer)
                self.program.end_writing()
                while await self.program.read():  # unread bytes would have the answer thrown away
                    pass

    async def _serve(self) -> None:
        head = await self._read_head()
        if head is None:
            return
        outcome = self.outcome
        try:
            if head.method == b"CONNECT":
                target = b""
                outcome.host, outcome.port = parse_authority(head.target.decode("ascii"), None)
            else:
                outcome.host, outcome.port, target = parse_absolute_target(head.target)
        except HeadInvalid as e:
            raise Refused("malformed", str(e)) from e
        try:
            is_by_address = self.policy.check(outcome.host, outcome.port)
        except NotPermitted as e:
            raise Refused("denied", str(e)) from e
        if head.method == b"CONNECT":
            self._tunnel = TunnelInspector(outcome.host, outcome.port, is_by_address=is_by_address)
            await self._relay(self._tunnel, ESTABLISHED, b"")
        else:
            inspector = HttpInspector(outcome.host, outcome.port)
            await self._relay(inspector, b"", inspector.begin(head, target))

    async def _read_head(self) -> RequestHead | None:
        """Return the head of the proxy request; None if the program has gone without one. Raises Refused."""
        held = b""
        try:
            async with asyncio.timeout(IDLE_S):
                while True:
                    data = await self.program.read()
                    if not data:
                        return None
                    self.account.spend(len(data))
                    held += data
                    found = read_head(held) if may_hold_head(held, len(data)) else None
                    if found is not None:
                        head, size = found
                        self.program.put_back(held[size:])
                        return head
        except HeadInvalid as e:
            raise Refused("malformed", str(e)) from e
        except TimeoutError as e:
            raise Refused("idle", f"the request was not complete within {IDLE_S:g} s") from e

    async def _relay(self, inspector: Inspector, to_program: bytes, to_server: bytes) -> None:
        outcome = self.outcome
        connected, address = await self.dialer.connect(outcome.host, outcome.port, any_address=self.any_address)
        outcome.address = str(address)
        server = Peer(connected)
        try:
            self._is_answered = True
            if to_program:
                await self.program.write(to_program)
            if to_server:
                await server.write(to_server)
            ends_with_server = isinstance(inspector, HttpInspector)
            await Relay(self.program, server, inspector, self.account, ends_with_server=ends_with_server).run()
        finally:
            outcome.sent, outcome.received = server.sent, server.received
            server.close()
