"""Count the bytes of one direction of a conversation: those that were sent and not taken, and those that came."""

from __future__ import annotations

#: Bytes that a side may have sent and the other has not taken yet.
WINDOW_BYTES = 256 * 1024
#: The other side gets credit when it was not yet informed of this many taken bytes.
TELL_BYTES = WINDOW_BYTES // 4


class OutsideWindow(Exception):
    """The other side sends more than it may, or says that it took what was never sent."""


class SendWindow:
    """Bytes in the order in which they were sent, kept until the other side has taken them."""

    __slots__ = ("_kept", "acked", "is_last_sent")

    def __init__(self) -> None:
        self._kept = bytearray()
        self.acked = 0
        #: True once the end of this direction was sent.
        self.is_last_sent = False

    @property
    def sent(self) -> int:
        """Return the number of bytes that were sent."""
        return self.acked + len(self._kept)

    @property
    def room(self) -> int:
        """Return how many bytes may be sent now."""
        return WINDOW_BYTES - len(self._kept)

    def send(self, data: bytes) -> int:
        """Keep bytes that are being sent, and return the number of the first one."""
        offset = self.sent
        self._kept += data
        return offset

    def acknowledge(self, consumed: int) -> bool:
        """Forget what the other side has taken; return whether there is more room. Raises OutsideWindow."""
        if consumed > self.sent:
            raise OutsideWindow(f"{consumed} bytes were taken of {self.sent}")
        taken = consumed - self.acked
        if taken <= 0:
            return False
        del self._kept[:taken]
        self.acked = consumed
        return True

    def kept(self) -> bytes:
        """Return what the other side has not taken, from number `acked` on."""
        return bytes(self._kept)


class ReceiveWindow:
    """The bytes that have come and were not passed on."""

    __slots__ = ("consumed", "credited", "is_last_received", "pending", "received")

    def __init__(self) -> None:
        self.pending = bytearray()
        self.received = 0
        self.consumed = 0
        #: The part of `consumed` that the other side knows of.
        self.credited = 0
        #: True once everything of this direction has come.
        self.is_last_received = False

    def receive(self, offset: int, data: bytes, *, is_last: bool) -> bool:
        """Take bytes that have come; those that came before are dropped.

        Returns False if some before them are missing. Raises OutsideWindow.
        """
        if offset > self.received:
            return False
        fresh = data[self.received - offset :]
        if len(self.pending) + len(fresh) > WINDOW_BYTES or (fresh and self.is_last_received):
            raise OutsideWindow("more bytes came than the window has room for")
        self.pending += fresh
        self.received += len(fresh)
        if is_last and offset + len(data) == self.received:
            self.is_last_received = True
        return True

    def consume(self, count: int) -> None:
        """Note that bytes were passed on."""
        del self.pending[:count]
        self.consumed += count

    def owes_credit(self) -> bool:
        """Return whether the other side needs to know that bytes were taken."""
        return self.consumed - self.credited >= TELL_BYTES
