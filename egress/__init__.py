"""The egress process: the only part of the service that opens connections to other machines for programs.

Theory of operation
===================
A sandbox has no network but its loopback. If a run may reach hosts, the agent listens there as an HTTP proxy and
passes the bytes of each connection, unread, over the sandbox's stream to the worker. The worker opens a connection
to this process for each (a Unix socket that only root can reach), sends one line of JSON with the run and its
patterns, and then passes the bytes on, unread too. So the bytes that a program has chosen are parsed
here alone, by a process that has an account of its own, no capabilities, no secrets and no files.

One connection is served like this:

1. `front` reads the head of a proxy request: CONNECT, or plain HTTP with an absolute target (`http_head`).
2. `policy` matches host and port against the patterns of the run. A refusal is answered by 403 with the reason.
3. `resolver` looks the name up in DNS, as an absolute name; `addresses` refuses the whole answer if one of its
   addresses is not public. `dialer` connects to one of the addresses that were checked, and to nothing else.
4. `inspect` reads the first bytes that the program sends: the name in a TLS ClientHello (`client_hello`) and the
   Host of a plain request must be the host that was permitted.
5. `relay` moves bytes both ways until both ends are done, one has been silent for too long, or the budget is spent.

When the patterns of a session change, the worker says so on a connection of its own (`opening`), and `server` has
every open connection of the session judged again; one to a host that is not permitted any more ends.

The contents of TLS are not checked. `accounts` holds the bounds of each run, `server` ties it together.
The package knows `config` alone, and nothing happens when it is imported.
"""
