"""Run a tool of an ecosystem, and pass on what it says: all of it goes to stderr, which the client is shown."""

import os
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


def run(argv, cwd="/work", env=None, on_line=lambda _line: None):
    """Run a tool to its end, and return its exit status. `on_line` gets each line of its output."""
    with start(argv, cwd, env) as tool:
        for line in lines_of(tool):
            on_line(line)
        return tool.wait()


def forget_proxy():
    """Remove the variables that name a proxy: the network is closed, and a tool should not try it."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]


def write(path, text):
    """Write a file, in a directory that is made if there is none."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
