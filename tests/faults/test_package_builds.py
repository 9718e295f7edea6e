"""Packages of runs and sessions, from registries that the tests start: honest ones, broken ones, hostile ones."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.faults.conftest import SHARED_UIDS
from tests.support.own_service import OwnService, new_state
from tests.support.package_shop import Shop
from tests.support.registries import npm_package, package_registry, sdist, wheel

#: The first run of a language waits for its template.
pytestmark = pytest.mark.timeout(180)

#: What a source package's build is told to do: the text is its setup.py.
SETUP = """
from setuptools import setup
{act}
setup(name={name!r}, version="1.0", py_modules=[{module!r}])
"""

#: Scripts of an npm package, each of which would leave a file; npm adds one of its own for a binding.gyp.
HOOKS = {
    name: f"touch /work/layer/{name}; touch {name}"
    for name in ("preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare", "postprepare")
}
RAN = """
const fs = require('fs')
const left = [...fs.readdirSync(__dirname), ...fs.readdirSync('/opt/packages')]
module.exports = left.filter((name) => !['index.js', 'package.json', 'binding.gyp', 'node_modules'].includes(name))
"""
NEEDS = {"hooked": "1", "left": "^1.0.0"}


def source(name, act, module=None):
    """Return a source package that does something while it is built, and has a module with its findings."""
    module = module or name.replace("-", "_")
    return sdist(
        name,
        "1.0",
        {
            "setup.py": SETUP.format(act=act, name=name, module=module),
            f"{module}.py": "found = None\n",
            "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n',
        },
    )


@pytest.fixture(scope="module")
def shop(service, setuptools_wheel):
    with package_registry() as registry:
        registry.pip(
            setuptools_wheel,
            wheel("Alpha_Tool", "1.0", {"alpha_tool.py": "version = '1.0'\n"}),
            wheel("Alpha_Tool", "2.0", {"alpha_tool.py": "import beta\nversion = '2.0'\n"}, ["beta>=1"]),
            wheel("beta", "1.5", {"beta/__init__.py": "name = 'beta'\n"}),
            wheel("gamma", "1.0", {"gamma.py": ""}, ["beta<1"]),
            wheel("pathed", "1.0", {"pathed.pth": "import sys; sys.marked = __import__('os').getpid()\n"}),
            wheel("numpy", "0.0.1", {"numpy.py": "mine = True\n"}),
            wheel("climber", "1.0", {"../../../../etc/climbed": "x"}),
            wheel("linked", "1.0", {"linked.py": ""}, ["evil @ http://127.0.0.1:1/evil-1.0.tar.gz"]),
        )
        registry.npm(
            npm_package("left", "1.0.0", {"index.js": "module.exports = (a) => a + '!'\n"}),
            npm_package("left", "2.0.0", {"index.js": "module.exports = (a) => a + '?'\n"}),
            npm_package("hooked", "1.0.0", {"index.js": RAN, "binding.gyp": "{}"}, scripts=HOOKS),
            npm_package("user", "1.0.0", {"index.js": "module.exports = require('hooked')\n"}, dependencies=NEEDS),
        )
        state = new_state()
        own = OwnService(
            service,
            state,
            SHARED_UIDS,
            LANGUAGES="python,node,bash",
            WARM_POOL="python=1,node=1,bash=1",
            PACKAGES="any",
            PYPI_URL=registry.pypi_url,
            NPM_URL=registry.npm_url,
            PACKAGES_TIMEOUT_S="60",
        )
        try:
            yield Shop(own.up(), registry)
        finally:
            own.down()
            shutil.rmtree(state)


# -- python ----------------------------------------------------------------------------------------


def test_a_package_and_what_it_needs_are_there(shop):
    run = shop.ran("import alpha_tool, beta\nprint(alpha_tool.version, beta.__file__)", ["alpha-tool"])
    assert run["stdout"] == "2.0 /opt/packages/python/beta/__init__.py\n", run
    assert run["isolation"]["network"] == "none"
    layer = shop.service.get(f"/v1/layers/{run['layer']}").body
    assert [(one["name"], one["version"]) for one in layer["packages"]] == [("Alpha_Tool", "2.0"), ("beta", "1.5")]
    assert layer["size"] > 0
    assert shop.service.get(f"/v1/layers/{run['layer']}", token=shop.service.other_token).status == 404


def test_a_layer_is_made_once_and_is_then_there_for_every_key(shop):
    first = shop.ran("import alpha_tool\nprint(alpha_tool.version)", ["Alpha.Tool==1.0"])
    assert first["stdout"] == "1.0\n", first
    downloads = len(shop.downloads("Alpha_Tool-1.0"))
    again = shop.ran("import alpha_tool\nprint(alpha_tool.version)", ["alpha-tool==1.0"])
    other = shop.ran("print(1)", ["alpha-tool==1.0"], token=shop.service.other_token)
    assert {first["layer"], again["layer"], other["layer"]} == {first["layer"]}
    assert len(shop.downloads("Alpha_Tool-1.0")) == downloads
    assert shop.service.get(f"/v1/layers/{first['layer']}", token=shop.service.other_token).status == 200


def test_simultaneous_requests_make_a_layer_once(shop):
    shop.registry.pip(wheel("crowd", "1.0", {"crowd.py": ""}))
    with ThreadPoolExecutor(6) as pool:
        runs = [pool.submit(shop.run, "import crowd; print(1)", ["crowd"]) for _ in range(6)]
        bodies = [one.result().body for one in runs]
    assert [body["stdout"] for body in bodies] == ["1\n"] * 6
    assert len({body["layer"] for body in bodies}) == 1
    assert len(shop.downloads("crowd-1.0")) == 1


def test_a_stream_shows_what_the_tool_says(shop):
    shop.registry.pip(wheel("streamed", "1.0", {"streamed.py": ""}))
    events = shop.service.stream("python", "print('done')", packages=["streamed"])
    said = [event["data"]["output"] for event in events if event["event"] == "info" and "output" in event["data"]]
    assert any("streamed" in line for line in said), events
    assert [event["data"] for event in events if event["event"] == "stdout"] == ["done\n"], events


def test_packages_are_for_the_program_and_its_processes_but_not_for_the_agent(shop):
    code = """
