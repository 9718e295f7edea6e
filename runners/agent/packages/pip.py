"""Python packages by pip: wheels only, so that nothing of a package is executed while there is a network."""

import json
import re
import sys
from urllib.parse import urlsplit

from agent.packages.tool import lines_of, start

#: Where the interpreter finds the packages (runners/python/warm/sitecustomize.py).
PLACE = "opt/packages/python"
REPORT = "/work/report.json"
_MISSING = re.compile(r"(?:No matching distribution found for|satisfies the requirement) ([^\s;]+)")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def hosts(request):
    """Return the hosts of the registry: those of the given index, or those that pip has built in."""
    if request.get("index"):
        return {"index": request["index"], "hosts": []}
    from pip._internal.models.index import PyPI

    return {"index": PyPI.simple_url, "hosts": [PyPI.file_storage_domain]}


def install(request, layer):
    """Install the packages in the layer. Returns the exit status, and the entry that is not in the registry."""
    argv = [sys.executable, "-I", "-m", "pip", "--isolated", "--disable-pip-version-check", "install"]
    argv += ["--no-input", "--no-cache-dir", "--only-binary=:all:", "--no-compile", "--progress-bar=off"]
    argv += ["--no-warn-script-location", "--root-user-action=ignore", "--retries=2", "--timeout=30"]
    argv += [f"--target={layer}/{PLACE}", f"--report={REPORT}", f"--index-url={request['index']}"]
    url = urlsplit(request["index"])
    if url.scheme == "http":  # the operator has chosen it
        argv.append(f"--trusted-host={url.netloc.rpartition('@')[2]}")
    if request.get("certificates"):
        argv.append("--cert=/work/certificates.pem")
    if request.get("locked"):
        with open("/work/locked.txt", "w") as file:
            file.writelines(
                f"{name}=={version} --hash=sha256:{sha256}\n" for name, version, sha256 in request["locked"]
            )
        argv += ["--require-hashes", "--no-deps", "-r", "/work/locked.txt"]
    else:
        argv += ["--", *request["packages"]]
    done = start(argv)
    missing = None
    for line in lines_of(done):
        found = _MISSING.search(line)
        if found is not None:
            missing = _entry(found[1], request["packages"])
    return done.wait(), missing


def _entry(wanted, entries):
    """Return the entry of the request that has the name in pip's message; None if it is a dependency's."""
    name = _normal(wanted)
    return next((entry for entry in entries if _normal(entry) == name), None)


def _normal(text):
    found = _NAME.match(text)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def report(_layer):
    """Return name, version and hash of each installed package, as pip resolved it."""
    with open(REPORT) as file:
        found = json.load(file)
    return sorted(
        [
            entry["metadata"]["name"],
            entry["metadata"]["version"],
            entry["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256", ""),
        ]
        for entry in found["install"]
    )
