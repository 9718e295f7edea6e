"""OCI runtimes of a later Debian than this machine's, made to run on it: the tests' way to newer versions.

A runtime is taken from the suite's packages with the libraries that it was linked with, and is told by patchelf(1)
where these lie. It stays one binary, which the worker copies into a sealed memory file as it does any other.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ops import install
from ops.images.debian import KEYRINGS, acquire_options, host_sources

PACKAGES = {"mmdebstrap": "/usr/bin/mmdebstrap", "patchelf": "/usr/bin/patchelf"}
LIBRARIES = "usr/lib/x86_64-linux-gnu"


def newer_runtime(name: str, suite: str, folder: Path) -> Path:
    """Return the path of the runtime `name` of a suite, which is fetched into `folder` the first time."""
    place = folder / suite
    made = place / "bin" / name
    if not made.exists():
        missing = install.missing_packages(PACKAGES)
        if missing:
            install.install_packages(missing)
        _fetch(name, suite, place)
        _link(place / f"root-{name}", name, made)
    return made


def _fetch(name: str, suite: str, place: Path) -> None:
    """Unpack the runtime's package and those that it needs. Nothing of them is run."""
    root = place / f"root-{name}"
    shutil.rmtree(root, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    keyring = next(path for path in KEYRINGS if path.exists())
    main = host_sources(suite).splitlines()[0]
    argv = ["mmdebstrap", "--mode=root", "--variant=extract", "--format=directory", f"--include={name}"]
    argv += [f"--keyring={keyring}", *(f"--aptopt={line}" for line in acquire_options())]
    done = subprocess.run([*argv, suite, str(root), main], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def _link(root: Path, name: str, made: Path) -> None:
    """Copy the binary and point it at its own loader and libraries."""
    source = next(path for folder in ("usr/sbin", "usr/bin") if (path := root / folder / name).exists())
    loader = next(
        path
        for folder in (LIBRARIES, "usr/lib64", "lib64")
        for path in (root / folder).glob("ld-linux-x86-64.so.2")
    )
    made.parent.mkdir(parents=True, exist_ok=True)
    fresh = made.with_suffix(".new")
    shutil.copyfile(source.resolve(), fresh)
    fresh.chmod(0o755)
    argv = ["patchelf", "--set-interpreter", str(loader), "--force-rpath", "--set-rpath", str(root / LIBRARIES)]
    subprocess.run([*argv, str(fresh)], check=True, capture_output=True)
    fresh.rename(made)
