"""Archives and layouts that are not what they say: told from good ones, and never followed out of themselves."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from sandbox.engines import EngineError
from sandbox.engines.oci.image_import import import_image
from sandbox.engines.oci.spec import build_spec
from sandbox.engines.runtime_features import GVISOR, RuntimeFeatures


def saved(path, manifest, **members):
    with tarfile.open(path, "w") as tar:
        for name, data in {"manifest.json": json.dumps(manifest).encode(), **members}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    "manifest",
    [
        [],
        {},
        "x",
        [{}],
        [{"Config": "c.json"}],
        [{"Config": 5, "Layers": []}],
        [{"Config": "c.json", "Layers": []}] * 2,
        [{"Config": "../../etc/passwd", "Layers": []}],
        [{"Config": "/etc/passwd", "Layers": []}],
        [{"Config": "c.json", "Layers": ["../../../etc/shadow"]}],
        [{"Config": "missing.json", "Layers": []}],
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path, manifest):
    archive = saved(tmp_path / "image.tar", manifest, **{"c.json": b"{}"})
    with pytest.raises((EngineError, OSError)):
        import_image("bash", archive, tmp_path / "store")
    assert [path for path in (tmp_path / "store").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    "index",
    [
        {},
        {"manifests": []},
        {"manifests": [{"digest": "sha256:../../../etc/passwd"}]},
        {"manifests": [{"digest": "sha256:abc", "platform": {"os": "linux", "architecture": "arm64"}}]},
        {"manifests": [{"digest": "sha256:abc"}, {"digest": "sha256:def"}]},
        {"manifests": [{"digest": 5}]},
        [],
    ],
)
def test_a_layout_without_one_image_for_this_machine_is_refused(tmp_path, index):
    layout = tmp_path / "layout"
    layout.mkdir()
    (layout / "oci-layout").write_text("{}")
    (layout / "index.json").write_text(json.dumps(index))
    with pytest.raises((EngineError, OSError)):
        import_image("bash", layout, tmp_path / "store")


def test_what_is_not_there_or_no_image_is_said(tmp_path):
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").mkdir()
    for name, words in (("none", "no such file"), ("text", "no archive"), ("empty", "neither a root file system")):
        with pytest.raises(EngineError, match=words):
            import_image("bash", tmp_path / name, tmp_path / "store")


def configuration(traits):
    text = build_spec(
        argv=["x"],
        env={},
        memory_bytes=1 << 28,
        build_bytes=0,
        seccomp={"defaultAction": "SCMP_ACT_ERRNO"},
        apparmor=None,
        no_new_privileges=True,
        annotations={},
        traits=traits,
    )
    return json.loads(text.replace('"@@UID@@"', "1000"))


def test_crun_is_given_everything():
    made = configuration(RuntimeFeatures())
    assert "rlimits" in made["process"]
    assert "seccomp" in made["linux"]
    assert {"type": "user", "path": "@@USERNS@@"} in made["linux"]["namespaces"]
    assert made["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 65536}]
    assert "/dev" in {mount["destination"] for mount in made["mounts"]}


def test_a_runtime_is_not_told_what_it_sees_to_otherwise():
    assert "rlimits" not in configuration(RuntimeFeatures(sets_rlimits=False))["process"]
    gvisor = configuration(GVISOR)
    assert "seccomp" not in gvisor["linux"]
    assert not any(entry["type"] == "user" for entry in gvisor["linux"]["namespaces"])
    assert {mount["destination"] for mount in gvisor["mounts"]} == {"/proc", "/work", "/tmp", "/dev/shm"}
