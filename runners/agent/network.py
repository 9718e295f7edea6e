"""The proxy of a sandbox: listens on its loopback and passes each connection, unread, over the stream to the host.

PID 1 starts it when the host sends NETWORK. The egress process on the host parses and checks the bytes. This code
does not parse them, and buffers no more than the host has granted.
"""

import _socket
import os
import select

from agent import frames
from agent.link import CHUNK, UNSENT_HIGH

ADDRESS = ("127.0.0.1", 3128)
BACKLOG = 128
#: Connections at a time; more wait to be accepted. The host has the same bound.
MOST_CONNECTIONS = 64
SHUT_WR = 1


class ProxiedConnection:
    """One connection of a program."""

    __slots__ = ("channel", "credit", "fd", "host_ended", "is_shut", "pending", "program_ended")

    def __init__(self, fd, channel):
        self.fd = fd
        self.channel = channel
        self.credit = frames.INITIAL_CREDIT
        self.pending = bytearray()
        self.program_ended = False
        self.host_ended = False
        self.is_shut = False


class Network:
    """The listener and the connections, by descriptor and by channel."""

    def __init__(self, link):
        self.link = link
        self.listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self.listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        try:
            self.listener.bind(ADDRESS)
            self.listener.listen(BACKLOG)
        except OSError:  # a program of the session listens there
            self.listener.close()
            raise
        self.listener.setblocking(False)
        self.by_fd = {}
        self.by_channel = {}
        self.last = frames.FIRST_NETWORK_CHANNEL - 1
        #: The descriptors that a session watches, and the function to call before a descriptor is closed.
        self.watched = {}
        self.before_close = None

    # -- polling -----------------------------------------------------------------------------------

    def wanted(self):
        """Yield each descriptor with the events of poll(2) that matter now."""
        if self.listener is None:
            return
        has_room = len(self.link.unsent) < UNSENT_HIGH
        if has_room and len(self.by_fd) < MOST_CONNECTIONS:
            yield self.listener.fileno(), select.POLLIN
        for connection in self.by_fd.values():
            mask = select.POLLOUT if connection.pending else 0
            if has_room and connection.credit and not connection.program_ended:
                mask |= select.POLLIN
            if mask:
                yield connection.fd, mask

    def register(self, poller):
        for fd, mask in self.wanted():
            poller.register(fd, mask)

    def watch(self, watch):
        """Have a session watch what matters now: `watch(fd, mask, call)`, with the mask 0 for what does not."""
        wanted = dict(self.wanted())
        for fd in [fd for fd in self.watched if fd not in wanted]:
            del self.watched[fd]
            watch(fd, 0, None)
        for fd, mask in wanted.items():
            if self.watched.get(fd) != mask:
                self.watched[fd] = mask
                watch(fd, mask, self.caller(fd, mask))

    def caller(self, fd, mask):
        return lambda: self.ready(fd, mask)

    def ready(self, fd, event):
        """Move what can be moved. Returns whether the descriptor is one of the proxy's."""
        connection = self.by_fd.get(fd)
        if connection is not None:
            if event & select.POLLOUT:
                self.write(connection)
            if event & ~select.POLLOUT and connection.fd >= 0:
                self.read(connection)
            return True
        if self.listener is not None and fd == self.listener.fileno():
            self.accept()
            return True
        return False

    def accept(self):
        try:
            fd, _ = self.listener._accept()
        except OSError:  # it has gone again, or there are no more descriptors
            return
        os.set_blocking(fd, False)
        while True:
            self.last += 1
            if self.last > frames.LAST_CHANNEL:
                self.last = frames.FIRST_NETWORK_CHANNEL
            if self.last not in self.by_channel:
                break
        connection = ProxiedConnection(fd, self.last)
        self.by_fd[fd] = self.by_channel[self.last] = connection
        self.send(connection, frames.CONNECTED)

    def read(self, connection):
        """Pass on one read, within the credit."""
        if connection.program_ended or not connection.credit:
            self.close(connection)  # woken for an error alone
            return
        try:
            data = os.read(connection.fd, min(CHUNK, connection.credit))
        except BlockingIOError:
            return
        except OSError:
            self.close(connection)
            return
        if data:
            connection.credit -= len(data)
            self.send(connection, frames.STDOUT, data)
        else:
            connection.program_ended = True
            self.send(connection, frames.DATA_END)
            self.close_if_over(connection)

    def write(self, connection):
        """Write what the program takes, tell the host, end behind the last of it."""
        taken = 0
        try:
            while taken < len(connection.pending):
                taken += os.write(connection.fd, connection.pending[taken : taken + CHUNK])
        except BlockingIOError:
            pass
        except OSError:
            self.close(connection)
            return
        if taken:
            del connection.pending[:taken]
            self.send(connection, frames.STDIN_TAKEN, b"%d" % taken)
        if connection.host_ended and not connection.pending and not connection.is_shut:
            connection.is_shut = True
            self.shut(connection.fd)
            self.close_if_over(connection)

    def shut(self, fd):
        end = _socket.socket(fileno=fd)
        try:
            end.shutdown(SHUT_WR)
        except OSError:
            pass
        finally:
            end.detach()

    # -- from the host -----------------------------------------------------------------------------

    def handle(self, channel, kind, payload):
        connection = self.by_channel.get(channel)
        if connection is None:  # it has closed while the host was sending
            return
        if kind == frames.STDIN:
            connection.pending += payload
            self.write(connection)
        elif kind == frames.STDIN_END:
            connection.host_ended = True
            self.write(connection)
        elif kind == frames.CREDIT:
            connection.credit += int(payload)
        elif kind == frames.KILL:
            self.close(connection)

    # -- the end -----------------------------------------------------------------------------------

    def send(self, connection, kind, payload=b""):
        self.link.send_bytes(frames.head(kind, len(payload), connection.channel) + payload)

    def close_if_over(self, connection):
        if connection.program_ended and connection.is_shut:
            self.close(connection)

    def close(self, connection):
        """Close a connection, and let its channel be used again."""
        del self.by_fd[connection.fd], self.by_channel[connection.channel]
        if self.watched.pop(connection.fd, 0):
            self.before_close(connection.fd)
        os.close(connection.fd)
        connection.fd = -1
        self.send(connection, frames.CLOSED)

    def stop(self):
        """Close everything: the program has exited."""
        for connection in list(self.by_fd.values()):
            self.close(connection)
        if self.listener is not None:
            self.listener.close()
            self.listener = None
