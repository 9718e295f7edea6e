"""A layer of packages in a sandbox of each engine: found where a program looks, and nothing that it can change."""

from __future__ import annotations

import os

import pytest

from sandbox.layers.facts import LayerFacts, LockedPackage
from tests.support.workers import until

REQUEST = ("tiny==1.0",)
CRATE = ("tiny@=1.0.0",)
NPM = ("tiny@1.0.0",)
CODE = """
import os, sys, tiny
print(tiny.x, tiny.__file__, os.path.isfile("/opt/packages/python/tiny.py"))
for path in ("/opt/packages/new", "/opt/packages/python/tiny.py"):
    try:
        open(path, "a")
    except OSError as e:
        print(type(e).__name__)
print(os.stat("/opt/packages/python/tiny.py").st_mode & 0o777, os.path.exists("/opt/runyard/agent"))
"""
#: Compiles a crate as a build does, and prints its file.
COMPILE = """
use std::{fs, process::Command};
fn main() {
    fs::write("tiny.rs", "pub const X: u32 = 42;").unwrap();
    let argv = ["--edition=2021", "--crate-type=rlib", "-o", "libtiny.rlib", "tiny.rs"];
    assert!(Command::new("rustc").args(argv).status().unwrap().success());
    let whole: Vec<String> = fs::read("libtiny.rlib").unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{}", whole.join(""));
}
"""
ARGUMENTS = """-L
dependency=/opt/packages/rust/deps
--extern
tiny=/opt/packages/rust/deps/libtiny.rlib
"""
USE = """
use std::fs;
fn main() {
    let written = fs::write("/opt/packages/rust/arguments", "").is_ok();
    println!("{} {written}", tiny::X);
}
"""


def put_layer(state, image, language="python", request=REQUEST, files=None, **changed):
    """Lay down a layer as a worker finds it at its start; `files` are bytes by their path in /opt/packages.

    `changed` are facts of it.
    """
    given = {
        "id": "lay_tiny", "key": "test", "packages": (LockedPackage("tiny", "1.0", "f" * 64),), "size": 4096,
        "sha256": "0" * 64, "is_pinned": True, "is_shared": True, "created_at": 0.0, "users": ("test",),
    }  # fmt: skip
    facts = LayerFacts(language=language, image=image, request=request, **(given | changed))
    layer = state / "layers/store" / facts.id
    for path, content in (files or {"python/tiny.py": b"x = 42\n"}).items():
        file = layer / "files/opt/packages" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o644)
    (layer / "layer.json").write_text(facts.to_json())
    for folder in (folder for folder in layer.rglob("*") if folder.is_dir()):
        folder.chmod(0o755)
    layer.chmod(0o700)


@pytest.mark.timeout(600)
def test_a_program_has_its_layer_and_cannot_change_it(run, start_worker):
    image = run("python", "print(1)")["isolation"]["image"]
    worker = start_worker(
        prepare=lambda state: put_layer(state, image),
        LANGUAGES="python",
        WARM_POOL="python=1",
        PACKAGES="any",
    )
    for source in ("cold", "pool"):
        ended = worker.run(code=CODE, packages=REQUEST)
        assert ended["isolation"]["source"] == source
        lines = ended["stdout"].splitlines()
        assert lines[0] == "42 /opt/packages/python/tiny.py True", ended
        assert set(lines[1:3]) <= {"OSError", "PermissionError"}, ended
        assert len(lines) == 4, ended
        assert lines[3] == f"{0o644} True"
        assert ended["layer"] == "lay_tiny"
        # The next sandbox with the layer waits for its run.
        until(lambda: worker.dispatcher.status()["pool"]["python/packages"] == {"ready": 1, "size": 1}, 60)
    assert worker.run(code="import tiny")["status"] == "failed"
    assert os.listdir(worker.state / "layers/store") == ["lay_tiny"]


NODE = """
const fs = require('fs')
const more = require('child_process').execFileSync('/node_modules/tiny/run.sh', {encoding: 'utf8'}).trim()
let written = true
try { fs.writeFileSync('/node_modules/tiny/index.js', '') } catch { written = false }
console.log(require('tiny'), more, fs.readFileSync('/package.json', 'utf8'), written)
"""


@pytest.mark.timeout(600)
def test_a_program_has_its_npm_packages_at_the_root(service, start_worker):
    image = service.run("node", "1")["isolation"]["image"]
    files = {
        "node_modules/tiny/index.js": b"module.exports = 42\n",
        "node_modules/tiny/run.sh": b"#!/bin/sh\necho ran\n",
        "package.json": b"{}",
    }

    def prepare(state):
        put_layer(state, image, "node", NPM, files)
        place = state / "layers/store/lay_tiny/files"
        (place / "opt/packages/node_modules/tiny/run.sh").chmod(0o755)
        for name in ("node_modules", "package.json"):
            (place / name).symlink_to(f"opt/packages/{name}")

    worker = start_worker(prepare=prepare, LANGUAGES="node", WARM_POOL="node=1", PACKAGES="any")
    ended = worker.run(language="node", code=NODE, packages=NPM)
    assert (ended["stdout"], ended["layer"]) == ("42 ran {} false\n", "lay_tiny"), ended
    assert worker.run(language="node", code="require('tiny')")["status"] == "failed"


@pytest.mark.timeout(600)
def test_a_program_is_linked_with_the_crates_of_its_layer(service, start_worker):
    made = service.run("rust", COMPILE, limits={"memory_mb": 512})
    assert made["exit_code"] == 0, made
    files = {"rust/arguments": ARGUMENTS.encode(), "rust/deps/libtiny.rlib": bytes.fromhex(made["stdout"].strip())}
    image = made["isolation"]["image"]
    worker = start_worker(
        prepare=lambda state: put_layer(state, image, "rust", CRATE, files),
        LANGUAGES="rust",
        WARM_POOL="rust=1",
        PACKAGES="any",
    )
    limits = {"memory_mb": 512, "timeout_ms": 20_000}
    ended = worker.run(language="rust", code=USE, packages=CRATE, limits=limits)
    assert (ended["stdout"], ended["layer"]) == ("42 false\n", "lay_tiny"), ended
    assert worker.run(language="rust", code=USE, limits=limits)["status"] == "failed"
