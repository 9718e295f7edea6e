"""Use sessions over HTTP as a client would: `use_sessions.py URL TOKEN [HOW_MANY]`. Standard library only.

It creates so many sessions (1) and, in the first, has a program write a file, another read it, and a process tell its
user; it deletes all, and asks for the deleted one. It prints each answer, and fails only where none comes: the words
are for the caller to judge.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from typing import Any

#: For an emulated machine.
ANSWER_S = 600


class Client:
    """Calls of one client."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request, print its answer, and return it."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as e:
            status, text = e.code, e.read()
        print(method, path, status, text.decode(errors="replace").strip(), flush=True)
        found = json.loads(text) if text else {}
        return found if isinstance(found, dict) else {}


def main() -> None:
    """Use them."""
    client = Client(*sys.argv[1:3])
    made = [client.call("POST", "/v1/sessions", {"language": "python"}) for _ in range(int((*sys.argv, 1)[3]))]
    live = [f"/v1/sessions/{session['id']}" for session in made if "id" in session]
    if live:
        for code in ("open('kept', 'w').write('from an earlier run')", "print('read', open('kept').read())"):
            client.call("POST", f"{live[0]}/runs", {"code": code})
        client.call("POST", f"{live[0]}/processes", {"command": "echo user $(id -u); cat kept", "wait": True})
    for path in live:
        client.call("DELETE", path)
    for path in live[:1]:
        client.call("POST", f"{path}/runs", {"code": "print(1)"})


if __name__ == "__main__":
    main()
