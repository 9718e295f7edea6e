"""Python packages by pip. Nothing of a package is executed while there is a network: wheels are installed as they
are, and what has none is built from its source without one (`sources.py`).
"""

import json
import os
import re
import subprocess
import sys
from urllib.parse import urlsplit

from agent.packages import sources
from agent.packages.tool import lines_of, start

#: The directory in which the interpreter looks for them (runners/python/warm/runyard_packages.py).
PLACE = "opt/packages/python"
REPORT = "/work/report.json"
#: Wheels that were built from source, by an earlier builder of this build.
WHEELS = "/work/wheels"
WHEELS_ONLY = "/opt/runyard/agent/packages/wheels_only.py"
_MISSING = re.compile(r"No matching distribution found for (\S.*?)(?: \(from .*)?$")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def hosts(request):
    """Return the hosts of the registry: those of the given index, or those that pip has built in."""
    if request.get("index"):
        return {"index": request["index"], "hosts": []}
    from pip._internal.models.index import PyPI

    return {"index": PyPI.simple_url, "hosts": [PyPI.file_storage_domain]}


def install(request, layer):
    """Install the packages in the layer. Returns the exit status, the entry that is not in the registry, and the
    requirement that it has as source alone.
    """
    argv = [*_argv(request, "install"), "--only-binary=:all:", "--no-compile", "--no-warn-script-location"]
    argv += [f"--target={layer}/{PLACE}", f"--report={REPORT}", f"--find-links={WHEELS}"]
    if request.get("locked"):
        with open("/work/locked.txt", "w") as file:
            file.writelines(f"{name}=={version}\n" for name, version, _ in request["locked"])
        argv.append("--constraint=/work/locked.txt")
    os.makedirs(WHEELS, exist_ok=True)
    tool = start([*argv, "--", *request["packages"]])
    wanted = None
    for line in lines_of(tool):
        found = _MISSING.search(line.rstrip())
        if found is not None:
            wanted = found[1]
    status = tool.wait()
    if status == 0:
        _compile(f"{layer}/{PLACE}")
    if status == 0 or wanted is None:
        return status, None, None
    if sources.find(request["index"], wanted) is not None:
        return status, None, wanted
    return status, _entry(wanted, request["packages"]), None


def fetch(request, requirement):
    """Download a source package, and what its build needs."""
    return sources.fetch(request["index"], requirement, lambda command: _argv(request, command))


def build(_layer):
    """Build the source packages that were downloaded. Returns the exit status."""
    return sources.build()


def _compile(place):
    """Compile the modules, which executes none; a run would do so at each import, since it cannot write there.

    By their hashes: the files will have other times.
    """
    argv = [sys.executable, "-I", "-W", "ignore", "-m", "compileall", "-qq", "-j2"]
    subprocess.run([*argv, "--invalidation-mode=unchecked-hash", f"-s{place}", "-p/" + PLACE, place], check=False)


def _argv(request, command):
    argv = [sys.executable, "-I", WHEELS_ONLY, "--isolated", "--disable-pip-version-check", command]
    argv += ["--no-input", "--no-cache-dir", "--progress-bar=off", "--retries=2"]
    argv += ["--timeout=30", f"--index-url={request['index']}"]
    url = urlsplit(request["index"])
    if url.scheme == "http":  # the operator has chosen it
        argv.append(f"--trusted-host={url.netloc.rpartition('@')[2]}")
    if request.get("certificates"):
        argv.append("--cert=/work/certificates.pem")
    return argv


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
