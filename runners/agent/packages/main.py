"""One step of a build: `python3 -I main.py STEP ECOSYSTEM`; the request is JSON on stdin, the answer on stdout.

`hosts`: the registry. `downloads` (cargo): further hosts, which only the registry names. `install`: an object of
`missing`, `source` or neither, and the tool's exit status: `missing` is the entry of the request that is not in the
registry, `source` a requirement that it has as source alone. `put`: take a wheel on stdin, after a line with its
name. `fetch`: download the source package `source`. `build`: build it, or compile the crates (cargo), without a
network. `take`: a line with the wheel's name, and the wheel. `report`: the packages. `pack`: the files.
"""

import json
import os
import shutil
import sys

sys.path.insert(0, "/opt/runyard")

from agent.packages import cargo, go, npm, pip, sources
from agent.packages.pack import pack

ECOSYSTEMS = {"pip": pip, "npm": npm, "go": go, "cargo": cargo}
LAYER = "/work/layer"


def main(step, ecosystem):
    """Do one step, and return its exit status."""
    tool, out = ECOSYSTEMS[ecosystem], sys.stdout.buffer
    if step == "pack":
        pack(LAYER, out)
    elif step == "put":
        put(sys.stdin.buffer)
    elif step == "take":
        take(out)
    elif step == "build":
        prepare({})
        return tool.build(LAYER)
    elif step == "report":
        answer(tool.report(LAYER))
    else:
        request = json.load(sys.stdin)
        if step == "hosts":
            answer(tool.hosts(request))
            return 0
        prepare(request)
        if step in ("fetch", "downloads"):
            try:
                answer(tool.downloads(request) if step == "downloads" else tool.fetch(request, request["source"]))
            except OSError as e:
                print(e, file=sys.stderr)
                return 1
        else:
            status, missing, source = tool.install(request, LAYER)
            answer({"status": status, "missing": missing, "source": source})
    return 0


def answer(value):
    """Print the answer of a step."""
    print(json.dumps(value), flush=True)


def put(stream):
    """Take a wheel."""
    os.makedirs(pip.WHEELS, exist_ok=True)
    name = stream.readline().decode().strip()
    with open(f"{pip.WHEELS}/{os.path.basename(name)}", "wb") as file:
        shutil.copyfileobj(stream, file)


def take(out):
    """Send the wheel that was built."""
    (name,) = os.listdir(sources.BUILT)
    out.write(name.encode() + b"\n")
    with open(f"{sources.BUILT}/{name}", "rb") as file:
        shutil.copyfileobj(file, out)
    out.flush()


def prepare(request):
    """Make the directories, and write the certificates of the host to where the tools look for them."""
    for folder in (LAYER, "/work/tmp"):
        os.makedirs(folder, exist_ok=True)
    os.environ["TMPDIR"] = "/work/tmp"
    os.environ["HOME"] = "/work/tmp"
    # That of the image is for programs: `--isolated` leaves out a user's configuration alone.
    os.environ["PIP_CONFIG_FILE"] = os.devnull
    # A registry may be on the host itself: in here, every address is reached through the proxy.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ.pop(name, None)
    if request.get("certificates"):
        with open("/work/certificates.pem", "w") as file:
            file.write(request["certificates"])
        for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CARGO_HTTP_CAINFO"):
            os.environ[name] = "/work/certificates.pem"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
