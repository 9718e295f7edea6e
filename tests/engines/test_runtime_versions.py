"""Versions of the runtimes that are newer than this machine's own, with the worker's own rights: they make sandboxes."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from config.runtime_versions import compare, read_version
from tests.support.newer_runtimes import newer_runtime
from tests.support.place import SHARED
from tests.support.workers import Worker

#: `sid` changes from day to day, and its versions with it.
LATER = [
    pytest.param("crun", "trixie", id="crun of Debian 13"),
    pytest.param("runc", "trixie", id="runc of Debian 13"),
]


@pytest.fixture
def worker(service, runtime, suite):
    """A worker that finds the newer runtime before the machine's own; it sees it in a mount namespace of its own."""
    binary = newer_runtime(runtime, suite, SHARED / "runtimes")
    state = Path(tempfile.mkdtemp(prefix="runyard-test-", dir="/var/lib"))
    state.chmod(0o755)
    settings = {"RUNTIME": runtime, "WARM_POOL": "python=1,bash=1", "UID_BASE": str(0x7B00_0000)}
    made = Worker(state, service.images, inside=f"mount --bind {binary} $(command -v {runtime})", **settings)
    try:
        made.wait_until_filled(60)
        yield made
        assert made.stop() == 0
    finally:
        made.end()
        shutil.rmtree(state)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("runtime", "suite"), LATER)
def test_a_newer_runtime_makes_templates_and_containers(service, worker, runtime, suite):
    binary = newer_runtime(runtime, suite, SHARED / "runtimes")
    found = read_version(runtime, str(binary))
    assert found.is_tested, found
    lines = [json.loads(line) for line in worker.log.read_text().splitlines()]
    said = [line for line in lines if line["message"] == "runtime found"]
    assert (found.text, "yes") in [(line["version"], line["tested"]) for line in said]
    for isolation, source in (("default", "template"), ("container", "cold")):
        result = worker.run("python", "print(1+1)", isolation=isolation)
        assert (result["status"], result["stdout"]) == ("succeeded", "2\n"), result
        assert (result["isolation"]["runtime"], result["isolation"]["source"]) == (runtime, source)
    assert [line for line in lines if line["level"] in {"ERROR", "CRITICAL"}] == []


@pytest.mark.parametrize(
    ("name", "answer", "tested", "words"),
    [
        ("crun", "crun version 1.8.1\ncommit: x\n", True, ""),
        ("crun", "crun version 1.21\n", True, ""),
        ("crun", "crun version 1.7.2\n", False, "older than every tested version: tested are 1.8 to 1.28"),
        ("crun", "crun version 2.0\n", False, "newer than every tested version"),
        ("runc", "runc version 1.1.5+ds1\n", True, ""),
        ("runc", "runc version 1.3.6+ds1\n", True, ""),
        ("runc", "runc version 1.0.3\n", False, "older"),
        ("crun", "", False, "does not name a version"),
        ("runsc", "runsc version 20260101\n", True, ""),
    ],
)
def test_a_version_is_compared_with_those_that_were_tested(name, answer, tested, words):
    found = compare(name, answer)
    assert found.is_tested is tested
    assert words in found.problem
