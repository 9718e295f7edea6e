"""Connections between processes on several machines, as streams of bytes through RabbitMQ.

Theory of operation. A conversation is what a connection to the worker's Unix socket is on one machine: a stream of
bytes in each direction, between an api process and a worker. Both sides hold one end of a local socket pair; the
transport reads what was written there, sends it through the broker, and writes it into the socket pair at the other
side. So dispatch and worker speak the same lines on one machine and on many, for runs and for everything else.

* One thread of a process owns its connection to the broker, its heartbeats and all conversations (`link`). Other
  threads write to their end of a socket pair.
* Each process has one queue. That of a worker is durable and named by a random id of this process, so a message
  that the broker delivers again can only come to the process that may have had it before, which recognizes it.
  The first message of a conversation is confirmed by the broker, and never published a second time.
* Each direction has a window of 256 KiB: bytes that the other side has not taken yet. The sender keeps them
  (`window`). A side that has lost its connection tells the other how far it has read, and is sent the rest. Bytes
  that the broker lost in a restart are sent again, and those that came twice are dropped.
* A conversation that one side does not know is over. A worker that is asked about one that it has never seen will
  never begin it; so it is certain that nothing was started.

The packages above give names to the two sides: `dispatch.amqp` opens conversations, `worker.amqp` serves them.
"""
