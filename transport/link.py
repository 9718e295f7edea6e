"""The connection of one process to the broker, and the thread that owns it.

The thread runs an event loop for the connection, its heartbeats, timers and the sockets of conversations. A lost
connection is made again, host after host, with growing pauses of at most RETRY_MOST_S.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pika
from pika import exceptions

from transport.access import explained
from transport.loop import JoiningConnection, LinkLoop

if TYPE_CHECKING:
    from transport.access import BrokerAccess

log = logging.getLogger(__name__)

RETRY_S, RETRY_MOST_S = 0.1, 2.0
CONNECT_TIMEOUT_S, HANDSHAKE_TIMEOUT_S = 2.0, 3.0
#: The broker and we send a heartbeat twice in this time; a silent connection is closed after about twice of it.
HEARTBEAT_S = 6
TICK_S = 0.1
STOP_WITHIN_S = 2.0
#: A reason that is the same as before is logged again after this.
LOG_AGAIN_S = 60.0
#: Messages that the broker sends ahead of our acknowledgements.
PREFETCH = 1000
#: Deliveries are acknowledged together, when they are so many bytes: each counts for its size and a little more.
ACKNOWLEDGE_BYTES, MESSAGE_COST_BYTES = 64 * 1024, 256


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """The queue of this process, and the exchanges that it hears and speaks to, all declared at each connection."""

    name: str
    #: A durable one outlives the connection for `expires_ms`, and unacknowledged messages are delivered again.
    #: Else it is this connection's alone, and lost with it.
    expires_ms: int | None
    hears: str
    speaks_to: str
    #: True if messages are published for which it matters that they are in a queue.
    wants_confirms: bool


class LinkUser(Protocol):
    """The owner of a link; every call comes from the link's thread."""

    def queue(self) -> QueueSpec:
        """Return the queue for a new connection."""

    def on_up(self) -> None:
        """Begin to publish: messages come from now on."""

    def on_down(self) -> None:
        """Note that the connection is lost, and what was published last may be."""

    def on_message(self, body: bytes) -> None:
        """Handle a message. It comes again behind a lost connection, unless `acknowledge` was called."""

    def on_returned(self, body: bytes) -> None:
        """Handle a message that was put into no queue."""

    def on_unsure(self, body: bytes) -> None:
        """Handle a message that the broker could not handle: it may be in its queue or not."""

    def on_tick(self) -> None:
        """Do what is due; called every TICK_S."""


