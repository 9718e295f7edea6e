"""RUNNER_IMAGE_<LANG>: an image of the owner's own, in every form in which one may be given."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from sandbox.engines.docker.archive import archive_of
from sandbox.images import ImageStore
from tests.engines.columns import chosen
from tests.support.workers import Worker

UID_BASE = 0x7C00_0000
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def forms(service):
    """bash's image as a root file system, as from `docker save`, as an OCI layout, and as an archive of that."""
    place = Path(tempfile.mkdtemp(prefix="runyard-test-", dir="/var/lib"))
    place.chmod(0o755)
    image = ImageStore(service.images).get("bash")
    saved = place / "saved.tar"
    with open(saved, "wb") as file:
        file.writelines(archive_of(image, "my/bash:1", place))
    root = place / "root"
    merged = place / "merged"
    merged.mkdir()
    subprocess.run(
        ["mount", "-t", "overlay", "-o", "ro,lowerdir=" + ":".join(image.layers), "overlay", str(merged)],
        check=True,
    )
    try:
        subprocess.run(["cp", "-a", str(merged), str(root)], check=True)
    finally:
        subprocess.run(["umount", str(merged)], check=True)
    layout = place / "layout"
    _layout(saved, layout)
    archive = place / "layout.tar.gz"
    subprocess.run(["tar", "-C", str(layout), "-czf", str(archive), "."], check=True)
    yield {"root": root, "docker save": saved, "layout": layout, "archive": archive}
    shutil.rmtree(place)


def _layout(saved, layout):
    """What `docker save` writes, told as an OCI image layout, its layers compressed."""
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(content, kind):
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    with tarfile.open(saved) as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json"))
        config = put(tar.extractfile(manifest["Config"]).read(), "application/vnd.oci.image.config.v1+json")
        layers = []
        for name in manifest["Layers"]:
            packed = subprocess.run(
                ["gzip", "-1"], input=tar.extractfile(name).read(), stdout=subprocess.PIPE, check=True
            )
            layers.append(put(packed.stdout, "application/vnd.oci.image.layer.v1.tar+gzip"))
    data = {"schemaVersion": 2, "config": config, "layers": layers}
    described = put(json.dumps(data).encode(), "application/vnd.oci.image.manifest.v1+json")
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


@pytest.fixture
def start():
    """Start a worker that knows no image but what it is told of."""
    state = Path(tempfile.mkdtemp(prefix="runyard-test-", dir="/var/lib"))
    state.chmod(0o755)
    started = []

    def start(**settings):
        fixed = {"LANGUAGES": "bash", "WARM_POOL": "bash=1", "UID_BASE": str(UID_BASE)}
        made = Worker(state, state / "none", **fixed, **settings)
        started.append(made)
        return made

    yield start
    for made in started:
        made.stop()
    for made in started:
        made.end()
    shutil.rmtree(state)


PROGRAM = "jq -n 1+1; ls /usr/share/doc | wc -l"


@pytest.mark.skipif("oci/crun" not in chosen(), reason="RUNYARD_TEST_COLUMNS leaves out oci/crun")
@pytest.mark.parametrize("form", ["root", "docker save", "layout", "archive"])
def test_oci_takes_every_form(start, forms, form):
    worker = start(ENGINE="oci", RUNNER_IMAGE_BASH=str(forms[form]))
    worker.wait_until_filled(60)
    result = worker.run("bash", PROGRAM)
    assert result["stdout"] == "2\n0\n"
    assert result["isolation"]["image"].startswith("sha256:")
    worker.stop()
    if form == "root":
        return
    # The second start finds it unpacked, and it is the same image.
    again = start(ENGINE="oci", RUNNER_IMAGE_BASH=str(forms[form]))
    again.wait_until_filled(60)
    assert again.run("bash", "true")["isolation"]["image"] == result["isolation"]["image"]
    assert len(list((again.state / "imported").iterdir())) == 1


@pytest.mark.skipif("oci/crun" not in chosen(), reason="RUNYARD_TEST_COLUMNS leaves out oci/crun")
def test_an_image_without_the_agent_is_refused_at_the_start(start, tmp_path):
    (tmp_path / "usr").mkdir()
    worker = start(ENGINE="oci", RUNNER_IMAGE_BASH=str(tmp_path))
    assert worker.process.wait(30) == 78
    assert "RUNNER_IMAGE_BASH: no sandbox starts from this image" in worker.log.read_text()


@pytest.mark.skipif("docker/runc" not in chosen(), reason="RUNYARD_TEST_COLUMNS leaves out docker/runc")
def test_docker_takes_a_reference(start, forms, dockerd):
    for _ in dockerd.client.load_image(forms["docker save"].read_bytes()):
        pass
    worker = start(ENGINE="docker", DOCKER_HOST=dockerd.host, RUNNER_IMAGE_BASH="my/bash:1")
    worker.wait_until_filled(60)
    result = worker.run("bash", PROGRAM)
    assert result["stdout"] == "2\n0\n"
    assert result["isolation"]["image"] == dockerd.client.inspect_image("my/bash:1")["Id"]


@pytest.mark.skipif("docker/runc" not in chosen(), reason="RUNYARD_TEST_COLUMNS leaves out docker/runc")
def test_a_reference_that_the_daemon_does_not_have_is_refused_at_the_start(start, dockerd):
    worker = start(ENGINE="docker", DOCKER_HOST=dockerd.host, RUNNER_IMAGE_BASH="my/none:1")
    assert worker.process.wait(30) == 78
    assert "RUNNER_IMAGE_BASH=my/none:1" in worker.log.read_text()
    assert "docker pull my/none:1" in worker.log.read_text()
