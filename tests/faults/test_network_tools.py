"""Programs that people use, through the proxy of a sandbox: each runtime's own client, libraries and package managers.

Those that no image has run on this machine, by a proxy that passes bytes as the agent does.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import json
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.faults.conftest import SERVICE_UIDS
from tests.support.network_world import HOST, run_by_proxy, start_world

FILES = "files.example.test"
GREETING = "hello from 443\n"
FETCH = f"const answer = await fetch('https://{HOST}/hello');\n"
GO = f"""
package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
)

func main() {{
	pem, _ := os.ReadFile("ca.pem")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	http.DefaultTransport.(*http.Transport).TLSClientConfig = &tls.Config{{RootCAs: roots}}
	answer, err := http.Get("https://{HOST}/hello")
	if err != nil {{
		panic(err)
	}}
	io.Copy(os.Stdout, answer.Body)
}}
"""
RUBY = f"""
require "net/http"
Net::HTTP.start("{HOST}", 443, use_ssl: true, ca_file: "ca.pem") {{ |http| print http.get("/hello").body }}
"""
#: By language: a program that fetches the greeting, and the variables by which its runtime knows the certificate.
CLIENTS = {
    "node": (f"(async () => {{ {FETCH} process.stdout.write(await answer.text()) }})()", "NODE_EXTRA_CA_CERTS"),
    "deno": (f"{FETCH} await Deno.stdout.write(new Uint8Array(await answer.arrayBuffer()))", "DENO_CERT"),
    "bun": (f"{FETCH} process.stdout.write(await answer.text())", "NODE_EXTRA_CA_CERTS"),
    "go": (GO, None),
    "ruby": (RUBY, None),
}


@pytest.fixture(scope="module")
def world(service, tmp_path_factory):
    yield from start_world(
        service,
        SERVICE_UIDS,
        tmp_path_factory.mktemp("tools"),
        LANGUAGES=",".join(("python", *CLIENTS)),
        WARM_POOL="python=1",
    )


@pytest.mark.parametrize("language", CLIENTS)
def test_the_client_of_each_runtime_finds_the_proxy(world, language):
    code, certificate = CLIENTS[language]
    env = {} if certificate is None else {certificate: "/work/ca.pem"}
    ended = world.run(code, language=language, env=env, limits={"timeout_ms": 30_000})
    assert (ended["stdout"], ended["exit_code"]) == (GREETING, 0), ended


def test_httpx_finds_the_proxy(world):
    """The image does not have it: it comes with the run, as a file."""
    code = (
        "import sys\nsys.path.insert(0, 'libraries.zip')\nimport httpx\n"
        f"import ssl\nprint(httpx.get('https://{HOST}/hello', verify=ssl.create_default_context(cafile='ca.pem')).text)\n"
    )
    zipped = _zipped("httpx", "httpcore", "h11", "anyio", "idna", "certifi", "typing_extensions")
    files = [
        {"path": "ca.pem", "content": world.certificate},
        {"path": "libraries.zip", "content": base64.b64encode(zipped).decode(), "encoding": "base64"},
    ]
    ended = world.service.run("python", code, network={"allow": [HOST]}, files=files, limits={"timeout_ms": 30_000})
    assert ended["stdout"].startswith(GREETING), ended["stderr"]


def test_npm_installs_through_it(world):
    _npm_registry(world.root / "npm")
    code = (
        "const { execFileSync } = require('child_process');\n"
        "execFileSync('npm', ['install', '--cache', '/tmp/npm', '--no-audit', '--no-fund',\n"
        f"  '--registry', 'https://{FILES}/files/npm', 'runyard-sample@1.0.0'], {{ stdio: 'inherit' }});\n"
        "console.log(require('runyard-sample'));\n"
    )
    env = {"NODE_EXTRA_CA_CERTS": "/work/ca.pem"}
    ended = world.run(code, language="node", env=env, limits={"timeout_ms": 60_000, "memory_mb": 512})
    assert ended["stdout"].endswith("installed by npm\n"), ended


def test_go_gets_modules_through_it(world):
    _go_proxy(world.root / "go", "example.test/sample")
    body = {"language": "go", "network": {"allow": [FILES]}, "limits": {"memory_mb": 1024}}
    path = f"/v1/sessions/{world.service.post('/v1/sessions', json=body).body['id']}"
    line = (
        "export HOME=/tmp GOCACHE=/tmp/cache GOFLAGS=-mod=mod GOSUMDB=off GOTOOLCHAIN=local "
        f"GOPROXY=http://{FILES}/files/go; go mod init example.test/own && go get example.test/sample@v1.0.0"
    )
    got = world.service.post(f"{path}/processes", json={"command": line, "wait": True, "timeout_ms": 60_000}).body
    assert (got["exit_code"], "added example.test/sample v1.0.0" in got["stderr"]) == (0, True), got
    world.service.request("DELETE", path)


@pytest.mark.skipif(subprocess.call(["which", "cargo"], stdout=subprocess.DEVNULL) != 0, reason="needs cargo here")
def test_cargo_fetches_through_it(world, tmp_path):
    _cargo_registry(world.root / "crates", f"https://{FILES}/files/crates")
    home, project = tmp_path / "home", tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "src/main.rs").write_text("fn main() {}\n")
    (project / "Cargo.toml").write_text(
        '[package]\nname = "own"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nrunyard-sample = "1.0.0"\n'
    )
    home.mkdir()
    (home / "config.toml").write_text(
        f'[source.crates-io]\nreplace-with = "tests"\n[source.tests]\nregistry = "sparse+https://{FILES}/files/crates/"\n'
    )
    (tmp_path / "ca.pem").write_text(world.certificate)
    env = {"CARGO_HOME": str(home), "CARGO_HTTP_CAINFO": str(tmp_path / "ca.pem")}
    done = run_by_proxy(world, ["cargo", "fetch"], project, env, allow=[FILES])
    assert "Downloaded runyard-sample v1.0.0" in done.stderr, done


# -- what the servers have ----------------------------------------


def _zipped(*modules: str) -> bytes:
    """Return these modules of this environment as a file from which they can be imported."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name in modules:
            found = importlib.util.find_spec(name)
            assert found is not None, name
            origin = Path(found.origin or "")
            folder = origin.parent if origin.name == "__init__.py" else None
            for path in [origin] if folder is None else sorted(folder.rglob("*.p*y*")):
                if path.suffix in (".py", ".pem"):
                    file.write(path, path.name if folder is None else path.relative_to(folder.parent))
    return out.getvalue()


