"""Find and kill the processes beneath another, also after fork and setsid."""

import _signal
import os

#: Each pass stops what it finds, so a tree that forks meanwhile is caught up with; this many passes at most.
PASSES = 200


def descendants(root, spare=()):
    """Return the pids of all processes beneath `root`, without those in `spare` and what is beneath these."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            parent = _parent(name)
            if parent is not None:
                children.setdefault(parent, []).append(int(name))
    found = []
    ahead = [root]
    while ahead:
        for pid in children.get(ahead.pop(), ()):
            if pid not in spare:
                found.append(pid)
                ahead.append(pid)
    return found


def kill_beneath(root):
    """Kill every process beneath `root`: stop them first, until no new one is found."""
    stopped = set()
    for _ in range(PASSES):
        found = descendants(root)
        fresh = [pid for pid in found if pid not in stopped]
        if not fresh:
            break
        for pid in fresh:
            send(pid, _signal.SIGSTOP)
        stopped.update(fresh)
    kill(stopped)


def kill(pids):
    """Send SIGKILL to each."""
    for pid in pids:
        send(pid, _signal.SIGKILL)


def send(pid, number):
    """Send a signal to a process that may have ended."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _parent(name):
    """Return the parent of a process, None if it has ended."""
    try:
        with open(f"/proc/{name}/stat", "rb") as file:
            line = file.read()
    except OSError:
        return None
    # The name of the program stands in parentheses and may hold anything.
    return int(line[line.rindex(b")") + 2 :].split()[1])
