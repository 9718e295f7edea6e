"""Installing what the service needs: Debian packages, a virtual environment, the service itself as a wheel.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from glob import glob
from pathlib import Path

from config.roles import role_of
from ops.environment import PATH, clean

ROOT = Path(__file__).resolve().parents[1]
SYSTEM_PYTHON = "/usr/bin/python3"
#: Package, and the file that shows it is there. An old keyring may lack the key of the images' suite.
BASE_PACKAGES = {
    "python3-venv": "",
    "ca-certificates": "/etc/ssl/certs/ca-certificates.crt",
}
#: And those that build images of runners.
PACKAGES = {
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-trixie-automatic.*",
    **BASE_PACKAGES,
}
#: The runtimes of the engine oci. A Docker daemon is its owner's business, with the runtimes it knows.
RUNTIME_PACKAGES = {"crun": "/usr/bin/crun", "runc": "/usr/sbin/runc", "runsc": "/usr/bin/runsc"}
#: Packages of proxies, whose files the tests run; each starts a server of its own when it is installed.
PROXY_PACKAGES = {"nginx": "/usr/sbin/nginx", "caddy": "/usr/bin/caddy"}
#: Packages for the tests of every engine and runtime, and the tools that check the profile and the units.
TEST_PACKAGES = {
    **RUNTIME_PACKAGES,
    "docker.io": "/usr/sbin/dockerd",
    "docker-compose": "/usr/bin/docker-compose",
    "apparmor": "/usr/sbin/apparmor_parser",
    "systemd": "/usr/bin/systemd-analyze",
    # Redis's tools hold its server too, and unlike its own package start none.
    "redis-tools": "/usr/bin/redis-check-rdb",
    # The proxies of docs/nginx.md and docs/caddy.md.
    **PROXY_PACKAGES,
}
#: On a kernel with AppArmor the profile is required, and this program loads it.
APPARMOR = {"apparmor": "/usr/sbin/apparmor_parser"}
LOCK = "requirements.lock"
#: Additional packages for traces, if they are exported.
TRACES_LOCK = "requirements-otel.lock"
INSTALLED = "installed"
#: Folders that tools make inside a package.
LEFT_OUT = frozenset({"__pycache__", "node_modules"})


class InstallError(Exception):
    """Something could not be installed; the message is a sentence for the user of `make`."""


def needed_packages() -> dict[str, str]:
    """List PACKAGES and the package of the runtime that ENGINE and RUNTIME of this process select.

    A machine that runs no programs needs neither.
    """
    if not role_of(os.environ).has_worker:
        return BASE_PACKAGES
    packages = PACKAGES | (APPARMOR if _kernel_has_apparmor() else {})
    if os.environ.get("ENGINE") == "docker":
        return packages
    runtime = os.environ.get("RUNTIME") or "crun"
    return packages | {name: pattern for name, pattern in RUNTIME_PACKAGES.items() if name == runtime}


def _kernel_has_apparmor() -> bool:
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    return enabled.exists() and enabled.read_text().strip() == "Y"


def missing_packages(wanted: dict[str, str] | None = None) -> list[str]:
    """List the missing Debian packages of `wanted`, or of those that the service needs."""
    found = needed_packages() if wanted is None else wanted
    return [name for name, pattern in found.items() if not _has(pattern)]


def install_packages(names: list[str]) -> None:
    """Install with apt, refreshing its lists first if that is what it takes."""
    if shutil.which("apt-get") is None:
        raise InstallError(f"apt-get is not available: install {', '.join(names)} yourself")
    env = {**clean(), "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
    for attempt in (["apt-get", "update", "-q"], None):
        done = subprocess.run([*install, *names], env=env, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if attempt:
            subprocess.run(attempt, env=env, capture_output=True, check=False)
    raise InstallError(f"apt-get could not install {', '.join(names)}:\n{_tail(done.stdout + done.stderr)}")


def stop_servers(installed: list[str]) -> None:
    """Stop the servers that newly installed packages start, now and at boot: the tests run servers of their own."""
    units = [f"{name}.service" for name in installed if name in PROXY_PACKAGES]
    if units and Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "disable", "--now", *units], env=clean(), capture_output=True, check=False)


def make_venv(folder: Path) -> None:
    """Create a virtual environment of the system's Python, unless a working one exists."""
    if _works(folder):
        return
    done = subprocess.run(
        [SYSTEM_PYTHON, "-m", "venv", "--clear", str(folder)],
        env=clean(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise InstallError(f"cannot create a virtual environment in {folder}:\n{_tail(done.stdout + done.stderr)}")


def code_digest() -> str:
    """Hash the code of this checkout: everything that goes into the wheel, and the applicable lock files."""
    whole = hashlib.sha256()
    for path in [*_locks(), *_wheel_inputs()]:
        whole.update(f"{path.relative_to(ROOT)}\0".encode())
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def installed_digest(venv: Path) -> str:
    """Read the digest of the installed code; empty if it is missing or incomplete."""
    marker = venv / INSTALLED
    return marker.read_text() if marker.exists() and _works(venv) else ""


def install_service(venv: Path, digest: str) -> None:
    """Bring a virtual environment of the service to the code of this checkout."""
    marker, python = venv / INSTALLED, venv / "bin/python"
    marker.unlink(missing_ok=True)
    for lock in _locks():
        install_locked(python, lock)
    with tempfile.TemporaryDirectory() as scratch:
        source, wheels = Path(scratch) / "source", Path(scratch) / "wheels"
        _stage(source)
        # The backend is one of the locked packages, so nothing is fetched that has no hash.
        pip(
            python,
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            f"--wheel-dir={wheels}",
            str(source),
        )
        (wheel,) = wheels.glob("*.whl")
        pip(python, "install", "--no-deps", "--no-index", "--force-reinstall", str(wheel))
    marker.write_text(digest)


def _locks() -> list[Path]:
    traces = [ROOT / TRACES_LOCK] if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") else []
    return [ROOT / LOCK, *traces]


def install_locked(python: Path, lock: Path) -> None:
    """Install exactly what a lock file names, every hash checked."""
    pip(python, "install", "--require-hashes", "--only-binary=:all:", "-r", str(lock))


def pip(python: Path, *arguments: str) -> None:
    """Run pip. Raises InstallError with the end of its output."""
    argv = [str(python), "-m", "pip", *arguments[:1], "--quiet", *arguments[1:]]
    done = subprocess.run(argv, env=clean(), capture_output=True, text=True, check=False, cwd="/")
    if done.returncode != 0:
        raise InstallError(f"pip {arguments[0]} failed:\n{_tail(done.stdout + done.stderr)}")


def _stage(target: Path) -> None:
    """Copy the wheel's sources, so that the build writes nothing into the checkout."""
    for path in _wheel_inputs():
        copy = target / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def _wheel_inputs() -> list[Path]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    found = [ROOT / "pyproject.toml", ROOT / project["project"]["readme"]]
    found += [ROOT / name for name in project["project"]["license-files"]]
    for package in packages:
        found += sorted(
            path
            for path in (ROOT / package).rglob("*")
            if path.is_file() and not LEFT_OUT & set(path.parts) and path.suffix != ".pyc"
        )
    return found


def _works(venv: Path) -> bool:
    """Return whether the environment exists and belongs to the currently installed Python."""
    ask = "import sys, pip; print(sys.version_info[:2], sys.base_prefix)"
    answers = []
    for argv in ([str(venv / "bin/python"), "-c", ask], [SYSTEM_PYTHON, "-c", ask.replace(", pip", "")]):
        try:
            done = subprocess.run(argv, env=clean(), capture_output=True, text=True, check=False)
        except OSError:
            return False
        if done.returncode != 0:
            return False
        answers.append(done.stdout)
    return answers[0] == answers[1]


def _has(pattern: str) -> bool:
    name = Path(pattern).name
    if name in RUNTIME_PACKAGES:  # one built or downloaded by the machine's owner will do
        return shutil.which(name, path=PATH) is not None
    if not pattern:
        # Debian keeps this part of the standard library in the package.
        asked = subprocess.run([SYSTEM_PYTHON, "-c", "import ensurepip"], capture_output=True, check=False)
        return asked.returncode == 0
    return bool(glob(pattern))


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join("    " + line for line in text.strip().splitlines()[-lines:])


def main() -> int:
    """Update the environment of `make check` in .venv if its lock file changed: `python -m ops.install --dev`."""
    venv, lock = ROOT / ".venv", ROOT / "requirements-dev.lock"
    marker, digest = venv / INSTALLED, hashlib.sha256(lock.read_bytes()).hexdigest()
    try:
        make_venv(venv)
        if not marker.exists() or marker.read_text() != digest:
            print("installing the tools of make check into .venv", file=sys.stderr, flush=True)
            install_locked(venv / "bin/python", lock)
            marker.write_text(digest)
    except InstallError as e:
        print(f"make: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
