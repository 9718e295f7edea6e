"""A layer of packages in a sandbox of each engine: found where a program looks, and nothing that it can change."""

from __future__ import annotations

import os

import pytest

from sandbox.layers.facts import LayerFacts, LockedPackage

REQUEST = ("tiny==1.0",)
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


def put_layer(state, image):
    """Lay down a layer as a worker finds it at its start."""
    facts = LayerFacts(
        id="lay_tiny", key="test", language="python", image=image, request=REQUEST,
        packages=(LockedPackage("tiny", "1.0", "f" * 64),), size=4096, sha256="0" * 64, is_pinned=True,
        is_shared=True, created_at=0.0, users=("test",),
    )  # fmt: skip
    layer = state / "layers/store/lay_tiny"
    (layer / "files/opt/packages/python").mkdir(parents=True)
    (layer / "files/opt/packages/python/tiny.py").write_text("x = 42\n")
    (layer / "layer.json").write_text(facts.to_json())
    layer.chmod(0o700)
    for folder in ("files", "files/opt", "files/opt/packages", "files/opt/packages/python"):
        (layer / folder).chmod(0o755)
    (layer / "files/opt/packages/python/tiny.py").chmod(0o644)


@pytest.mark.timeout(600)
def test_a_program_has_its_layer_and_cannot_change_it(run, start_worker):
    image = run("python", "print(1)")["isolation"]["image"]
    worker = start_worker(
        prepare=lambda state: put_layer(state, image),
        LANGUAGES="python",
        WARM_POOL="python=1",
        PACKAGES="any",
    )
    for _ in range(2):
        ended = worker.run(code=CODE, packages=REQUEST)
        lines = ended["stdout"].splitlines()
        assert lines[0] == "42 /opt/packages/python/tiny.py True", ended
        assert set(lines[1:3]) <= {"OSError", "PermissionError"}, ended
        assert len(lines) == 4, ended
        assert lines[3] == f"{0o644} True"
        assert ended["layer"] == "lay_tiny"
    assert worker.run(code="import tiny")["status"] == "failed"
    assert os.listdir(worker.state / "layers/store") == ["lay_tiny"]
