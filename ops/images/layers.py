"""Making the three kinds of layer. Each function fills a directory that the store then puts in its place."""

from __future__ import annotations

import contextlib
import shutil
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from ops.images import debian
from ops.images.chroot import Chroot, entered
from ops.images.inputs import WORKDIR_LINKS, BuildInputs, place
from ops.images.run import run
from ops.images.store import write_json
from sandbox.layer_digest import hash_tree

COMPILE = ["python3", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]


def make_base(place_at: Path, inputs: BuildInputs, env: dict[str, str]) -> None:
    """Make the base layer: Debian with python3, after base/build.sh has run in it."""
    started = time.monotonic()
    rootfs, context = place_at / "rootfs", place_at / "context"
    packages = (inputs.runners / "base" / "packages.txt").read_text().split()
    debian.bootstrap(rootfs, packages, env)
    place(inputs.base(), context)
    with entered(rootfs, context, env, network=False) as inside:
        inside.run(["sh", "./build.sh"], "base")
    shutil.rmtree(context)
    _finish(place_at, started, content_in="rootfs")


def make_agent(place_at: Path, inputs: BuildInputs, base: Path, env: dict[str, str]) -> None:
    """Make the agent layer: agent and runner code, compiled by the base image's Python at their final paths."""
    started = time.monotonic()
    context = place_at / "context"
    context.mkdir()
    with _over(place_at, base, context, env, network=False) as inside:
        place(inputs.agent(), inside.root / "opt/runyard")
        link_workdirs(inside.root)
        inside.run([*COMPILE, "/opt/runyard"], "agent")
    shutil.rmtree(context)
    _finish(place_at, started)


def link_workdirs(root: Path) -> None:
    """Make the other names of /work, which a session may be given as its working directory."""
    for name in WORKDIR_LINKS:
        link = root / name
        link.parent.mkdir(mode=0o755, exist_ok=True)
        link.symlink_to("/work")


def make_language(
    place_at: Path, inputs: BuildInputs, language: str, base: Path, wheels: Future[Path] | None, env: dict[str, str]
) -> None:
    """Make a language's layer: run its build.sh over the base layer."""
    version_argv = tomllib.loads((inputs.runners / language / "runner.toml").read_text())["version_argv"]
    started = time.monotonic()
    context = place_at / "context"
    context.mkdir()
    fill_context(context, inputs, language, wheels)
    with _over(place_at, base, context, env, network=True) as inside:
        inside.run(["sh", "./build.sh"], language)
        version = _version(inside.run(version_argv, language))
        packages = inside.packages()
    shutil.rmtree(context)
    _finish(place_at, started, version=version, packages=packages)


def fill_context(context: Path, inputs: BuildInputs, language: str, wheels: Future[Path] | None) -> None:
    """Lay out the directory that build.sh runs in."""
    place(inputs.language(language), context)
    if wheels is not None:
        wheels.result().rename(context / "site")


def _version(said: str) -> str:
    """Find the version in a line such as `Python 3.13.5`, `v24.19.0`, `GNU bash, version 5.2.37(1)-release`."""
    first = said.splitlines()[0] if said else ""
    words = (word.lstrip("v") for word in first.replace("(", " ").split())
    return next((word for word in words if word[:1].isdigit()), first)


@contextlib.contextmanager
def _over(place_at: Path, base: Path, context: Path, env: dict[str, str], *, network: bool) -> Iterator[Chroot]:
    """Mount a chroot over the base layer; `diff` receives the changes."""
    lower = [base]
    if network:
        # A link that leads to a file the chroot has only while it is built, in a layer of its own beneath.
        (place_at / "network/etc").mkdir(parents=True)
        (place_at / "network/etc/resolv.conf").symlink_to("/run/build/resolv.conf")
        lower.insert(0, place_at / "network")
    for name in ("diff", "work", "merged"):
        (place_at / name).mkdir()
    merged = place_at / "merged"
    options = ",".join(
        (
            "lowerdir=" + ":".join(map(str, lower)),
            f"upperdir={place_at / 'diff'}",
            f"workdir={place_at / 'work'}",
            # Plain layers only: they are stacked again elsewhere, by mounts that know nothing of this one.
            "redirect_dir=off,metacopy=off,index=off",
        )
    )
    run(["mount", "-t", "overlay", "overlay", "-o", options, str(merged)], env=env, what="mount")
    try:
        with entered(merged, context, env, network=network) as inside:
            yield inside
    finally:
        run(["umount", "-l", str(merged)], env=env, what="umount")
    for name in ("work", "merged", "network"):
        shutil.rmtree(place_at / name, ignore_errors=True)


def _finish(place_at: Path, started: float, *, content_in: str = "diff", **more: object) -> None:
    """Measure a layer that is complete, and write its `image.json`."""
    content = hash_tree(place_at / content_in)
    data = {
        "content": content.digest,
        "size_bytes": content.size_bytes,
        "build_seconds": round(time.monotonic() - started, 1),
        **more,
    }
    write_json(place_at / "image.json", data)