class BrokerLink:
    """Keeps one connection. `publish` is for the link's thread, `call`, `start` and `stop` for any other."""

    def __init__(self, access: BrokerAccess, user: LinkUser, name: str) -> None:
        """`name` is shown by the broker's tools."""
        self.loop = LinkLoop()
        self.is_up = False
        #: True while the broker takes no messages because it lacks memory or disk space.
        self.is_blocked = False
        self._access = access
        self._user = user
        self._name = name
        self._attempts = 0
        self._pause_s = RETRY_S
        self._connection: Any = None
        self._channel: Any = None
        #: The channel of messages for which no confirmation is wanted: each one would wake this process.
        self._unconfirmed_channel: Any = None
        self._is_stopping = False
        self._logged = ("", 0.0)
        #: Mandatory messages by the number of their confirmation.
        self._unconfirmed: dict[int, bytes] = {}
        self._published = 0
        #: The number of the last message of a durable queue, and the bytes of those that were not acknowledged.
        self._delivered = self._unacknowledged = 0
        # It logs each failed step of a connection as an error of its own; `_log_reason` logs the reason once.
        logging.getLogger("pika").setLevel(logging.CRITICAL)
        self._tls = access.tls()
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)

    def start(self) -> None:
        """Connect and stay connected."""
        self._thread.start()

    def stop(self) -> None:
        """Close the connection and end the thread, within a bound."""
        if self._thread.is_alive():
            self.call(self._stop)
            self._thread.join(STOP_WITHIN_S)

    def call(self, work: Callable[[], None]) -> None:
        """Have something done by the link's thread."""
        self.loop.add_callback_threadsafe(lambda: self._guarded(work))

    def publish(
        self,
        exchange: str,
        key: str,
        body: bytes,
        *,
        persistent_ms: int | None = None,
        mandatory: bool = False,
        in_order: bool = False,
    ) -> bool:
        """Publish a message; False without a connection. With `persistent_ms` it is kept on disk for that time.

        A `mandatory` message that the broker does not put into a queue comes back to `on_returned`. It is
        confirmed, and so is one that must not overtake it (`in_order`).
        """
        if not self.is_up:
            return False
        channel = self._channel if mandatory or in_order else self._unconfirmed_channel
        properties = None
        if persistent_ms is not None:
            properties = pika.BasicProperties(delivery_mode=2, expiration=str(persistent_ms))
        try:
            channel.basic_publish(exchange, key, body, properties, mandatory)
        except exceptions.AMQPError:  # closed a moment ago; `_on_closed` is about to be called
            return False
        if channel is self._channel:
            self._published += 1
        if mandatory:
            self._unconfirmed[self._published] = body
        return True

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        self._guarded(self._connect)
        self.loop.call_later(TICK_S, self._tick)
        while not self._is_stopping:
            try:
                self.loop.start()
            except Exception:
                log.exception("the thread of the broker's connection failed, and goes on")
                time.sleep(RETRY_S)
        with suppress(Exception):
            self.loop.close()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            log.exception("the connection to the broker: a step failed")

    def _tick(self) -> None:
        self.loop.call_later(TICK_S, self._tick)
        self.acknowledge()
        self._guarded(self._user.on_tick)

    def _stop(self) -> None:
        self._is_stopping = True
        self.is_up = False
        if self._connection is not None and self._connection.is_open:
            self._connection.close()
            self.loop.call_later(STOP_WITHIN_S / 2, self.loop.stop)
        else:
            self.loop.stop()

    def _connect(self) -> None:
        if self._is_stopping:
            return
        address = self._access.address
        host, port = address.hosts[self._attempts % len(address.hosts)]
        self._attempts += 1
        parameters = pika.ConnectionParameters(
            host=host,
            port=port,
            virtual_host=address.vhost,
            credentials=pika.PlainCredentials(address.user, address.password),
            ssl_options=None if self._tls is None else pika.SSLOptions(self._tls, host),
            heartbeat=HEARTBEAT_S,
            connection_attempts=1,
            socket_timeout=CONNECT_TIMEOUT_S,
            stack_timeout=HANDSHAKE_TIMEOUT_S,
            client_properties={"connection_name": self._name, "product": "runyard"},
        )
        self._connection = JoiningConnection(
            parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=lambda _connection, error: self._on_closed(error),
            on_close_callback=lambda _connection, error: self._on_closed(error),
            custom_ioloop=self.loop,
        )
        self.loop.at_end_of_turn = self._connection.flush

    def _on_open(self, connection: JoiningConnection) -> None:
        connection.read_at_once()
        connection.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
        connection.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))
        connection.channel(on_open_callback=self._on_first_channel)

    def _set_blocked(self, is_blocked: bool) -> None:  # noqa: FBT001
        self.is_blocked = is_blocked
        log.warning("the broker %s messages", "takes no" if is_blocked else "takes again")

    def _on_first_channel(self, channel: Any) -> None:  # noqa: ANN401  # the library has no types
        """Open a second channel, for the messages that are to be confirmed."""
        self._unconfirmed_channel = channel
        if not self._user.queue().wants_confirms:
            self._on_channel(channel)
            return
        channel.add_on_close_callback(self._on_channel_closed)
        self._connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Any) -> None:  # noqa: ANN401  # the library has no types
        """Declare what is needed, one after the other: the library sends each when the one before is answered."""
        spec = self._user.queue()
        self._channel = channel
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_return_callback(lambda _channel, _method, _properties, body: self._returned(body))
        self._unconfirmed, self._published = {}, 0
        self._delivered = self._unacknowledged = 0
        durable = spec.expires_ms is not None
        if spec.wants_confirms:
            channel.confirm_delivery(self._on_confirmed)
        channel.basic_qos(prefetch_count=PREFETCH)
        for exchange in (spec.hears, spec.speaks_to):
            channel.exchange_declare(exchange, "fanout", durable=True)
        arguments = {"x-expires": spec.expires_ms} if durable else {}
        channel.queue_declare(spec.name, durable=durable, exclusive=not durable, arguments=arguments)
        channel.queue_bind(spec.name, spec.hears)
        channel.basic_consume(
            spec.name,
            self._on_delivery if durable else self._on_passing,
            auto_ack=not durable,
            # A connection that the broker has not missed yet may be the consumer of before: the newest comes first.
            arguments={"x-priority": self._attempts},
            callback=lambda _frame: self._guarded(self._on_ready),
        )

    def _on_ready(self) -> None:
        self.is_up, self.is_blocked = True, False
        self._pause_s = RETRY_S
        self._logged = ("", 0.0)
        log.info("connected to the broker", extra={"host": self._host()})
        self._user.on_up()

    def _host(self) -> str:
        address = self._access.address
        host, port = address.hosts[(self._attempts - 1) % len(address.hosts)]
        return f"{host}:{port}"

    def _on_delivery(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:  # noqa: ANN401
        self._delivered = method.delivery_tag
        self._unacknowledged += len(body) + MESSAGE_COST_BYTES
        self._guarded(lambda: self._user.on_message(body))
        if self._unacknowledged >= ACKNOWLEDGE_BYTES:
            self.acknowledge()

    def acknowledge(self) -> None:
        """Have the broker forget what it has delivered so far. It does so at each tick by itself."""
        if self._unacknowledged and self._channel is not None:
            self._unacknowledged = 0
            with suppress(exceptions.AMQPError):  # closed a moment ago: it is delivered again
                self._channel.basic_ack(self._delivered, multiple=True)

    def _on_passing(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:  # noqa: ANN401
        self._guarded(lambda: self._user.on_message(body))

    def _on_confirmed(self, frame: Any) -> None:  # noqa: ANN401  # the library has no types
        """Forget the messages that are in queues now, and report those of which that is not sure."""
        last = frame.method.delivery_tag
        tags = [last] if not frame.method.multiple else [tag for tag in self._unconfirmed if tag <= last]
        bodies = [self._unconfirmed.pop(tag) for tag in tags if tag in self._unconfirmed]
        if frame.method.NAME == "Basic.Nack":
            for body in bodies:
                self._guarded(functools.partial(self._user.on_unsure, body))

    def _returned(self, body: bytes) -> None:
        self._guarded(lambda: self._user.on_returned(body))

    def _on_channel_closed(self, _channel: Any, reason: BaseException) -> None:  # noqa: ANN401
        if isinstance(reason, exceptions.ChannelClosedByBroker):
            self._log_reason(explained(reason))
            self._pause_s = RETRY_MOST_S
        if self._connection is not None and self._connection.is_open:
            self._connection.close()

    def _on_closed(self, error: BaseException) -> None:
        was_up, self.is_up = self.is_up, False
        self._channel = self._unconfirmed_channel = None
        if self._is_stopping:
            self.loop.stop()
            return
        if not isinstance(error, exceptions.ConnectionClosedByClient):
            self._log_reason(explained(error))
        self.loop.call_later(self._pause_s, lambda: self._guarded(self._connect))
        self._pause_s = min(self._pause_s * 2, RETRY_MOST_S)
        if was_up:
            self._guarded(self._user.on_down)

    def _log_reason(self, reason: str) -> None:
        before, at = self._logged
        if reason != before or time.monotonic() - at > LOG_AGAIN_S:
            self._logged = (reason, time.monotonic())
            log.warning("no connection to the broker: %s", reason, extra={"host": self._host()})
