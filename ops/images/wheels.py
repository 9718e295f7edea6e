"""Fetching a runner's wheels with the host's pip, for the image's Python, every hash checked."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from ops.images.errors import HostLacks
from ops.images.run import run

#: The base's Python and C library (Debian trixie): what a wheel must fit.
PYTHON_VERSION = "3.13"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def target_options() -> list[str]:
    """Return options that make pip choose wheels for the image instead of for the host."""
    return [
        *(f"--platform={name}" for name in PLATFORMS),
        f"--python-version={PYTHON_VERSION}",
        "--implementation=cp",
        "--only-binary=:all:",
    ]


def fetch(lock: Path, target: Path, env: dict[str, str]) -> None:
    """Unpack all that `lock` names into `target`."""
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--no-compile"]
    # Debian 12's pip asks whether the host's Python may run a package; the lock was made for the image's.
    argv += [f"--target={target}", *target_options(), "--ignore-requires-python", "-r", str(lock)]
    # The remains of a killed pip are then next to the target, where the next build removes them.
    scratch = target.with_name(target.name + "-scratch")
    scratch.mkdir()
    try:
        run(argv, env={**env, "TMPDIR": str(scratch)}, what="wheels", cwd=lock.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not target.is_dir():
        raise HostLacks(f"wheels: pip left nothing of {lock.name}")
