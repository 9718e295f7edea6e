"""What is committed is what the sources make: byte for byte, with the packages that the lock file names."""

from __future__ import annotations

import json
import subprocess

from ops import web
from ops.environment import clean
from tests.support.service import REPO

STATIC = REPO / "web" / "admin" / "static"


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_committed_page_is_what_the_sources_make(tmp_path):
    web.install_packages()
    web.build(tmp_path / "static")
    made, committed = tree(tmp_path / "static"), tree(STATIC)
    assert sorted(made) == sorted(committed), "run `make web` and commit what it made"
    assert [name for name in made if made[name] != committed[name]] == [], "run `make web` and commit what it made"


def test_the_types_are_sound():
    web.install_packages()
    argv = ["node", "node_modules/typescript/bin/tsc", "--noEmit"]
    done = subprocess.run(argv, cwd=web.WEB, env=clean(), capture_output=True, text=True, timeout=110, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_lock_file_names_hashes_and_no_place():
    packages = json.loads((web.WEB / "package-lock.json").read_text())["packages"]
    locked = {name: about for name, about in packages.items() if name}
    assert len(locked) > 20
    assert [name for name, about in locked.items() if "integrity" not in about or "resolved" in about] == []
