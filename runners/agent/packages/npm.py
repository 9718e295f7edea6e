"""npm packages by npm, without their scripts: nothing of a package is executed, now or later.

A script would have no network and no compiler, and its layer could serve no other key. A line of output names the
packages that have one.
"""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from urllib.parse import unquote, urlsplit

from agent.packages.tool import lines_of, start, write

#: A program finds the packages by the link /node_modules, as every program finds those of a directory above it.
PLACE = "opt/packages/node_modules"
LINK = "node_modules"
PROJECT = "/work/project"
CACHE = "/work/tmp/npm"
CONFIG = "/work/tmp/npmrc"
#: Names in the line about scripts that were not run.
MOST_NAMED = 10
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
    write(f"{PROJECT}/package.json", json.dumps({"name": "run", "version": "1.0.0", "private": True}))
    registry = _login(request["index"])
    argv = [
        "npm",
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
        "--loglevel=http",
    ]
    argv += [f"--cache={CACHE}", f"--registry={registry}", "--no-progress", "--fetch-retries=2"]
    argv += ["--global=false", f"--userconfig={CONFIG}", f"--globalconfig={CONFIG}-global"]
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
        _name_scripts()
        os.makedirs(f"{layer}/opt/packages", exist_ok=True)
        os.makedirs(f"{PROJECT}/node_modules", exist_ok=True)
        os.rename(f"{PROJECT}/node_modules", f"{layer}/{PLACE}")
        os.symlink(PLACE, f"{layer}/{LINK}")
        # Deno takes the packages of a directory above a program only where a package.json lies beside them.
        os.rename(f"{PROJECT}/package.json", f"{layer}/opt/packages/package.json")
        os.symlink("opt/packages/package.json", f"{layer}/package.json")
    return status, missing, None


def _login(index):
    """Write the user name and password in a registry's address to npm's configuration.

    Returns the address without them: npm would not use them for every file, and would write them to the layer.
    """
    url = urlsplit(index)
    user_info, at, host = url.netloc.rpartition("@")
    if not at:
        return index
    user, colon, password = user_info.partition(":")
    key = "_auth" if colon else "_authToken"
    value = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode() if colon else unquote(user)
    write(CONFIG, f"//{host}/:{key}={value}\n")
    return url._replace(netloc=host).geturl()


def _name_scripts():
    """Print which packages have scripts that npm would run at their installation."""
    names = sorted({name for name, entry in _installed() if entry.get("hasInstallScript")})
    if names:
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        print(
            f"installation scripts are not run: {', '.join(names[:MOST_NAMED])}{more}", file=sys.stderr, flush=True
        )


def _installed():
    """Return name and entry of each package in npm's lock file."""
    with open(f"{PROJECT}/package-lock.json") as file:
        found = json.load(file)
    return [
        (entry.get("name") or path.rpartition("node_modules/")[2], entry | {"path": path})
        for path, entry in found["packages"].items()
        if path
    ]


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
    return sorted(
        [name, entry["version"], _sha256(entry["integrity"])]
        for name, entry in _installed()
        if "integrity" in entry and os.path.isdir(f"/work/layer/opt/packages/{entry['path']}")
    )


def _sha256(integrity):
    """Return the SHA-256 of a downloaded file whose hash in the registry (SHA-512, mostly) npm has checked."""
    algorithm, _, value = integrity.split()[0].partition("-")
    name = base64.b64decode(value).hex()
    with open(f"{CONTENT}/{algorithm}/{name[:2]}/{name[2:4]}/{name[4:]}", "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
