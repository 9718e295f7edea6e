"""`python -m ops.lock LANGUAGE ...`: resolve a runner's requirements.in for the image's Python.

pip-compile resolves for the interpreter it runs in; a runner's is another one. So pip is asked what it would
install, and each wheel it names is written down with its hash.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from ops.environment import clean
from ops.images.wheels import target_options

RUNNERS = Path(__file__).resolve().parents[1] / "runners"
HEADER = "# Made by `make lock` from requirements.in; what the image's Python installs, and nothing else.\n"


def lock(folder: Path) -> str:
    """The text of the lock file for `folder/requirements.in`."""
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
    return HEADER + "".join(f"{name}=={version} \\\n    --hash=sha256:{hash_}\n" for name, version, hash_ in rows)


def main() -> int:
    """Write the lock file of each language named."""
    for language in sys.argv[1:]:
        folder = RUNNERS / language
        (folder / "requirements.lock").write_text(lock(folder))
        print(f"{language}: requirements.lock written", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
