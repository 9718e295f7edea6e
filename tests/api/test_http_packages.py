"""Packages over HTTP with PACKAGES=off: everything is refused before it is recorded."""

from __future__ import annotations

import pytest

PYTHON = {"language": "python", "code": "print(1)"}
#: The number of packages that a run may ask for.
MOST = 32


def refused(reply, code, param):
    assert (reply.status, reply.body["error"]["code"], reply.body["error"]["param"]) == (400, code, param), (
        reply.body
    )
    assert reply.body["error"]["message"].startswith(f"{param}: ")
    return reply.body["error"]["message"]


@pytest.mark.parametrize("form", [{}, {"stream": True}, {"background": True}])
def test_a_run_with_packages_is_refused_and_told_of_the_setting(service, form):
    before = service.get("/v1/runs?limit=1").body["first_id"]
    message = refused(
        service.post("/v1/runs", json=PYTHON | form | {"packages": ["requests==2.32.3", "numpy"]}),
        "package_not_allowed",
        "packages.0",
    )
    assert "PACKAGES is off" in message
    assert service.get("/v1/runs?limit=1").body["first_id"] == before


@pytest.mark.parametrize("form", [{}, {"stream": True}, {"background": True}])
def test_a_session_with_packages_is_refused(service, form):
    reply = service.post("/v1/sessions", json={"language": "python", "packages": ["numpy"]} | form)
    refused(reply, "package_not_allowed", "packages.0")
    assert service.get("/v1/sessions?status=live").body["data"] == []


def test_no_packages_are_none(service):
    for packages in ([], None):
        reply = service.post("/v1/runs", json=PYTHON | {"packages": packages})
        assert (reply.status, reply.body["stdout"], reply.body["layer"]) == (200, "1\n", None)


def test_the_form_of_an_entry_comes_first(service):
    for path in ("/v1/runs", "/v1/sessions"):
        body = PYTHON if path == "/v1/runs" else {"language": "python"}
        for packages, code, param in (
            (["numpy", "-r x.txt"], "invalid_package", "packages.1"),
            (["numpy", "NumPy==2"], "invalid_package", "packages.1"),
            ([f"p{number}" for number in range(MOST + 1)], "too_many", "packages"),
            ("numpy", "invalid_type", "packages"),
            ([1], "invalid_type", "packages.0"),
        ):
            refused(service.post(path, json=body | {"packages": packages}), code, param)


def test_a_language_without_packages_names_those_that_have_them(service):
    for language in ("bash", "php", "ruby"):
        reply = service.post("/v1/runs", json={"language": language, "code": "1", "packages": ["x"]})
        message = refused(reply, "not_supported", "packages")
        assert "python, node, typescript, bun, deno, go, rust" in message


def test_a_run_in_a_session_takes_those_of_the_session(service):
    made = service.post("/v1/sessions", json={"language": "bash"}).body
    try:
        assert (made["packages"], made["layer"]) == ([], None)
        reply = service.post(f"/v1/sessions/{made['id']}/runs", json={"code": "echo 1", "packages": ["x"]})
        refused(reply, "unknown_field", "packages")
        run = service.post(f"/v1/sessions/{made['id']}/runs", json={"code": "echo 1"}).body
        assert run["layer"] is None
    finally:
        service.request("DELETE", f"/v1/sessions/{made['id']}")


def test_languages_name_the_ecosystem_of_their_packages(service):
    found = {row["id"]: row["package_ecosystem"] for row in service.get("/v1/languages").body["data"]}
    wanted = {
        "python": "pip", "node": "npm", "typescript": "npm", "bun": "npm", "deno": "npm", "go": "go",
        "rust": "cargo", "bash": None, "php": None, "ruby": None,
    }  # fmt: skip
    assert found == {name: wanted[name] for name in found}
    assert "python" in found


@pytest.mark.parametrize("layer", ["lay_x", "x" * 3000, "..", "%00", "lay_%2e%2e%2fetc"])
def test_a_layer_that_nobody_used_is_not_there(service, layer):
    reply = service.get(f"/v1/layers/{layer}")
    assert reply.status == 404
    assert reply.body["error"]["code"] in ("layer_not_found", "not_found")


def test_a_near_name_of_the_field_is_suggested(service):
    reply = service.post("/v1/runs", json=PYTHON | {"requirements": ["numpy"]})
    assert (reply.status, reply.body["error"]["code"]) == (400, "unknown_field")
    assert "packages" in reply.body["error"]["message"]
