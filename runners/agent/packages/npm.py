"""npm packages by npm, without their scripts: nothing of a package is executed."""

import base64
import hashlib
import json
import os
import re
import subprocess

from agent.packages.tool import lines_of, start

#: A program finds the packages by the link /node_modules, as every program finds those of a directory above it.
PLACE = "opt/packages/node_modules"
LINK = "node_modules"
PROJECT = "/work/project"
CACHE = "/work/tmp/npm"
#: The files that npm has downloaded, each named by its hash.
CONTENT = f"{CACHE}/_cacache/content-v2"
_MISSING = re.compile(r"'?((?:@[^/@\s]+/)?[^@/\s']+)@([^\s']*)'? (?:is not in this registry|could not be found)")
_NO_VERSION = re.compile(r"No matching version found for ((?:@[^/@\s]+/)?[^@/\s]+)@(\S+?)\.?$")


def hosts(request):
    """Return the hosts of the registry: those of the given one, or that which npm has built in."""
    if request.get("index"):
        return {"index": request["index"], "hosts": []}
    found = subprocess.run(
        ["npm", "config", "get", "registry"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": "/work"},
        cwd="/work",
    )
    return {"index": found.stdout.strip(), "hosts": []}


def install(request, layer):
    """Install the packages in the layer. Returns the exit status, the entry that is not in the registry, and None:
    no package is built.
    """
    os.makedirs(PROJECT, exist_ok=True)
    with open(f"{PROJECT}/package.json", "w") as file:
        json.dump({"name": "run", "version": "1.0.0", "private": True}, file)
    argv = [
        "npm",
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
        "--loglevel=http",
    ]
    argv += [f"--cache={CACHE}", f"--registry={request['index']}", "--no-progress", "--fetch-retries=2"]
    argv += ["--global=false", "--userconfig=/work/tmp/npmrc", "--globalconfig=/work/tmp/npmrc-global"]
    if request.get("locked"):
        argv += [f"{name}@{version}" for name, version, _ in request["locked"] if (name in _names(request))]
    else:
        argv += request["packages"]
    done = start(argv, PROJECT)
    missing = None
    for line in lines_of(done):
        found = _MISSING.search(line) or _NO_VERSION.search(line)
        if found is not None:
            missing = _entry(found[1], request["packages"])
    status = done.wait()
    if status == 0:
        os.makedirs(f"{layer}/opt/packages", exist_ok=True)
        os.makedirs(f"{PROJECT}/node_modules", exist_ok=True)
        os.rename(f"{PROJECT}/node_modules", f"{layer}/{PLACE}")
        os.symlink(PLACE, f"{layer}/{LINK}")
        # Deno takes the packages of a directory above a program only where a package.json lies beside them.
        os.rename(f"{PROJECT}/package.json", f"{layer}/opt/packages/package.json")
        os.symlink("opt/packages/package.json", f"{layer}/package.json")
    return status, missing, None


def _names(request):
    return {_name(entry) for entry in request["packages"]}


def _name(entry):
    at = entry.find("@", 1)
    return entry if at < 0 else entry[:at]


def _entry(name, entries):
    """Return the entry of the request with that name; None if it is a dependency's."""
    return next((entry for entry in entries if _name(entry) == name), None)


def report(_layer):
    """Return name, version and hash of each installed package, as npm's lock file has them."""
    with open(f"{PROJECT}/package-lock.json") as file:
        found = json.load(file)
    return sorted(
        [entry.get("name") or path.rpartition("node_modules/")[2], entry["version"], _sha256(entry["integrity"])]
        for path, entry in found["packages"].items()
        if path and "integrity" in entry and os.path.isdir(f"/work/layer/opt/packages/{path}")
    )


def _sha256(integrity):
    """Return the SHA-256 of a downloaded file whose hash in the registry (SHA-512, mostly) npm has checked."""
    algorithm, _, value = integrity.split()[0].partition("-")
    name = base64.b64decode(value).hex()
    with open(f"{CONTENT}/{algorithm}/{name[:2]}/{name[2:4]}/{name[4:]}", "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
