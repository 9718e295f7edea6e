"""Crates by cargo: downloaded with a network, compiled without one.

Cargo executes nothing of a crate to download it. To compile it, it executes build scripts and procedural macros, so
that comes after the network was closed. A program is compiled by rustc alone (runners/rust/runner.toml): the layer
has the compiled crates, and the arguments by which rustc finds them.
"""

import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from urllib.parse import urlsplit

from agent.packages import sources
from agent.packages.tool import forget_proxy, run, write

#: The directory that the arguments of rustc name, and the file that has them, one on each line.
PLACE = "opt/packages/rust"
ARGUMENTS = "arguments"
PROJECT, TARGET, HOME = "/work/project", "/work/target", "/work/tmp/cargo"
RECORDER, RECORDED = "/work/tmp/recorder", "/work/tmp/recorded"
MAX_CONFIG_BYTES = 1 << 16
PROGRAM = "runyard-program"
#: Cargo takes versions that this rustc can compile (resolver 3). Crates have no debugging information, as programs.
MANIFEST = f"""
[package]
name = "{PROGRAM}"
version = "0.0.0"
edition = "2021"
resolver = "3"
[workspace]
[profile.dev]
debug = 0
incremental = false
[dependencies]
"""
#: The operator's index in place of cargo's own; its address follows.
REPLACED = '[source.crates-io]\nreplace-with = "own"\n[source.own]\nregistry = '
#: Cargo has this called in place of rustc for the program alone: the last call is the one that compiles it.
RECORD = f"""#!/bin/sh
printf '%s\\n' "$@" >{RECORDED}
exec "$@"
"""
_CONFIG = re.compile(r"failed to download from `(https?://\S+/)config\.json`")
#: Cargo names the package that is missing in one of these ways, and then the one that needs it.
_MISSING = re.compile(
    r"(?:no matching package named `([^`]+)` found|searched package name: `([^`]+)`"
    r"|failed to select a version for the requirement `(\S+) = )"
)
_NEEDED_BY = re.compile(r"required by package `(\S+) ")


def hosts(request):
    """Return the index that is given, or the one that cargo has built in. Only the index names further hosts."""
    given = request.get("index", "").removeprefix("sparse+")
    index = given or _built_in()
    return {"index": index if index.endswith("/") else f"{index}/", "hosts": []}


def downloads(request):
    """Return the index with the host from which it has crates downloaded. Raises OSError."""
    content, _ = sources.get(f"{request['index']}config.json", MAX_CONFIG_BYTES)
    try:
        url = urlsplit(json.loads(content)["dl"])
        port = url.port or {"http": 80, "https": 443}[url.scheme]
        host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise OSError(f"the index's config.json names no http or https URL for downloads: {e!r}") from e
    return {"index": request["index"], "hosts": [f"{host}:{port}"]}


def install(request, _layer):
    """Download the crates. Returns the exit status, the entry that is not in the registry, and None."""
    write(f"{PROJECT}/Cargo.toml", MANIFEST + "".join(map(_dependency, request["packages"])))
    write(f"{PROJECT}/src/main.rs", "fn main() {}\n")
    if request.get("own"):
        write(f"{HOME}/config.toml", REPLACED + json.dumps(f"sparse+{request['index']}") + "\n")
    status, said = _cargo("generate-lockfile")
    if status == 0 and request.get("locked"):
        _lock(request["locked"])
    if status == 0:
        status, said = _cargo("fetch", f"--target={_triple()}")
    return status, None if status == 0 else _missing(said, request["packages"]), None


def report(_layer):
    """Return name, version and hash of each crate that was downloaded; cargo has compared the files with these."""
    with open(f"{PROJECT}/Cargo.lock", "rb") as file:
        locked = tomllib.load(file)["package"]
    there = {os.path.basename(path) for path in glob.glob(f"{HOME}/registry/cache/*/*.crate")}
    return sorted(
        [one["name"], one["version"], one["checksum"]]
        for one in locked
        if "checksum" in one and f"{one['name']}-{one['version']}.crate" in there
    )


