"""WebSockets: the upgrade of a request, the protocol, and the one thread that serves all of them.

Theory of operation
===================
A handler checks its request (`upgrade.check`), opens what the WebSocket is to talk to, and hands both sockets to
the poller (`WebSocketPoller.add`), by which its thread is free again. From then on a *conversation* translates: it
gets each message of the client and each piece of bytes from the other side, and puts its answers into the `Wire`
or into the buffer for the other side.

Everything is bounded. A message has a most length, by kind. When more than HIGH_BYTES wait for one side, the other
is not read. A client that is silent is asked by a ping, and dropped if it does not answer; one that takes nothing
of what waits for it for long is dropped too. No extension is agreed to: what is compressed has no bound.
"""
