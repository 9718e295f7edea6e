"""The session mode of the agent: one sandbox that is used many times, over many channels of the one stream.

Theory of operation
===================
The host's SESSION frame makes of a waiting sandbox a session's; the agent answers IN_SESSION, and from then on each
frame belongs to a channel. OPEN starts a *task* on a channel that the host has chosen:

* a process: PID 1 forks its *keeper*, which forks the program. The keeper is a subreaper: all that a process of the
  program's tree does with fork and setsid, it stays beneath the keeper, which kills the tree when PID 1 says so
  and is the last of it to end.
* a file operation: a child of PID 1 that does one thing and ends. It reads from its stdin, writes to its stdout,
  and reports on its stderr.

If PID 1 is large, a *starter* forks both; they are children of PID 1 in that case too. See `starter.py`.

PID 1 itself moves bytes between the stream and the pipes of the tasks, by epoll, and does nothing that can block:
no path is opened here. Its reading from a task is bounded by the credit that the host has granted to the channel,
so that a task that floods its channel delays no other by more than what the stream holds.

EXIT says how the main process ended, once the output that it had written has been sent. Output that its descendants
write later is read and dropped, so that they can go on. CLOSED says that nothing of the task is alive.
"""
