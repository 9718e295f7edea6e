"""Change the hosts that the programs of a live session may reach; the proxy is started where there is none yet."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from protocol.network import PROXY_PORT, NetworkAccess, proxy_environment
from protocol.result import Refusal
from sandbox.network.relay import NetworkRelay
from sandbox.run.plan import check_network

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.sessions.channel import ProcessEnd, SessionChannel
    from sandbox.sessions.session import LiveSession

#: The agent starts the proxy in a millisecond, unless its session is overloaded.
START_S = 5.0
OFF = Refusal(403, "network: EGRESS is off here", "network_not_allowed", "network.allow")
NOT_STARTED = Refusal(
    409,
    f"network: the proxy of this session cannot be started; does a program in it listen on port {PROXY_PORT}?",
    "session_busy",
    "network",
)


def change_network(session: LiveSession, access: NetworkAccess, egress: Path | None) -> Refusal | None:
    """Replace the hosts that a session may reach; returns why that cannot be, or None.

    `egress` is the socket of the egress process. Connections to hosts that are not permitted any more end. Raises
    JobInvalid for what is no pattern, and what ends a session or prevents its use.
    """
    check_network(access)
    with session.changing_network:
        network = session.stream.network
        if network is not None:
            network.change(access)
        elif access.allow:
            refusal = OFF if egress is None else _start(session, access, egress)
            if refusal is not None:
                return refusal
        else:
            return None  # it has none, and asks for none
        session.note_network(access)
    return None


def _start(session: LiveSession, access: NetworkAccess, egress: Path) -> Refusal | None:
    """Have the agent start the proxy. One that does not answer in time may do so later, with no host to reach."""
    relay = NetworkRelay(egress, session.id, session.spec.key, access)
    with session.in_use():
        stream, end = session.stream, None
        try:
            channel = stream.start_network(relay, proxy_environment())
            try:
                end = _end_of(channel)
            finally:
                channel.close()
        finally:
            if end is None and stream.network is not None:
                stream.network.change(NetworkAccess(()))
            elif end is not None and end.exit_code != 0:
                stream.withdraw_network()
    return None if end is not None and end.exit_code == 0 else NOT_STARTED


def _end_of(channel: SessionChannel) -> ProcessEnd | None:
    deadline = time.monotonic() + START_S
    while channel.end is None and channel.wait(max(0.0, deadline - time.monotonic())):
        channel.take()
    return channel.end
