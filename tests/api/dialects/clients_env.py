"""The published clients of other services: `python tests/api/dialects/clients_env.py FOLDER`, of `make test-setup`.

An environment of Python with those of `clients.lock`, and `node_modules` with those of `package-lock.json`. Every hash
is checked, no script of a package of npm is run, and once it is there nothing is fetched again.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
LOCK = HERE / "clients.lock"
NPM = (HERE / "package.json", HERE / "package-lock.json")
MARKER = "installed"
#: Published as sources alone.
AS_SOURCES = "aiopyston=="


def prepare(folder: Path) -> Path:
    """Make it, or find it made; its Python. Raises ops.install.InstallError."""
    from ops.install import make_venv, pip

    python, marker = folder / "bin/python", folder / MARKER
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in (LOCK, *NPM))).hexdigest()
    make_venv(folder)
    if marker.exists() and marker.read_text() == digest:
        return python
    marker.unlink(missing_ok=True)
    sources, wheels = split(LOCK.read_text())
    with tempfile.TemporaryDirectory() as scratch:
        for name, text in (("sources", sources), ("wheels", wheels)):
            (Path(scratch) / name).write_text(text)
        checked = ["--require-hashes", "--no-deps"]
        pip(python, "install", *checked, "--only-binary=:all:", "-r", f"{scratch}/wheels")
        # With the setuptools of the line above: an isolated build would fetch one that nobody has checked.
        pip(python, "install", *checked, "--no-build-isolation", "-r", f"{scratch}/sources")
    install_npm(folder)
    marker.write_text(digest)
    return python


def install_npm(folder: Path) -> None:
    """Bring node_modules to what the lock file names."""
    from ops.environment import clean
    from ops.install import InstallError

    for path in NPM:
        shutil.copy(path, folder)
    argv = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(argv, cwd=folder, env=clean(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InstallError(f"npm ci failed:\n{(done.stdout + done.stderr)[-3000:]}")


def split(lock: str) -> tuple[str, str]:
    """The lines of what is published as sources alone, and those of the others."""
    sources, wheels, mine = [], [], False
    for line in lock.splitlines(keepends=True):
        if not line.startswith((" ", "#")):
            mine = line.startswith(AS_SOURCES)
        (sources if mine else wheels).append(line)
    return "".join(sources), "".join(wheels)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    prepare(Path(sys.argv[1]))
