"""One step of a build: `python3 -I main.py STEP ECOSYSTEM`; the request is JSON on stdin.

Exit status 0: the step is done. 3: a package is not in the registry; its entry of the request is the last line of
stdout. Any other: the step failed, and the tool has said why on stderr.
"""

import json
import os
import sys

sys.path.insert(0, "/opt/runyard")

from agent.packages import npm, pip
from agent.packages.pack import pack

ECOSYSTEMS = {"pip": pip, "npm": npm}
LAYER = "/work/layer"
NOT_FOUND = 3


def main(step, ecosystem):
    """Do one step, and return its exit status."""
    if step == "pack":
        pack(LAYER, sys.stdout.buffer)
        return 0
    tool = ECOSYSTEMS[ecosystem]
    request = json.load(sys.stdin)
    if step == "hosts":
        print(json.dumps(tool.hosts(request)))
        return 0
    if step == "report":
        print(json.dumps(tool.report(LAYER)))
        return 0
    if step == "install":
        prepare(request)
        status, missing = tool.install(request, LAYER)
        if missing is not None:
            print(missing, flush=True)
            return NOT_FOUND
        return status
    sys.exit(f"there is no step {step}")


def prepare(request):
    """Make the directories, and write the certificates of the host to where the tools look for them."""
    for folder in (LAYER, "/work/tmp"):
        os.makedirs(folder, exist_ok=True)
    os.environ["TMPDIR"] = "/work/tmp"
    os.environ["HOME"] = "/work/tmp"
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
