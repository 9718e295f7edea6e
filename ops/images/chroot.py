"""Running a build inside the tree it makes, with no more of the host in it than the build needs.

Everything put in is a mount on a directory that the base has anyway, so none of it stays in the layer.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ops.environment import PATH
from ops.images import npm
from ops.images.debian import HOST_CERTIFICATES, acquire_options, host_sources
from ops.images.run import run

#: Directory of a build's files; on a tmpfs that hides the image's own /run.
BUILD = "run/build"
DEVICES = ("null", "zero", "full", "random", "urandom")
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")


@dataclass(frozen=True, slots=True)
class Chroot:
    """A tree that is set up to run programs in."""

    root: Path
    env: dict[str, str]
    host_env: dict[str, str]

    def run(self, argv: list[str], what: str) -> str:
        """Run a program inside, from the build's own directory; its output."""
        inside = ["chroot", str(self.root), "/bin/sh", "-c", f'cd /{BUILD}/context && exec "$@"', "sh", *argv]
        given = [f"{name}={value}" for name, value in self.env.items()]
        chroot, *rest = inside
        return run(
            ["env", "-i", *given, f"PATH={PATH}", chroot, *rest],
            env=self.host_env,
            what=what,
        )

    def packages(self) -> list[dict[str, str]]:
        """Parse the packages that build.sh reports as installed: `name version`, one per line."""
        path = self.root / BUILD / "packages"
        if not path.exists():
            return []
        rows = (line.split(" ", 1) for line in path.read_text().splitlines() if " " in line)
        return [{"name": name, "version": version} for name, version in rows]


@contextlib.contextmanager
def entered(root: Path, context: Path, host_env: dict[str, str], *, network: bool) -> Iterator[Chroot]:
    """Mount into `root` what programs expect, and `context` where build.sh runs; take all of it away after."""
    with contextlib.ExitStack() as mounts:

        def mount(*options: str, at: str) -> None:
            target = str(root / at)
            run(["mount", *options, target], env=host_env, what="mount")
            mounts.callback(run, ["umount", "-l", target], env=host_env, what="umount")

        mount("-t", "proc", "proc", at="proc")
        mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", at="dev")
        for name in DEVICES:
            (root / "dev" / name).touch()
            mount("--bind", f"/dev/{name}", at=f"dev/{name}")
        (root / "dev/shm").mkdir()
        (root / "dev/fd").symlink_to("/proc/self/fd")
        for at in ("dev/shm", "tmp"):
            mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", at=at)
        mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", at="run")
        (root / BUILD / "context").mkdir(parents=True)
        mount("--bind", str(context), at=f"{BUILD}/context")
        env = {"HOME": "/tmp", "LANG": "C.UTF-8", "TERM": "dumb"}  # noqa: S108
        if network:
            mount("--bind", "/etc/hosts", at="etc/hosts")
            env |= _network(root / BUILD)
        yield Chroot(root, env, host_env)


def _network(folder: Path) -> dict[str, str]:
    """Write the files with which apt and npm reach the host's mirrors; return the environment that names them."""
    inside = "/" + BUILD
    certificates = Path(os.environ.get("SSL_CERT_FILE") or HOST_CERTIFICATES)
    options = [*acquire_options(), f'Dir::Etc::sourcelist "{inside}/sources.list";']
    # apt reads its own options as `name "value";` lines, which is how apt-config prints them.
    options.append('Dir::Etc::sourceparts "-";')
    shutil.copyfile("/etc/resolv.conf", folder / "resolv.conf")
    (folder / "sources.list").write_text(host_sources())
    env = {"APT_CONFIG": f"{inside}/apt.conf"}
    if certificates.is_file():
        shutil.copyfile(certificates, folder / "certificates.pem")
        options.append(f'Acquire::https::CaInfo "{inside}/certificates.pem";')
        env |= dict.fromkeys(("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"), f"{inside}/certificates.pem")
    if (folder / "context" / npm.LOCK).exists():
        env |= npm.configuration(folder, inside)
    (folder / "apt.conf").write_text("\n".join(options) + "\n")
    for name in PROXIES:
        env |= {key: os.environ[key] for key in (name, name.upper()) if key in os.environ}
    return env
