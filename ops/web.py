"""`make web`: build the admin page into web/admin/static, which is committed; so the service itself needs no Node.

Standard library only: the tests' set-up uses it before anything is installed.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from ops.environment import clean
from ops.install import INSTALLED, ROOT, InstallError

WEB = ROOT / "web"
#: Packages to build the page and for its tests: package, and the file that shows that it is installed.
PACKAGES = {"nodejs": "/usr/bin/node", "npm": "/usr/bin/npm"}
TEST_PACKAGES = {
    **PACKAGES,
    "chromium": "/usr/bin/chromium",
    "fonts-dejavu-core": "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
}


def install_packages() -> None:
    """Bring web/node_modules to what the lock file names, unless it is there. Nothing of a package is run."""
    marker = WEB / "node_modules" / INSTALLED
    digest = hashlib.sha256((WEB / "package-lock.json").read_bytes()).hexdigest()
    if marker.is_file() and marker.read_text() == digest:
        return
    _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    marker.write_text(digest)


def build(target: Path | None = None) -> None:
    """Build the page, to `target` if that is given."""
    _run("node", "build.mjs", *([str(target)] if target else []))


def _run(*argv: str) -> None:
    try:
        done = subprocess.run(argv, cwd=WEB, env=clean(), capture_output=True, text=True, check=False)
    except FileNotFoundError as e:
        raise InstallError(f"{argv[0]} is not installed: install {', '.join(PACKAGES)}") from e
    if done.returncode != 0:
        raise InstallError(f"{' '.join(argv[:2])} failed:\n{(done.stdout + done.stderr)[-3000:]}")


def main() -> int:
    """Build the page. Returns 0 on success."""
    try:
        install_packages()
        build()
    except InstallError as e:
        print(f"make: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
