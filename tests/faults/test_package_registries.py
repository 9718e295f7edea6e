"""One package of each ecosystem from the registry that this machine reaches, with the settings of development."""

from __future__ import annotations

import shutil

import pytest

from tests.faults.conftest import SHARED_UIDS
from tests.support.own_service import OwnService, new_state

pytestmark = pytest.mark.timeout(240)

GO = """
package main

import (
	"fmt"

	"github.com/google/uuid"
)

func main() { fmt.Println(uuid.Nil) }
"""


@pytest.fixture(scope="module")
def developed(service):
    """A service to which PACKAGES is not given: in development that is `any`."""
    state = new_state()
    languages = {"LANGUAGES": "python,node,go", "WARM_POOL": "python=1,node=1,go=1"}
    own = OwnService(service, state, SHARED_UIDS, PACKAGES="", **languages)
    try:
        yield own.up()
    finally:
        own.down()
        shutil.rmtree(state)


@pytest.mark.parametrize(
    ("language", "package", "code", "output"),
    [
        (
            "python",
            "six==1.16.0",
            "import six; print(six.__version__, six.__file__)",
            "1.16.0 /opt/packages/python/six.py",
        ),
        ("node", "is-odd@3.0.1", "console.log(require('is-odd')(3))", "true"),
        ("go", "github.com/google/uuid@v1.6.0", GO, "00000000-0000-0000-0000-000000000000"),
    ],
    ids=["pip", "npm", "go"],
)
def test_a_package_of_the_registry(developed, language, package, code, output):
    body = {"language": language, "code": code, "packages": [package]}
    run = developed.post("/v1/runs", json=body, timeout=200).body
    assert run.get("stdout") == f"{output}\n", run
    layer = developed.get(f"/v1/layers/{run['layer']}").body
    name, _, version = package.replace("==", "@").rpartition("@")
    assert (name, version) in [(one["name"], one["version"]) for one in layer["packages"]]
