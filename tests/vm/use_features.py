"""Use kernels, results, packages and functions over HTTP as a client would: `-m tests.vm.use_features URL TOKEN`.

Standard library only. It prints each answer, and fails only where none comes: its caller judges the answers.
"""

from __future__ import annotations

import sys
import time

from tests.vm.use_sessions import Client

#: With the time that an emulated machine needs.
LIMITS = {"timeout_ms": 60_000}
FIGURE = "import matplotlib.pyplot as plt; plt.plot([1, 4, 9]); plt.show()"
HANDLER = "def run(input):\n    return {'sum': sum(input['numbers'])}"
#: The session below is frozen a second after its last run; an emulated machine may need longer.
FREEZE_S, FROZEN_WITHIN_S = 1, 120
POLL_S = 2.0


def main() -> None:
    """Use them."""
    client = Client(*sys.argv[1:3])
    _use_kernel(client)
    _use_packages(client)
    _use_function(client)


def _use_kernel(client: Client) -> None:
    made = client.call("POST", "/v1/sessions", {"language": "python", "freeze_after_s": FREEZE_S})
    if "id" not in made:
        return
    path = f"/v1/sessions/{made['id']}"
    client.call("POST", f"{path}/runs", {"code": "kept = 20", "limits": LIMITS})
    deadline = time.monotonic() + FROZEN_WITHIN_S
    while client.call("GET", path).get("status") != "frozen" and time.monotonic() < deadline:
        time.sleep(POLL_S)
    client.call("POST", f"{path}/runs", {"code": "kept + 1", "limits": LIMITS})
    client.call("POST", f"{path}/runs", {"code": FIGURE, "limits": LIMITS})
    client.call("DELETE", path)


def _use_packages(client: Client) -> None:
    run = {"language": "python", "code": "import six; print(six.__version__)", "packages": ["six==1.16.0"]}
    for _ in range(2):  # the second finds the layer
        client.call("POST", "/v1/runs", run | {"limits": LIMITS})


def _use_function(client: Client) -> None:
    function = {"language": "python", "code": HANDLER, "limits": LIMITS}
    client.call("PUT", "/v1/functions/total", function)
    client.call("POST", "/v1/functions/total/runs", {"input": {"numbers": [1, 2, 3.5]}})
    client.call("DELETE", "/v1/functions/total")


if __name__ == "__main__":
    main()
