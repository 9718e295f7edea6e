"""Engine `docker`: sandboxes made by a Docker daemon of this host, over its API socket (1.41 and newer).

Theory of operation
===================
One sandbox is a slot (one host uid, as there is no user namespace of its own) and one container, made in four
calls: create, attach, start, inspect. Attached before it is started, so that no byte of the agent's is missed;
the attach connection, stripped of Docker's framing (`stream`), is the stream to the agent. stdin is open once:
when the worker's end of it closes, however that comes, the agent reads end-of-file and exits, and the daemon
removes the container (AutoRemove).

After that the daemon is asked for nothing until the sandbox is removed, but for one thing: where PID 1 itself was
killed for want of memory, as under gVisor, the control group is gone before it can be read, and only the daemon's
events name the cause. Limits are written to the container's control group and tmpfs mounts directly, usage is read
from there, and killing is a signal to PID 1 by pidfd: the update call costs a process, the stats call a second, and
a kill must not wait for a daemon that waits for us. Hence the daemon must be on this host, and the worker must see
its processes and control groups. With the cgroup driver systemd, which may write its own values back, limits are
set by the update call.

Every call has a timeout. Each thread has a client of its own. The engine's archive and exec calls are never
used (docs/confinement.md).
"""