def build(layer):
    """Compile the crates, and put what a program needs of them in the layer. Returns the exit status."""
    forget_proxy()
    write(RECORDER, RECORD)
    os.chmod(RECORDER, 0o755)  # noqa: S103  # executed by cargo
    os.environ["RUSTC_WORKSPACE_WRAPPER"] = RECORDER
    # Named, so that what is executed here lies in another directory than what programs are linked with.
    triple = _triple()
    status, _ = _cargo("build", "--frozen", f"--target={triple}", f"--target-dir={TARGET}")
    if status != 0:
        return status
    place = f"{layer}/{PLACE}"
    os.makedirs(f"{place}/deps")
    for found in (f"{TARGET}/{triple}/debug/deps/*.rlib", f"{TARGET}/debug/deps/*.so"):
        for path in glob.glob(found):
            shutil.copyfile(path, f"{place}/deps/{os.path.basename(path)}")
    with open(RECORDED) as file:
        recorded = file.read().splitlines()
    write(f"{place}/{ARGUMENTS}", "".join(f"{one}\n" for one in _arguments(recorded, place)))
    return 0


def _arguments(recorded, place):
    """Yield the arguments by which rustc finds the crates in the layer, from those that cargo has given it."""
    yield from ("-L", f"dependency=/{PLACE}/deps")
    for option, value in pairwise(recorded):
        kind, _, path = value.partition("=")
        if option == "--extern" and os.path.exists(f"{place}/deps/{os.path.basename(path)}"):
            yield from (option, f"{kind}=/{PLACE}/deps/{os.path.basename(path)}")
        elif option == "-L" and kind != "dependency":
            # A directory without a kind is one for all kinds.
            yield from (option, f"{kind}={_native(path, place)}" if path else _native(kind, place))
        elif option == "-l":
            yield from (option, value)


def _native(path, place):
    """Return where a program finds the libraries of a directory: those that a build script made are copied."""
    if not path.startswith(f"{TARGET}/") or not os.path.isdir(path):
        return path
    name = path[len(TARGET) + 1 :].replace("/", "_")
    os.makedirs(f"{place}/native/{name}", exist_ok=True)
    for file in os.scandir(path):
        if file.is_file() and re.search(r"\.(?:a|o|so(?:\.[0-9.]+)?)$", file.name):
            shutil.copyfile(file.path, f"{place}/native/{name}/{file.name}")
    return f"/{PLACE}/native/{name}"


def _cargo(*arguments):
    """Run cargo, and return its exit status and what it says."""
    env = {**os.environ, "CARGO_HOME": HOME, "CARGO_NET_RETRY": "2", "CARGO_TERM_PROGRESS_WHEN": "never"}
    said = []
    status = run(["cargo", *arguments], PROJECT, env, said.append)
    return status, "".join(said)


def _lock(packages):
    """Have cargo take the versions of an earlier build. It refuses other files for them."""
    path = f"{PROJECT}/Cargo.lock"
    with open(path, "rb") as file:
        new = tomllib.load(file)
    source = next((one["source"] for one in new["package"] if "source" in one), "")
    text = f"version = {new['version']}\n"
    for name, version, sha256 in packages:
        entry = {"name": name, "version": version, "source": source, "checksum": sha256}
        text += "\n[[package]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in entry.items())
    write(path, text)


def _missing(said, entries):
    """Return the entry of the request that cargo names as missing; None if another package needs it."""
    found = _MISSING.search(said)
    needed_by = found and _NEEDED_BY.search(said, found.end())
    if not needed_by or needed_by[1] != PROGRAM:
        return None
    name = found[1] or found[2] or found[3]
    return next((entry for entry in entries if _name(entry) == name), None)


def _dependency(entry):
    """Return the line of an entry, such as `serde[derive]@1.0.219`, in Cargo.toml."""
    name, _, requirement = entry.partition("@")
    _, _, features = name.rstrip("]").partition("[")
    listed = json.dumps(features.split(",") if features else [])
    return f"{_name(entry)} = {{ version = {json.dumps(requirement)}, features = {listed} }}\n"


def _name(entry):
    return re.split(r"[\[@]", entry, maxsplit=1)[0]


def _built_in():
    """Return the address of cargo's own index: here, without a network, cargo tells what it cannot reach."""
    write("/work/probe/Cargo.toml", MANIFEST + 'any = "*"\n')
    write("/work/probe/src/main.rs", "")
    env = {"PATH": os.environ["PATH"], "HOME": "/work/probe", "CARGO_NET_RETRY": "0"}
    argv = ["cargo", "generate-lockfile"]
    tried = subprocess.run(argv, capture_output=True, text=True, check=False, env=env, cwd="/work/probe")
    found = _CONFIG.search(tried.stderr)
    if found is None:
        sys.exit(f"cargo does not name its index: {tried.stderr[-500:]}")
    return found[1]


def _triple():
    """Return the target of this compiler."""
    said = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    return re.search(r"^host: (\S+)$", said, re.MULTILINE)[1]
