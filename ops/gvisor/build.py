"""`make runsc`: build the gVisor that go.mod names and put it where engines look first.

Debian's runsc is years old: it catches system calls with ptrace only, where a current one has systrap. The
compiler comes as a wheel and gVisor as Go modules, so that nothing but the two package indexes is asked, and the
hashes of both are here. Standard library only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ops import install
from ops.environment import clean
from ops.images.run import BuildProgress
from ops.install import InstallError

HERE = Path(__file__).resolve().parent
PACKAGE = "gvisor.dev/gvisor/runsc"
TARGET = Path("/usr/local/bin/runsc")


def revision(module: str | None = None) -> str:
    """Return the pinned version of gVisor, a Go pseudo-version of date and commit. `module` is a go.mod's text."""
    text = (HERE / "go.mod").read_text() if module is None else module
    for line in text.splitlines():
        words = line.removeprefix("require").split()
        if words[:1] == [PACKAGE.rpartition("/")[0]]:
            return words[1]
    raise InstallError("ops/gvisor/go.mod has no version of gVisor")


def installed_version(path: Path = TARGET) -> str:
    """Return the version of the installed runsc; empty if it is missing or does not start."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next((line.rpartition(" ")[2] for line in done.stdout.splitlines() if "version" in line), "")


def build(target: Path, progress: BuildProgress) -> None:
    """Build and install. Raises InstallError."""
    if os.geteuid() != 0:
        raise InstallError(f"writing {target} requires root")
    wanted = revision()
    if installed_version(target) == wanted:
        progress.say(f"{target} is already version {wanted}")
        return
    with tempfile.TemporaryDirectory(prefix="runyard-gvisor-", dir="/var/tmp") as scratch:
        folder = Path(scratch)
        progress.say("downloading the compiler")
        install.make_venv(folder / "venv")
        python = folder / "venv/bin/python"
        lock = str(HERE / "go.lock")
        install.pip(
            python, "install", "--require-hashes", "--only-binary=:all:", f"--target={folder / 'go'}", "-r", lock
        )
        progress.say(f"building gVisor {wanted} (some minutes)")
        made = _compile(folder, wanted)
        if installed_version(made) != wanted:
            raise InstallError("the built runsc does not run on this machine")
        beside = target.with_name(f".{target.name}.new")
        beside.write_bytes(made.read_bytes())
        beside.chmod(0o755)
        beside.replace(target)
    progress.say(f"{target}: {wanted}")


def _compile(folder: Path, wanted: str) -> Path:
    """Build in `folder`, leaving nothing in the caller's Go caches; the binary."""
    made = folder / "runsc"
    own = {"GOPATH": "gopath", "GOCACHE": "cache", "GOTMPDIR": "tmp"}
    (folder / "tmp").mkdir()
    env = clean() | {name: str(folder / where) for name, where in own.items()}
    env |= {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    argv = [
        str(_compiler(folder)),
        "build",
        "-C",
        str(HERE),
        "-mod=readonly",
        "-modcacherw",
        "-trimpath",
        "-buildvcs=false",
    ]
    argv += [f"-ldflags=-s -w -X {PACKAGE}/version.version={wanted}", "-o", str(made), PACKAGE]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InstallError(f"gVisor could not be built:\n{done.stderr.strip()[-2000:]}")
    return made


def _compiler(folder: Path) -> Path:
    found = sorted((folder / "go").glob("**/bin/go"))
    for path in found:
        if path.is_file() and (path.parent.parent / "src").is_dir():
            return path
    raise InstallError("the compiler's wheel has no bin/go")


def main() -> int:
    """Build and install runsc. Returns 0 when it is installed."""
    os.umask(0o022)
    try:
        build(TARGET, BuildProgress())
    except InstallError as e:
        print(f"make: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
