"""Go modules by `go get`, which executes nothing of a module: a module cache to be read, with go.mod and go.sum."""

import glob
import hashlib
import os
import re
import subprocess

from agent.packages.tool import lines_of, start, write

#: The directory in which gobuild (runners/go/gobuild) looks for them.
PLACE = "opt/packages/go"
PROJECT = "/work/project"
GO = "/usr/local/bin/go"
_MISSING = re.compile(
    r"^go: (\S+?)(?:/\.\.\.)?@\S+?: .*(?:404|410|not found|unknown revision|no matching versions|invalid version)",
    re.IGNORECASE,
)


def hosts(request):
    """Return the proxies: those that are given, or those that Go has built in, with its database of hashes."""
    given = request.get("index") or _default("GOPROXY")
    urls = [url for url in re.split(r"[,|]", given) if url.startswith(("http://", "https://"))]
    others = [re.sub(r"^https?://", "", url).partition("/")[0] for url in urls[1:]]
    if not request.get("index"):
        others.append(_default("GOSUMDB").partition("+")[0])
    return {"index": ",".join(urls), "hosts": others}


def install(request, layer):
    """Download the modules to the layer. Returns the exit status, the missing entry, and None."""
    env = _env(request, layer)
    write(f"{PROJECT}/go.mod", "module run\n\ngo 1.24\n")
    wanted = _locked(request) or request["packages"]
    missing = None
    # All packages of a module, so that those which they import are there too.
    tool = start([GO, "get", "--", *(_everything(entry) for entry in wanted)], PROJECT, env)
    for line in lines_of(tool):
        found = _MISSING.search(line.rstrip())
        if found is not None:
            missing = next((entry for entry in request["packages"] if entry.rpartition("@")[0] == found[1]), None)
    status = tool.wait()
    if status == 0:
        for name in ("go.mod", "go.sum"):
            if os.path.exists(f"{PROJECT}/{name}"):
                os.rename(f"{PROJECT}/{name}", f"{layer}/{PLACE}/{name}")
    return status, missing, None


def report(layer):
    """Return path, version and the hash of the file of each module; the files go, since they have been unpacked."""
    found = []
    downloads = f"{layer}/{PLACE}/mod/cache/download"
    for path in sorted(glob.glob(f"{downloads}/**/@v/*.zip", recursive=True)):
        module = path[len(downloads) + 1 :].partition("/@v/")[0]
        version = os.path.basename(path).removesuffix(".zip")
        with open(path, "rb") as file:
            found.append([_plain(module), _plain(version), hashlib.file_digest(file, "sha256").hexdigest()])
        os.unlink(path)
    return found


def _plain(escaped):
    """Return a path as it is written: the cache has `!a` for `A`."""
    return re.sub("!([a-z])", lambda match: match[1].upper(), escaped)


def _everything(entry):
    module, _, version = entry.rpartition("@")
    return f"{module}/...@{version}"


def _locked(request):
    """Return the entries with the versions that an earlier build has got."""
    versions = {name: version for name, version, _ in request.get("locked", ())}
    names = [entry.rpartition("@")[0] for entry in request["packages"]]
    return [f"{name}@{versions[name]}" for name in names] if versions.keys() >= set(names) else []


def _env(request, layer):
    return {
        **os.environ,
        "GOPROXY": request["index"],
        # The hashes of the modules of one's own proxy are in no public database.
        "GOSUMDB": "off" if request.get("own") else _default("GOSUMDB"),
        "GOFLAGS": "-mod=mod -modcacherw",
        "GOMODCACHE": f"{layer}/{PLACE}/mod",
        "GOPATH": "/work/tmp/go",
        "GOCACHE": "/work/tmp/go-build",
        "GOENV": "off",
        "GOTOOLCHAIN": "local",
        "GOTELEMETRY": "off",
        "CGO_ENABLED": "0",
    }


def _default(name):
    env = {"PATH": os.environ["PATH"], "HOME": "/work", "GOENV": "off"}
    return subprocess.run([GO, "env", name], capture_output=True, text=True, check=True, env=env).stdout.strip()
