"""Registries that want a password: they work, and no client, log, layer or package's code gets to know it."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.faults.conftest import SHARED_UIDS
from tests.support.own_service import OwnService, new_state
from tests.support.package_shop import Shop
from tests.support.registries import npm_package, package_registry, sdist, wheel

pytestmark = pytest.mark.timeout(180)

#: As the address has it, and as it is sent. Tools print either, or the header that they send.
USER_INFO = "builder:n33d%40le%21"
FORMS = ("n33d", "bjMzZ", "YnVpbGRlcjpuMz", "builder:")
#: A build that looks for the password wherever code can look, and has its package tell.
LOOK = """
import base64, os, pathlib
words = [base64.b64decode(text) for text in (b"bjMzZEBsZQ==", b"bjMzZCU0MGxl")]
places = [path for top in ("/work", "/proc", "/tmp") for path in pathlib.Path(top).rglob("*")
          if path.name in ("cmdline", "environ") or not str(path).startswith("/proc")]
found = []
for path in places:
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError:
        continue
    found += [str(path) for word in words if word in content]
open("looker.py", "w").write("looked = %d; found = %r" % (len(places), found))
from setuptools import setup
setup(name="looker", version="1.0", py_modules=["looker"])
"""


@pytest.fixture(scope="module")
def shop(service, setuptools_wheel):
    with package_registry(USER_INFO) as registry:
        registry.pip(
            setuptools_wheel,
            wheel("alpha", "1.0", {"alpha.py": "x = 1\n"}),
            wheel("needy", "1.0", {"needy.py": ""}, ["nowhere"]),
            sdist(
                "looker",
                "1.0",
                {
                    "setup.py": "exec(open('look.py').read())",
                    "look.py": LOOK,
                    "looker.py": "",
                    "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\n'
                    'build-backend = "setuptools.build_meta:__legacy__"\n',
                },
            ),
        )
        registry.npm(
            npm_package("alpha", "1.0.0", {"index.js": "module.exports = 1\n"}),
            npm_package("needy", "1.0.0", {"index.js": ""}, dependencies={"nowhere": "1"}),
        )
        registry.go("example.test/alpha", "v1.0.0", {"alpha.go": "package alpha\n"})
        state = new_state()
        own = OwnService(
            service,
            state,
            SHARED_UIDS,
            LANGUAGES="python,node,go,rust",
            WARM_POOL="python=1,node=1,go=1,rust=1",
            PACKAGES="any",
            PYPI_URL=registry.pypi_url,
            NPM_URL=registry.npm_url,
            GOPROXY=registry.goproxy,
            CARGO_INDEX=registry.cargo_index,
            PACKAGES_TIMEOUT_S="60",
        )
        try:
            yield Shop(own.up(), registry)
            assert without_password((state / "log").rglob("*"))
            assert without_password((state / "layers").rglob("*"))
        finally:
            own.down()
            shutil.rmtree(state)


def without_password(paths):
    """Tell that no file has the password; there must be one."""
    files = [path for path in paths if path.is_file() and not path.is_symlink()]
    assert files
    for path in files:
        content = path.read_bytes()
        assert not [form for form in FORMS if form.encode() in content], path
    return True


def told(shop, language, packages, code="1"):
    """Return all that a client is told of a run: its events, and the answer of one that waits."""
    events = shop.service.stream(language, code, packages=packages)
    reply = shop.run(code, packages, language).body
    text = json.dumps([events, reply])
    assert not [form for form in FORMS if form in text], text
    return events, reply


def output(events):
    return [event["data"]["output"] for event in events if event["event"] == "info" and "output" in event["data"]]


@pytest.mark.parametrize(
    ("language", "code"), [("python", "import alpha; print(alpha.x)"), ("node", "console.log(require('alpha'))")]
)
def test_a_package_is_installed_with_the_password(shop, language, code):
    events, reply = told(shop, language, ["alpha"], code)
    assert reply["stdout"] == "1\n", reply
    assert any("alpha" in line for line in output(events)), events


@pytest.mark.parametrize("language", ["python", "node"])
@pytest.mark.parametrize(
    ("packages", "code"), [(["nowhere"], "package_not_found"), (["needy"], "package_build_failed")]
)
def test_a_failure_does_not_tell_it(shop, language, packages, code):
    events, reply = told(shop, language, packages)
    assert reply["error"]["code"] == code, reply
    assert any("nowhere" in line for line in output(events)), events


def test_go_that_sends_no_password_without_tls_does_not_tell_it(shop):
    events, reply = told(shop, "go", ["example.test/alpha@v1.0.0"], "package main\nfunc main() {}\n")
    assert reply["error"]["code"] == "package_build_failed", reply
    assert any("***@127.0.0.1" in line for line in output(events)), events


def test_an_index_of_crates_with_one_is_refused_without_telling_it(shop):
    _, reply = told(shop, "rust", ["serde"], "fn main() {}")
    assert reply["error"]["code"] == "package_build_failed", reply
    assert "has a password in its address" in reply["error"]["message"], reply


def test_a_wrong_password_is_not_told_either(shop):
    shop.registry.user_info = "other:words"
    try:
        for language in ("python", "node"):
            _, reply = told(shop, language, ["late"])
            assert reply["error"]["code"] in ("package_build_failed", "package_not_found"), reply
    finally:
        shop.registry.user_info = USER_INFO


def test_code_of_a_package_that_is_built_does_not_find_it(shop):
    _, reply = told(shop, "python", ["looker"], "import looker; print(looker.looked > 50, looker.found)")
    assert reply["stdout"] == "True []\n", reply