import os, subprocess, sys
print(sys.marked == os.getpid(), sys.path[1])
print(subprocess.run([sys.executable, "-c", "import sys; print(sys.path[1])"], capture_output=True, text=True).stdout)
try:
    open("/opt/packages/python/new", "w")
except OSError as e:
    print(e.strerror)
"""
    run = shop.ran(code, ["pathed"])
    assert run["stdout"].split("\n") == [
        "True /opt/packages/python", "/opt/packages/python", "", "Read-only file system", ""
    ], run  # fmt: skip


def test_a_package_goes_before_the_images_of_that_name(shop):
    run = shop.ran("import numpy\nprint(numpy.mine)", ["numpy==0.0.1"])
    assert run["stdout"] == "True\n", run
    assert shop.service.run("python", "import numpy\nprint(hasattr(numpy, 'mine'))")["stdout"] == "False\n"


def test_an_interpreter_of_its_own_has_them_too(shop):
    run = shop.ran("import beta\nprint(beta.name)", ["beta"], env={"PYTHONHASHSEED": "1"})
    assert run["stdout"] == "beta\n", run
    run = shop.ran("import beta\nprint(beta.name)", ["beta"], isolation="container")
    assert run["stdout"] == "beta\n", run


# -- sessions --------------------------------------------------------------------------------------


def test_a_session_has_its_packages(shop):
    created = shop.service.post("/v1/sessions", json={"language": "python", "packages": ["beta"]}, timeout=120)
    assert created.status == 201, created.body
    session = created.body
    assert session["layer"].startswith("lay_")
    run = shop.service.post(f"/v1/sessions/{session['id']}/runs", json={"code": "import beta; beta.name"}).body
    assert run["results"][0]["text/plain"] == "'beta'" if "text/plain" in run["results"][0] else run, run
    shop.service.request("DELETE", f"/v1/sessions/{session['id']}")


# -- functions -------------------------------------------------------------------------------------


def test_a_function_has_its_packages(shop):
    code = "import beta\ndef run(input):\n    return [beta.name, input]"
    body = {"language": "python", "code": code, "packages": ["beta"]}
    deploy = partial(
        shop.service.request, "PUT", "/v1/functions/packed", headers={"Content-Type": "application/json"}
    )
    deployed = deploy(json.dumps(body).encode(), timeout=120)
    assert deployed.status == 201, deployed.body
    assert (deployed.body["state"], deployed.body["packages"]) == ("ready", ["beta"]), deployed.body
    assert deployed.body["layer"].startswith("lay_")
    run = shop.service.post("/v1/functions/packed/runs", json={"input": 5}).body
    assert (run["output"], run["layer"]) == (["beta", 5], deployed.body["layer"]), run
    refused = deploy(json.dumps(body | {"packages": ["no-such-thing"]}).encode())
    assert (refused.status, refused.body["error"]["code"]) == (400, "package_not_found"), refused.body
    assert shop.service.get("/v1/functions/packed").body["version"] == 1


# -- node ------------------------------------------------------------------------------------------


def test_an_npm_package_is_there(shop):
    code = "import left from 'left'; import {createRequire} from 'module';"
    run = shop.ran(f"{code} console.log(left('b'))", ["left"], "node")
    assert run["stdout"] == "b?\n", run
    layer = shop.service.get(f"/v1/layers/{run['layer']}").body
    assert [(one["name"], one["version"]) for one in layer["packages"]] == [("left", "2.0.0")]
    run = shop.ran("console.log(require('left')('c'))", ["left@1.0.0"], "node")
    assert run["stdout"] == "c!\n", run


@pytest.mark.parametrize("package", ["hooked", "user"])
def test_scripts_of_npm_packages_do_not_run_and_are_named(shop, package):
    """Neither those of a package that is asked for, nor those of one that it needs."""
    code = f"console.log(JSON.stringify(require('{package}')))"
    events = shop.service.stream("node", code, packages=[package])
    said = [event["data"]["output"] for event in events if event["event"] == "info" and "output" in event["data"]]
    assert "installation scripts are not run: hooked" in said, events
    run = shop.ran(code, [package], "node")
    assert run["stdout"] == "[]\n", run
    other = shop.ran(code, [package], "node", token=shop.service.other_token)
    assert other["layer"] == run["layer"], "nothing was executed, so the layer serves every key"


# -- what cannot be had ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "packages", "index"),
    [
        ("python", ["beta", "no-such-thing"], 1),
        ("python", ["zeta", "beta"], 0),
        ("python", ["beta==9"], 0),
        ("node", ["left", "no-such-thing"], 1),
        ("node", ["left@9.9.9"], 0),
    ],
)
def test_a_package_that_is_not_in_the_registry_is_named(shop, language, packages, index):
    error = shop.refused(packages, language=language)
    assert (error["code"], error["param"]) == ("package_not_found", f"packages.{index}"), error


def test_a_conflict_is_told_in_the_words_of_the_tool(shop):
    error = shop.refused(["gamma", "alpha-tool==2.0"])
    assert error["code"] == "package_build_failed", error
    assert "gamma" in error["message"], error


def test_another_file_for_a_known_version_is_refused(shop):
    shop.registry.pip(wheel("steady", "1.0", {"steady.py": "a = 1\n"}))
    layer = shop.ran("import steady", ["steady==1.0"])["layer"]
    shutil.rmtree(shop.service.state / "layers/store" / layer)
    shop.registry.pip(wheel("steady", "1.0", {"steady.py": "a = 2\n"}))
    error = shop.refused(["steady==1.0"])
    assert error["code"] == "package_build_failed", error
    assert "another file" in error["message"], error


# -- source packages, and hostile ones ---------------------------------------------------------------


def test_a_source_package_is_built_for_its_own_key(shop):
    shop.registry.pip(source("plain_source", ""))
    run = shop.ran("import plain_source\nprint(plain_source.found)", ["plain-source"])
    assert run["stdout"] == "None\n", run
    other = shop.ran("import plain_source", ["plain-source"], token=shop.service.other_token)
    assert other["layer"] != run["layer"], "what has executed code serves the key that had it executed"


LOOK = """
import json, os, socket, urllib.request
found = {{}}
def attempt(name, act):
    try:
        found[name] = str(act())[:200]
    except Exception as e:
        found[name] = type(e).__name__
