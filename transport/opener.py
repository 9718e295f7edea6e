"""The side of an api process: it begins conversations with workers."""

from __future__ import annotations

import secrets
import socket
import time
from typing import TYPE_CHECKING

from transport.conversation import ConversationEnd
from transport.endpoint import PROBE_S, Endpoint, Peer
from transport.frames import WireFrame, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from transport.access import BrokerAccess
    from transport.frames import NewerMessage

#: A job that waits longer for its worker to take it is not begun any more.
VALID_S = 10.0
#: A worker that has not answered at all is asked after this whether it knows of the conversation.
FIRST_PROBE_S = 1.0
#: A worker remembers all conversations of this time: it can begin fewer than `transport.acceptor.MOST_SEEN` in it.
REMEMBERED_S = 60.0


class OpenedConversation(ConversationEnd):
    """A conversation that this process has begun, and how it ended. `reason` and `is_begun` are for any thread."""

    #: False once it is certain that the worker will never act on it.
    is_begun = True
    reason = "the connection was closed"
    is_durable = False
    is_opened = False
    is_answered = False
    opened_at = 0.0

    def receive(self, frame: WireFrame) -> None:
        """Take a frame, which shows that the worker has begun it. Raises OutsideWindow."""
        self.is_answered = True
        super().receive(frame)

    def fail(self, reason: str, *, is_begun: bool) -> None:
        """End it; the local program finds the reason behind the end of its socket."""
        if self.is_open:
            self.reason, self.is_begun = reason, is_begun
            self.close()


class OpeningEndpoint(Endpoint):
    """An api process. `open` is for any thread."""

    def __init__(
        self,
        access: BrokerAccess,
        queue: str,
        *,
        on_worker: Callable[[Peer], None],
        on_worker_gone: Callable[[Peer], None],
    ) -> None:
        """`on_worker` is called at every announcement of a worker."""
        super().__init__(access, queue, "apis", "workers")
        self._on_worker = on_worker
        self._on_worker_gone = on_worker_gone
        self._connections = 0

    def open(self, worker: Peer, *, is_durable: bool = False) -> tuple[socket.socket, OpenedConversation]:
        """Begin a conversation with a worker: the local socket, and what is known of its end.

        Nothing is sent before something is written to the socket. With `is_durable` the first message is kept by a
        broker that restarts, and is not begun after VALID_S.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        conversation = OpenedConversation(
            secrets.token_hex(16), ours, self.link.loop, self._transmit_opened, self._on_closed
        )
        conversation.is_durable = is_durable
        conversation.route, conversation.peer = worker.queue, worker.name
        self.link.call(lambda: self._begin(conversation))
        return theirs, conversation

    def _begin(self, conversation: OpenedConversation) -> None:
        if conversation.peer not in self.peers:
            conversation.fail("the worker has gone", is_begun=False)
            return
        self.conversations[conversation.name] = conversation
        conversation.begin()
        conversation.read()  # the thread that has opened it has not waited for us

    def _on_closed(self, conversation: ConversationEnd) -> None:
        self.conversations.pop(conversation.name, None)

    def _transmit_opened(self, conversation: ConversationEnd, frame: WireFrame) -> None:
        assert isinstance(conversation, OpenedConversation)
        if conversation.is_opened:
            # A later one may overtake those before it: the worker asks for what is missing.
            self.transmit(conversation, frame, in_order=not conversation.is_answered)
            return
        if not frame.payload:  # closed before anything was asked
            return
        conversation.is_opened, conversation.opened_at = True, time.monotonic()
        valid_until = 0
        worker = self.peers.get(conversation.peer)
        if conversation.is_durable and worker is not None:
            ahead = float(worker.facts["clock_ahead_ms"])
            valid_until = int((time.time() + VALID_S) * 1000 + ahead)
        opening = WireFrame(
            "open",
            conversation.name,
            reply_to=self.queue_name(),
            sender=self.name,
            is_last=frame.is_last,
            not_after_ms=max(0, valid_until),
            payload=frame.payload,
        )
        persistent_ms = round(VALID_S * 1000) if conversation.is_durable else None
        if not self.link.publish(
            "", conversation.route, encode(opening), persistent_ms=persistent_ms, mandatory=True
        ):
            conversation.fail("the broker cannot be reached", is_begun=False)

    # -- of the endpoint ---------------------------------------------------------------------------

    def queue_name(self) -> str:
        """Return the name of a queue that is this connection's alone: the one of before may still be there."""
        return f"{self.prefix}.{self.name}.{self._connections}"

    def on_down(self) -> None:
        """Use another queue from now on."""
        self._connections += 1

    def on_peer(self, peer: Peer, *, is_new: bool) -> None:
        """Pass a worker's announcement on, with how far its clock is ahead of ours."""
        del is_new
        clock_ms = peer.facts.get("clock_ms")
        if isinstance(clock_ms, int):
            peer.ahead_ms.append(clock_ms - time.time() * 1000)
        # One that the broker has held up seems to come from a clock that is behind: the job would be late at once.
        peer.facts["clock_ahead_ms"] = max(peer.ahead_ms, default=0.0)
        self._on_worker(peer)

    def on_peer_gone(self, peer: Peer) -> None:
        """End the conversations with a worker that has gone."""
        for conversation in list(self.conversations.values()):
            if conversation.peer == peer.name and isinstance(conversation, OpenedConversation):
                conversation.fail("the worker has gone", is_begun=conversation.is_opened)
        self._on_worker_gone(peer)

    def probe_after_s(self, conversation: ConversationEnd, now: float) -> float:
        """Ask soon about one that was never answered; not about one that has sent nothing."""
        assert isinstance(conversation, OpenedConversation)
        if not conversation.is_opened:
            return now
        return PROBE_S if conversation.is_answered else FIRST_PROBE_S

    def on_frame(self, frame: WireFrame, conversation: ConversationEnd | None) -> None:
        """Handle the end of a conversation, and questions about one that is over."""
        if conversation is None:
            if frame.kind == "resume":
                self.reply(frame.reply_to, WireFrame("unknown", frame.conversation))
            return
        assert isinstance(conversation, OpenedConversation)
        if frame.kind == "unknown":
            was_seen = (frame.facts or {}).get("seen", True) is not False
            # It does not remember all that it has ever begun.
            is_old = time.monotonic() - conversation.opened_at > REMEMBERED_S
            conversation.fail("the worker does not know of it", is_begun=was_seen or is_old)
        elif frame.kind == "late":
            conversation.fail("the worker took it too late", is_begun=False)
        elif frame.kind == "newer":
            conversation.fail("the worker has an older version and does not understand it", is_begun=False)

    def on_newer(self, error: NewerMessage) -> None:
        """End a conversation that a worker of a newer version answers."""
        conversation = self.conversations.get(error.conversation)
        if isinstance(conversation, OpenedConversation):
            conversation.fail("the worker answers in a newer version", is_begun=True)

    def on_unsure(self, body: bytes) -> None:
        """Ask the worker whether it has the first message of a conversation."""
        conversation = self.conversations.get(decode(body).conversation)
        if conversation is not None:
            conversation.ask_to_resume()

    def on_returned(self, body: bytes) -> None:
        """End a conversation whose first message was put into no queue."""
        conversation = self.conversations.get(decode(body).conversation)
        if isinstance(conversation, OpenedConversation):
            conversation.fail("the worker's queue is gone", is_begun=False)
