"""One process among those that hold conversations: it announces itself, receives announcements and routes frames.

A process sends `hello` to all of the other kind every BEAT_S, and `echo` to itself. One that was silent for
GONE_S is gone, but only if our own echoes came back meanwhile: else our own connection is silent.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transport.access import BrokerAccess
from transport.frames import MalformedMessage, NewerMessage, WireFrame, decode, encode
from transport.link import BrokerLink, QueueSpec
from transport.window import OutsideWindow

if TYPE_CHECKING:
    from transport.conversation import ConversationEnd

log = logging.getLogger(__name__)

BEAT_S = 2.0
GONE_S = 10.0
#: After a longer time without an echo of ours, the silence of the others is counted from the next echo on.
ECHO_GAP_S = 2 * BEAT_S + 1
MOST_PEERS = 4096
#: Announcements from which the clock of a process is known.
CLOCKS = 8
#: A conversation that is silent is asked about: whether the other side knows it.
PROBE_S = 10.0
BYE_S = 0.2
#: Between two lines about messages that are not understood.
REPORT_S = 10.0


@dataclass(slots=True)
class Peer:
    """A process of the other kind."""

    name: str
    queue: str
    heard_at: float
    facts: dict[str, Any] = field(default_factory=dict)
    #: The milliseconds that its clock was ahead of ours in each of its last announcements.
    ahead_ms: deque[float] = field(default_factory=lambda: deque(maxlen=CLOCKS))


class Endpoint:
    """The part that api and worker have in common. `start`, `stop` and properties are for any thread."""

    def __init__(self, access: BrokerAccess, queue: str, kind: str, hears: str) -> None:
        """`queue` is the beginning of all names; `hears` is the kind of process that this one talks with."""
        self.name = f"{kind.removesuffix('s')}_{secrets.token_hex(12)}"
        self.prefix = queue
        self.peers: dict[str, Peer] = {}
        self.conversations: dict[str, ConversationEnd] = {}
        self._speaks_to, self._hears = f"{queue}.{kind}", f"{queue}.{hears}"
        self._beat_at = self._up_at = self._echo_at = 0.0
        #: No silence before this is counted.
        self._counts_from = 0.0
        self._reported_at: dict[str, float] = {}
        self._said_bye = False
        self.link = BrokerLink(access, self, f"runyard {self.name}")

    def start(self) -> None:
        """Connect to the broker, and stay connected."""
        self.link.start()

    def stop(self) -> None:
        """Tell the others that this process ends, and end the connection."""
        self.link.call(self._say_bye)
        time.sleep(BYE_S)
        self.link.stop()

    @property
    def is_connected(self) -> bool:
        """Return whether the broker takes and delivers messages now."""
        return self.link.is_up and not self.link.is_blocked

    def connected_s(self) -> float:
        """Return for how long the broker has been reached; 0 if it is not. For any thread."""
        return time.monotonic() - self._up_at if self.is_connected else 0.0

    # -- for the two kinds -------------------------------------------------------------------------

    def queue_name(self) -> str:
        """Return the name of this process's queue for the current connection."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """Return the facts of this process that are announced to the others."""
        return {}

    def on_peer(self, peer: Peer, *, is_new: bool) -> None:
        """Note that a process of the other kind announced itself."""

    def on_peer_gone(self, peer: Peer) -> None:
        """Note that a process of the other kind has ended, or was silent for GONE_S."""

    def on_frame(self, frame: WireFrame, conversation: ConversationEnd | None) -> None:
        """Handle a frame of this kind's own, or of an unknown conversation."""

    def on_newer(self, error: NewerMessage) -> None:
        """Handle a message of a newer version."""

    # -- frames ------------------------------------------------------------------------------------

    def transmit(self, conversation: ConversationEnd, frame: WireFrame, *, in_order: bool = False) -> None:
        """Publish a frame of a conversation; with `in_order` behind the message that began it."""
        receiving = conversation.receiving
        receiving.credited = receiving.consumed
        full = WireFrame(
            frame.kind,
            conversation.name,
            reply_to=self.queue_name() if frame.kind in ("resume", "resumed") else "",
            offset=frame.offset,
            consumed=receiving.consumed,
            is_last=frame.is_last,
            payload=frame.payload,
        )
        self.link.publish("", conversation.route, encode(full), in_order=in_order)

    def reply(self, route: str, frame: WireFrame) -> None:
        """Publish a frame that belongs to no conversation of ours."""
        if route.startswith(f"{self.prefix}."):
            self.link.publish("", route, encode(frame))

    def on_message(self, body: bytes) -> None:
        """Route a message (`transport.link.LinkUser`)."""
        try:
            frame = decode(body)
        except NewerMessage as e:
            self._report("a message is refused: %s", e)
            self.on_newer(e)
            return
        except MalformedMessage as e:
            self._report("a message in our queue is none of ours, and is dropped: %s", e)
            return
        if frame.kind == "echo":
            if frame.sender == self.name:
                self._on_echo()
        elif frame.kind in ("hello", "bye"):
            self._on_announcement(frame)
        else:
            self._on_conversation(frame)

    def _report(self, text: str, error: Exception) -> None:
        """Log a message that is not understood. Processes of another version may send many."""
        now = time.monotonic()
        if now - self._reported_at.get(text, float("-inf")) > REPORT_S:
            self._reported_at[text] = now
            log.warning(text, error)

    def _on_echo(self) -> None:
        now = time.monotonic()
        if now - self._echo_at > ECHO_GAP_S:  # the broker stood still, and may bring our echo first
            self._counts_from = now
        self._echo_at = now

    def _on_conversation(self, frame: WireFrame) -> None:
        conversation = self.conversations.get(frame.conversation)
        if conversation is None or frame.kind in ("open", "unknown", "late", "newer"):
            self.on_frame(frame, conversation)
            return
        if frame.reply_to.startswith(f"{self.prefix}."):
            conversation.route = frame.reply_to
        try:
            conversation.receive(frame)
        except OutsideWindow as e:
            log.warning("a conversation is closed: %s", e)
            conversation.close()

    def _on_announcement(self, frame: WireFrame) -> None:
        if not frame.sender:
            return
        peer = self.peers.get(frame.sender)
        if frame.kind == "bye":
            if peer is not None:
                self._forget(peer)
            return
        is_new = peer is None
        if peer is None:
            if len(self.peers) >= MOST_PEERS:
                return
            peer = self.peers[frame.sender] = Peer(frame.sender, frame.reply_to, time.monotonic())
        peer.queue, peer.heard_at, peer.facts = frame.reply_to, time.monotonic(), frame.facts or {}
        self.on_peer(peer, is_new=is_new)

    def _forget(self, peer: Peer) -> None:
        del self.peers[peer.name]
        self.on_peer_gone(peer)

    # -- the link ----------------------------------------------------------------------------------

    def queue(self) -> QueueSpec:
        """Return the queue for a new connection (`transport.link.LinkUser`)."""
        return QueueSpec(self.queue_name(), None, self._hears, self._speaks_to, wants_confirms=True)

    def on_up(self) -> None:
        """Announce this process, and go on with every conversation (`transport.link.LinkUser`)."""
        self._up_at = self._echo_at = self._counts_from = time.monotonic()
        self.announce()
        for conversation in list(self.conversations.values()):
            conversation.ask_to_resume()

    def on_down(self) -> None:
        """Do nothing: conversations go on when the connection is there again (`transport.link.LinkUser`)."""

    def on_returned(self, body: bytes) -> None:
        """Do nothing (`transport.link.LinkUser`)."""

    def on_unsure(self, body: bytes) -> None:
        """Do nothing (`transport.link.LinkUser`)."""

    def on_tick(self) -> None:
        """Announce what is due, and look for those who are gone (`transport.link.LinkUser`)."""
        if not self.link.is_up:
            return
        now = time.monotonic()
        if now - self._beat_at >= BEAT_S and not self.link.is_blocked:
            self._beat_at = now
            self.announce()
            self.link.publish("", self.queue_name(), encode(WireFrame("echo", sender=self.name)))
        for peer in list(self.peers.values()):
            if self._echo_at - max(peer.heard_at, self._counts_from) > GONE_S:
                log.warning("%s was not heard for %d s", peer.name, round(GONE_S))
                self._forget(peer)
        for conversation in list(self.conversations.values()):
            if now - conversation.heard_at > self.probe_after_s(conversation, now):
                conversation.heard_at = now  # asked once; the answer, or the next probe, comes later
                conversation.ask_to_resume()

    def probe_after_s(self, _conversation: ConversationEnd, _now: float) -> float:
        """Return after which silence a conversation is asked about."""
        return PROBE_S

    def announce(self) -> None:
        """Announce this process to all of the other kind."""
        if self._said_bye or self.link.is_blocked:
            return
        hello = WireFrame("hello", reply_to=self.queue_name(), sender=self.name, facts=self.facts())
        self.link.publish(self._speaks_to, "", encode(hello))

    def _say_bye(self) -> None:
        self._said_bye = True
        self.link.publish(self._speaks_to, "", encode(WireFrame("bye", sender=self.name)))
