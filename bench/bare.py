"""Starting an interpreter without any service: on the host, and inside a runner image's root filesystem.

`python -m bench.bare LAYERS ROOT ARGV…` is the second kind's helper: in a mount namespace of its own it makes
the image's root (as the engine does, by an overlay of its layers) on the directory ROOT, goes in, and starts
ARGV once for each line it reads, answering each with the seconds taken. Its end takes the mounts along.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bench.sampling import Step

REPO = Path(__file__).resolve().parents[1]


def start(argv: Sequence[str], stdin: int | IO[bytes] = subprocess.DEVNULL) -> float:
    """Seconds from starting a program to having all its output and its exit status."""
    began = time.perf_counter()
    subprocess.run(argv, stdin=stdin, stdout=subprocess.PIPE, check=True, close_fds=False)
    return time.perf_counter() - began


@contextmanager
def inside(layers: Sequence[str], argv: Sequence[str]) -> Iterator[Step]:
    """A step that starts `argv` in the root filesystem made of `layers`, topmost first."""
    with tempfile.TemporaryDirectory() as root:
        command = ["unshare", "--mount", sys.executable, "-m", "bench.bare", ":".join(layers), root, *argv]
        with subprocess.Popen(
            command, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as helper:
            assert helper.stdin is not None
            assert helper.stdout is not None
            asks, answers = helper.stdin, helper.stdout

            def step() -> float:
                asks.write("\n")
                asks.flush()
                return float(answers.readline())  # ValueError when the helper has ended

            try:
                yield step
            finally:
                asks.close()


def _serve(layers: str, root: str, argv: Sequence[str]) -> None:
    with open(os.devnull, "rb") as nothing:
        _mount("overlay", root, f"lowerdir={layers}")
        _mount("proc", f"{root}/proc")
        os.chroot(root)
        os.chdir("/")
        os.environ["PATH"] = "/usr/local/bin:/usr/bin:/bin"
        for _ in sys.stdin:
            print(start(argv, nothing), flush=True)


def _mount(kind: str, target: str, options: str = "ro") -> None:
    subprocess.run(["mount", "-t", kind, "-o", options, kind, target], check=True)


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2], sys.argv[3:])
