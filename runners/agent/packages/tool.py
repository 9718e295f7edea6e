"""Run a tool of an ecosystem, and pass on what it says: all of it goes to stderr, which the client is shown."""

import subprocess
import sys


def start(argv, cwd="/work", env=None):
    """Start a tool whose output is read by `lines_of`."""
    return subprocess.Popen(
        argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace",
    )  # fmt: skip


def lines_of(tool):
    """Yield each line that a tool says, after passing it on."""
    for line in tool.stdout:
        sys.stderr.write(line)
        sys.stderr.flush()
        yield line
