"""Packages with PACKAGES=approved and a plan: what is refused before a build; a wrong file stops the start."""

from __future__ import annotations

import pytest

from tests.support.service import ADMIN_TOKEN, make

FILE = """
pip = ["requests", "numpy>=1.20,<3"]
npm = ["@types/*", "lodash@^4"]
"""
PLANS = """
[free]
runs = 50
rate_per_minute = 600
burst = 50
[narrow]
rate_per_minute = 6000
burst = 500
package_patterns = {npm = ["lodash"]}
"""


def refused(reply, code, param):
    assert (reply.status, reply.body["error"]["code"], reply.body["error"]["param"]) == (400, code, param), (
        reply.body
    )
    return reply.body["error"]["message"]


@pytest.fixture
def files(tmp_path):
    """The two files, where the api's account can read them."""
    for folder in (tmp_path, *tmp_path.parents[:4]):
        if folder.stat().st_uid == 0 and folder.name.startswith(("pytest", "popen", "test")):
            folder.chmod(0o755)
    packages, plans = tmp_path / "packages.toml", tmp_path / "plans.toml"
    packages.write_text(FILE)
    plans.write_text(PLANS)
    return {"PACKAGES_FILE": str(packages), "PLANS_FILE": str(plans)}


@pytest.fixture
def installed(service, state):
    """A state directory with the Python environment of the tests' own service: none is installed for it."""
    (state / "venv").symlink_to(service.state / "venv")
    return state


def test_approved_packages_and_those_of_a_plan(start_service, files):
    service = start_service(PACKAGES="approved", LANGUAGES="node", WARM_POOL="node=1", **files)
    node = {"language": "node", "code": "1"}
    for form in ({}, {"stream": True}, {"background": True}):
        reply = service.post("/v1/runs", json=node | form | {"packages": ["lodash", "lodahs"]})
        assert "permitted: lodash@^4" in refused(reply, "package_not_allowed", "packages.1")
    message = refused(
        service.post("/v1/runs", json=node | {"packages": ["lodash@3.10.1"]}), "package_not_allowed", "packages.0"
    )
    assert "PACKAGES_FILE" in message
    assert "permitted: lodash@^4" in message
    refused(service.post("/v1/runs", json=node | {"packages": ["x@file:.."]}), "invalid_package", "packages.0")
    refused(
        service.post("/v1/sessions", json={"language": "node", "packages": ["zod"]}),
        "package_not_allowed",
        "packages.0",
    )
    assert service.get("/v1/runs").body["data"] == []
    key = service.post("/v1/admin/keys", json={"plan": "narrow"}, token=ADMIN_TOKEN).body["key"]
    reply = service.post("/v1/runs", json=node | {"packages": ["lodash", "@types/node"]}, token=key)
    assert "the plan of this key (narrow)" in refused(reply, "package_not_allowed", "packages.1")
    assert service.post("/v1/runs", json=node, token=key).status == 200


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"PACKAGES": "approved"}, "PACKAGES: approved needs PACKAGES_FILE"),
        ({"PACKAGES": "some"}, "PACKAGES: "),
        ({"PACKAGES_FILE": "/nowhere/packages.toml"}, "PACKAGES_FILE: /nowhere/packages.toml cannot be read"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_starts(installed, settings, words):
    said = make("up", check=False, STATE_DIR=str(installed), PORT="19319", **settings)
    assert words in said.stdout


def test_a_wrong_pattern_is_named_by_file_and_key(installed, files):
    with open(files["PACKAGES_FILE"], "a", encoding="utf-8") as file:
        file.write('cargo = ["ok", "--git=x"]\n')
    said = make("up", check=False, STATE_DIR=str(installed), PORT="19319", **files)
    assert f"{files['PACKAGES_FILE']}: cargo.1: has a name that crates cannot have" in said.stdout