def _tarred(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


def _npm_registry(folder: Path) -> None:
    """Make a registry of one package, as files: the package's document, and its archive."""
    folder.mkdir()
    about = {"name": "runyard-sample", "version": "1.0.0", "main": "index.js"}
    archive = _tarred(
        {"package/package.json": json.dumps(about), "package/index.js": 'module.exports = "installed by npm"\n'}
    )
    (folder / "sample.tgz").write_bytes(archive)
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
    dist = {"tarball": f"https://{FILES}/files/npm/sample.tgz", "integrity": integrity}
    document = {
        "name": "runyard-sample",
        "dist-tags": {"latest": "1.0.0"},
        "versions": {"1.0.0": {**about, "dist": dist}},
    }
    (folder / "runyard-sample").write_text(json.dumps(document))


def _go_proxy(folder: Path, module: str) -> None:
    """Make a module proxy of one module, as files."""
    versions = folder / module / "@v"
    versions.mkdir(parents=True)
    text = f"module {module}\n\ngo 1.20\n"
    (versions / "list").write_text("v1.0.0\n")
    (versions / "v1.0.0.info").write_text('{"Version":"v1.0.0","Time":"2026-01-01T00:00:00Z"}')
    (versions / "v1.0.0.mod").write_text(text)
    with zipfile.ZipFile(versions / "v1.0.0.zip", "w") as file:
        file.writestr(f"{module}@v1.0.0/go.mod", text)
        file.writestr(f"{module}@v1.0.0/sample.go", "package sample\n")


def _cargo_registry(folder: Path, url: str) -> None:
    """Make a sparse registry of one crate, as files."""
    about = '[package]\nname = "runyard-sample"\nversion = "1.0.0"\nedition = "2021"\n'
    crate = _tarred({"runyard-sample-1.0.0/Cargo.toml": about, "runyard-sample-1.0.0/src/lib.rs": ""})
    index = folder / "ru/ny"
    index.mkdir(parents=True)
    archive = folder / "runyard-sample/1.0.0/download"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(crate)
    (folder / "config.json").write_text(json.dumps({"dl": url}))
    row = {"name": "runyard-sample", "vers": "1.0.0", "deps": [], "features": {}, "yanked": False}
    (index / "runyard-sample").write_text(json.dumps({**row, "cksum": hashlib.sha256(crate).hexdigest()}) + "\n")
