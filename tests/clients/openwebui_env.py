"""An environment with Open WebUI's plugin loader: `python tests/clients/openwebui_env.py FOLDER`, of `make test-setup`.

Of Open WebUI's wheel (a hundred megabytes, most of them its browser's) only the sources are unpacked; beside them
stand the few packages that its loader imports. Every hash is checked; once it is there nothing is fetched again.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import zipfile
from pathlib import Path

LOCK = Path(__file__).with_name("openwebui.lock")
MARKER = "installed"


def prepare(folder: Path) -> Path:
    """Make it, or find it made; its Python. Raises ops.install.InstallError."""
    from ops.install import make_venv, pip

    python, marker = folder / "bin/python", folder / MARKER
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    make_venv(folder)
    if marker.exists() and marker.read_text() == digest:
        return python
    marker.unlink(missing_ok=True)
    own, others = split(LOCK.read_text())
    with tempfile.TemporaryDirectory() as scratch:
        for name, text in (("own", own), ("others", others)):
            (Path(scratch) / name).write_text(text)
        checked = ["--require-hashes", "--only-binary=:all:", "--no-deps"]
        pip(python, "install", *checked, "--no-compile", "-r", f"{scratch}/others")
        pip(python, "download", *checked, f"--dest={scratch}", "-r", f"{scratch}/own")
        (wheel,) = Path(scratch).glob("open_webui-*.whl")
        (packages,) = folder.glob("lib/python3.*/site-packages")
        with zipfile.ZipFile(wheel) as opened:
            for name in opened.namelist():
                if name.endswith((".py", ".md", ".dist-info/METADATA")):
                    opened.extract(name, packages)
    marker.write_text(digest)
    return python


def split(lock: str) -> tuple[str, str]:
    """The lines of Open WebUI itself, and those of the others."""
    own, others, mine = [], [], False
    for line in lock.splitlines(keepends=True):
        if not line.startswith((" ", "#")):
            mine = line.startswith("open-webui==")
        (own if mine else others).append(line)
    return "".join(own), "".join(others)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    prepare(Path(sys.argv[1]))
