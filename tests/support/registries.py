"""Registries that the tests start: indexes of Python packages, npm's and crates, each made of files in memory."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


def wheel(name, version, files, requires=()):
    """Return the name and the bytes of a wheel with these files, by path."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {one}\n" for one in requires)
    contents = {
        **{path: content.encode() if isinstance(content, str) else content for path, content in files.items()},
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{path},sha256={_url_hash(content)},{len(content)}" for path, content in contents.items()]
    contents[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, content in contents.items():
            archive.writestr(path, content)
    return f"{name}-{version}-py3-none-any.whl", made.getvalue()


def sdist(name, version, files):
    """Return the name and the bytes of a source package with these files, by path."""
    base = f"{name}-{version}"
    pkg_info = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    return f"{base}.tar.gz", _tar(
        {f"{base}/{path}": text for path, text in {"PKG-INFO": pkg_info, **files}.items()}
    )


def npm_package(name, version, files, **fields):
    """Return what `PackageRegistry.npm` takes: name, version, package.json and tarball."""
    manifest = {"name": name, "version": version, **fields}
    contents = {"package.json": json.dumps(manifest), **files}
    return name, version, manifest, _tar({f"package/{path}": text for path, text in contents.items()})


def crate(name, version, files, needs=(), manifest="", features=()):
    """Return what `PackageRegistry.cargo` takes: the line of the index and the archive.

    `needs` are the names of crates of any version, `features` its own, which need nothing; `manifest` is added to
    Cargo.toml.
    """
    about = f'[package]\nname = "{name}"\nversion = "{version}"\nedition = "2021"\n'
    about += "[features]\n" + "".join(f"{feature} = []\n" for feature in features)
    about += "[dependencies]\n" + "".join(f'{need} = "*"\n' for need in needs) + manifest
    base = f"{name}-{version}"
    archive = _tar({f"{base}/{path}": text for path, text in {"Cargo.toml": about, **files}.items()})
    needed = {"features": [], "optional": False, "default_features": True, "target": None, "kind": "normal"}
    deps = [{"name": need, "req": "*", **needed} for need in needs]
    row = {"name": name, "vers": version, "deps": deps, "features": {one: [] for one in features}, "yanked": False}
    return {**row, "cksum": hashlib.sha256(archive).hexdigest()}, archive


def _tar(files):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text.encode()), 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))
    return gzip.compress(made.getvalue(), mtime=0)


def _url_hash(content):
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


class PackageRegistry:
    """An HTTP server on this machine with the files that a test has given it; `asked` are the paths it was asked."""

    def __init__(self, port, user_info="", address="127.0.0.1"):
        """`user_info` is `user:password`, percent-encoded; without it the server answers everybody."""
        self.url = f"http://{address}:{port}"
        self.user_info = user_info
        self.asked = []
        self._answers = {}

    @property
    def pypi_url(self):
        return f"{self._address}/simple/"

    @property
    def npm_url(self):
        return f"{self._address}/npm/"

    @property
    def goproxy(self):
        return f"{self._address}/go"

    @property
    def cargo_index(self):
        return f"sparse+{self._address}/crates/"

    @property
    def _address(self):
        return self.url.replace("://", f"://{self.user_info}@") if self.user_info else self.url

    def permits(self, header):
        """Tell whether an Authorization header has the password."""
        wanted = base64.b64encode(unquote(self.user_info).encode()).decode()
        return not self.user_info or header == f"Basic {wanted}"

    def go(self, module, version, files):
        """Offer a Go module."""
        base = f"/go/{module}/@v"
        mod = f"module {module}\n\ngo 1.24\n"
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as archive:
            for path, text in {"go.mod": mod, **files}.items():
                archive.writestr(f"{module}@{version}/{path}", text)
        self._answers[f"{base}/list"] = "text/plain", f"{version}\n".encode()
        self._offer_json(f"{base}/{version}.info", {"Version": version, "Time": "2024-01-01T00:00:00Z"})
        self._answers[f"{base}/{version}.mod"] = "text/plain", mod.encode()
        self._answers[f"{base}/{version}.zip"] = "application/zip", made.getvalue()

    def cargo(self, *crates):
        """Offer crates, as `crate` makes them. The downloads have another host name than the index, as is usual."""
        port = self.url.rpartition(":")[2]
        self._offer_json("/crates/config.json", {"dl": f"http://localhost:{port}/crate-files"})
        for name in {row["name"] for row, _ in crates}:
            found = [(row, archive) for row, archive in crates if row["name"] == name]
            folder = (
                f"{len(name)}" if len(name) < 3 else f"3/{name[0]}" if len(name) == 3 else f"{name[:2]}/{name[2:4]}"
            )
            lines = "".join(f"{json.dumps(row)}\n" for row, _ in found)
            self._answers[f"/crates/{folder}/{name}"] = "text/plain", lines.encode()
            for row, archive in found:
                path = f"/crate-files/{name}/{row['vers']}/download"
                self._answers[path] = "application/octet-stream", archive

    def _offer_json(self, path, data):
        self._answers[path] = "application/json", json.dumps(data).encode()

    def pip(self, *files):
        """Offer Python packages, each a file's name and bytes."""
        by_name = {}
        for file_name, content in files:
            name = file_name.partition("-")[0].replace("_", "-").lower()
            by_name.setdefault(name, []).append((file_name, content))
        for name, found in by_name.items():
            page = "".join(self._anchor(file_name, content) for file_name, content in found)
            self._answers[f"/simple/{name}/"] = "text/html", f"<!doctype html><html><body>{page}".encode()

    def _anchor(self, file_name, content):
        self._answers[f"/files/{file_name}"] = "application/octet-stream", content
        return f'<a href="/files/{file_name}#sha256={hashlib.sha256(content).hexdigest()}">{file_name}</a>\n'

    def npm(self, *packages):
        """Offer npm packages, as `npm_package` makes them."""
        for name in {package[0] for package in packages}:
            versions = {}
            for _, version, manifest, tarball in (package for package in packages if package[0] == name):
                path = f"/npm/{name}/-/{name}-{version}.tgz"
                self._answers[path] = "application/octet-stream", tarball
                digest = base64.b64encode(hashlib.sha512(tarball).digest()).decode()
                dist = {"tarball": self.url + path, "integrity": f"sha512-{digest}"}
                versions[version] = {**manifest, "dist": dist}
            document = {"name": name, "dist-tags": {"latest": max(versions)}, "versions": versions}
            self._offer_json(f"/npm/{name}", document)

    def answer(self, path):
        """Return the type and content for a path; None if there is nothing."""
        self.asked.append(path)
        return self._answers.get(path)


@contextmanager
def package_registry(user_info="", address="127.0.0.1"):
    """Serve a registry while the context lasts; `user_info` is `user:password`, if it wants one."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            if not registry.permits(self.headers.get("Authorization")):
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="packages"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            found = registry.answer(self.path)
            kind, content = found or ("text/plain", b"not here")
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer((address, 0), Handler) as server:
        registry = PackageRegistry(server.server_port, user_info, address)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield registry
        server.shutdown()
