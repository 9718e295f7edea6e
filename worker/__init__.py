"""The worker: the one process that owns the engine.

Theory of operation
===================
One long-lived process, no prefork, no heartbeat: it is started by the supervisor as root, makes everything
that needs a fork while it has a single thread (a user namespace for each slot), moves into a mount namespace
of its own, removes the remains of a killed predecessor, and then starts threads:

* one that accepts on the Unix socket, the only way in (its peer's uid is checked; there is no TCP port),
* one for each connection, which runs that connection's jobs one after the other: a run is a thread asleep in
  poll() on its sandbox, its deadline and its client,
* two that fill the warm pool and one that takes used sandboxes apart.

Shutdown order: a client that disconnects ends its run; a run's deadline ends its program; SIGTERM ends the
worker after the runs in hand, or their time, are over; the worker's end, however it comes, closes the streams
of all its sandboxes, whose agents then kill everything in them and exit.
"""
