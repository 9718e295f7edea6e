"""The side of a worker: it serves the conversations that api processes begin."""

from __future__ import annotations

import logging
import socket
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from transport.conversation import ConversationEnd
from transport.endpoint import Endpoint, Peer
from transport.frames import VERSION, WireFrame
from transport.link import QueueSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from transport.access import BrokerAccess
    from transport.frames import NewerMessage

log = logging.getLogger(__name__)

#: The queue of a worker that is gone is removed by the broker after this.
QUEUE_EXPIRES_MS = 60_000
#: Conversations that were begun or refused, which are not begun again.
MOST_SEEN = 65_536
MOST_CONVERSATIONS = 8192
#: Facts that change all the time, as the free places do, are announced this often. Below `dispatch.amqp_workers`'s
#: ANNOUNCED_S, with a tick in between.
CHANGED_S = 0.3


class AcceptingEndpoint(Endpoint):
    """A worker. `serve` is called with a connected socket for each conversation, and must not block."""

    def __init__(
        self,
        access: BrokerAccess,
        queue: str,
        *,
        serve: Callable[[socket.socket], None],
        facts: Callable[[], dict[str, Any]],
    ) -> None:
        """Serve at a queue. `facts` describes this worker to api processes."""
        super().__init__(access, queue, "workers", "apis")
        self._serve = serve
        self._facts = facts
        self._announced: dict[str, Any] = {}
        self._announced_at = 0.0
        #: Conversations by name: whether they were begun.
        self._seen: OrderedDict[str, bool] = OrderedDict()

    def queue_name(self) -> str:
        """Return the name of the durable queue of this process."""
        return f"{self.prefix}.{self.name}"

    def queue(self) -> QueueSpec:
        """Return a durable queue: jobs in it outlive a restart of the broker."""
        return QueueSpec(self.queue_name(), QUEUE_EXPIRES_MS, self._hears, self._speaks_to, wants_confirms=False)

    def facts(self) -> dict[str, Any]:
        """Return the facts that are announced to api processes, with our clock."""
        self._announced, self._announced_at = self._facts(), time.monotonic()
        return {**self._announced, "clock_ms": round(time.time() * 1000)}

    def on_tick(self) -> None:
        """Announce within CHANGED_S that there are more or fewer free places."""
        super().on_tick()
        is_due = time.monotonic() - self._announced_at >= CHANGED_S
        if is_due and self.link.is_up and self.peers and self._facts() != self._announced:
            self.announce()

    def on_peer(self, peer: Peer, *, is_new: bool) -> None:
        """Introduce this worker to an api process that has started."""
        del peer
        if is_new:
            self.announce()

    def on_peer_gone(self, peer: Peer) -> None:
        """Hang up on an api process that has gone: its runs are interrupted."""
        for conversation in list(self.conversations.values()):
            if conversation.peer == peer.name:
                conversation.close()

    def on_frame(self, frame: WireFrame, conversation: ConversationEnd | None) -> None:
        """Begin a conversation, once; and answer about one that is over."""
        if frame.kind == "open":
            self._open(frame)
        elif frame.kind == "unknown" and conversation is not None:
            conversation.close()
        elif frame.kind == "resume" and conversation is None:
            seen = self._seen.get(frame.conversation, False)
            self._remember(frame.conversation, begun=seen)
            self.reply(frame.reply_to, WireFrame("unknown", frame.conversation, facts={"seen": seen}))

    def _open(self, frame: WireFrame) -> None:
        self.link.acknowledge()  # before it is acted on
        name = frame.conversation
        if not name or name in self._seen:
            return  # the broker has delivered it again
        if frame.not_after_ms and time.time() * 1000 > frame.not_after_ms:
            log.warning("a job came too late and was not begun", extra={"sender": frame.sender})
            self._remember(name, begun=False)
            self.reply(frame.reply_to, WireFrame("late", name))
            return
        if len(self.conversations) >= MOST_CONVERSATIONS:
            log.warning("a conversation was refused: there are %d", MOST_CONVERSATIONS)
            self._remember(name, begun=False)
            self.reply(frame.reply_to, WireFrame("unknown", name, facts={"seen": False}))
            return
        self._remember(name, begun=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        conversation = ConversationEnd(name, ours, self.link.loop, self.transmit, self._on_closed)
        conversation.route, conversation.peer = frame.reply_to, frame.sender
        if frame.sender not in self.peers:  # without an announcement of this process it is hung up in time
            self.peers[frame.sender] = Peer(frame.sender, frame.reply_to, time.monotonic())
        self.conversations[name] = conversation
        conversation.begin()
        conversation.receive(frame)
        self._serve(theirs)

    def _on_closed(self, conversation: ConversationEnd) -> None:
        self.conversations.pop(conversation.name, None)

    def _remember(self, name: str, *, begun: bool) -> None:
        self._seen[name] = begun
        self._seen.move_to_end(name)
        while len(self._seen) > MOST_SEEN:
            self._seen.popitem(last=False)

    def on_newer(self, error: NewerMessage) -> None:
        """Send a message of a newer version back."""
        if error.conversation:
            self._remember(error.conversation, begun=False)
        self.reply(error.reply_to, WireFrame("newer", error.conversation, facts={"version": VERSION}))