attempt("registry", lambda: urllib.request.urlopen({url!r}, timeout=5).status)
attempt("proxy", lambda: urllib.request.build_opener(
    urllib.request.ProxyHandler({{"http": "http://127.0.0.1:3128"}})).open({url!r}, timeout=5).status)
attempt("shadow", lambda: open("/etc/shadow").read())
attempt("root", lambda: open("/proc/1/environ").read())
attempt("secrets", lambda: [name for name in os.environ if "TOKEN" in name or "KEY" in name])
attempt("device", lambda: os.mknod("device", 0o20666, os.makedev(1, 3)))
open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "looker.py"), "w").write(
    "found = " + repr(json.dumps(found)))
"""


def test_a_build_reaches_nothing(shop):
    shop.registry.pip(source("looker", LOOK.format(url=shop.registry.pypi_url)))
    run = shop.ran("import looker\nprint(looker.found)", ["looker"])
    found = json.loads(run["stdout"])
    assert found["device"] in ("OSError", "PermissionError")
    assert found == {
        "registry": "URLError", "proxy": "HTTPError", "shadow": "PermissionError", "root": "PermissionError",
        "secrets": "[]", "device": found["device"],
    }, found  # fmt: skip


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("forker", "import os\nwhile True: os.fork()"),
        ("filler", "open('f', 'wb').truncate(0); f = open('f', 'ab')\nwhile True: f.write(bytes(1 << 20))"),
        ("killer", "import os, signal; os.kill(-1, signal.SIGKILL)"),
        ("quitter", "import os; os._exit(0)"),
        ("screamer", "while True: print('x' * 1000)"),
    ],
)
def test_a_hostile_build_fails_alone(shop, name, act):
    shop.registry.pip(source(name, f"if True:\n    {act.replace(chr(10), chr(10) + '    ')}"))
    error = shop.refused([name])
    assert error["code"] == "package_build_failed", error
    assert shop.service.run("bash", "echo alive")["stdout"] == "alive\n"


def test_a_wheel_with_names_that_climb_is_refused(shop):
    assert shop.refused(["climber"])["code"] == "package_build_failed"


def test_a_wheel_cannot_have_a_source_package_executed_by_its_url(shop):
    assert shop.refused(["linked"])["code"] == "package_build_failed"


def test_what_a_hostile_wheel_holds_is_written_as_a_packages_file_alone(shop):
    many = {f"many/{n}.py": "" for n in range(20_000)}
    shop.registry.pip(wheel("many", "1.0", many))
    run = shop.ran("import os; print(len(os.listdir('/opt/packages/python/many')) >= 20_000)", ["many"])
    assert run["stdout"] == "True\n", run


def test_nothing_is_left_of_builders(shop):
    left = [path.name for path in (shop.service.state / "layers/store").iterdir() if path.name.startswith("unfin")]
    assert left == []
    assert threading.active_count() < 100
