"""Move bytes between a program and a server until both are done, checked on their way out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from egress.inspect import RequestOver
from egress.verdicts import Refused

if TYPE_CHECKING:
    from egress.accounts import RunAccount
    from egress.inspect import Inspector
    from egress.peer import Peer

#: Without a byte in either direction.
IDLE_S = 60.0


class Relay:
    """The two directions of one connection."""

    def __init__(
        self, program: Peer, server: Peer, inspector: Inspector, account: RunAccount, *, ends_with_server: bool
    ) -> None:
        """`ends_with_server`: a plain request is over when the server has closed."""
        self._program = program
        self._server = server
        self._inspector = inspector
        self._account = account
        self._ends_with_server = ends_with_server
        self._idle: asyncio.Timeout | None = None

    async def run(self) -> None:
        """Relay until the end. Raises Refused; OSError where an end has broken off."""
        try:
            async with asyncio.timeout(IDLE_S) as self._idle:
                await self._both()
        except TimeoutError as e:
            raise Refused("idle", f"nothing was sent or received for {IDLE_S:g} s") from e

    async def _both(self) -> None:
        out = asyncio.create_task(self._outward())
        back = asyncio.create_task(self._inward())
        try:
            await asyncio.wait((out, back), return_when=asyncio.FIRST_EXCEPTION)
            if back.done() and not back.cancelled() and back.exception() is None and self._ends_with_server:
                return
            for task in (out, back):
                if task.done():
                    task.result()
            await asyncio.gather(out, back)
        finally:
            for task in (out, back):
                task.cancel()
            await asyncio.gather(out, back, return_exceptions=True)

    async def _outward(self) -> None:
        while data := await self._program.read():
            self._moved(len(data))
            try:
                checked = self._inspector.feed(data)
            except RequestOver:
                return  # the response is still to come
            if checked:
                await self._server.write(checked)
        if rest := self._inspector.end():
            await self._server.write(rest)
        self._server.end_writing()

    async def _inward(self) -> None:
        while data := await self._server.read():
            self._moved(len(data))
            await self._program.write(data)
        self._program.end_writing()

    def _moved(self, size: int) -> None:
        """Count bytes, and restart the connection's idle time. Raises Refused."""
        self._account.spend(size)
        if self._idle is not None:
            self._idle.reschedule(asyncio.get_running_loop().time() + IDLE_S)
