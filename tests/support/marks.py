"""The place where programs leave a mark that they have begun: in front of a worker, where its egress process would be.

A program in a sandbox reaches nothing but that process, so a mark says that it ran, whatever became of its result.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import Counter
from pathlib import Path
from typing import Any

#: The hosts that such a run may reach.
NETWORK = {"allow": ["marks.example.test"]}
#: Of api and of the worker.
SETTINGS = {"EGRESS": "on", "EGRESS_ALLOW": "marks.example.test"}


def marked(name: str, code: str, **fields: Any) -> dict[str, Any]:
    """Return the body of a request for a program of bash that leaves a mark before all else."""
    leave = f"exec 9<>/dev/tcp/127.0.0.1/3128; echo {name} >&9; read -r -t 5 <&9; exec 9>&-\n"
    return {"language": "bash", "code": leave + code, "network": NETWORK, **fields}


class Marks:
    """The marks at all the workers that were given it, by the name in the program and by the run's id."""

    def __init__(self) -> None:
        self.names: Counter[str] = Counter()
        self.runs: Counter[str] = Counter()
        #: The last run that left the mark of a name.
        self.run_of: dict[str, str] = {}
        self._lock = threading.Lock()
        self._listeners: list[socket.socket] = []

    def serve(self, state: Path) -> None:
        """Take the marks of the worker with that state directory."""
        path = state / "run/egress/egress.sock"
        path.parent.mkdir(parents=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(64)
        self._listeners.append(listener)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                program, _ = listener.accept()
                threading.Thread(target=self._take, args=(program,), daemon=True).start()

    def _take(self, program: socket.socket) -> None:
        with program, contextlib.suppress(OSError), program.makefile("rwb") as lines:
            opening, name = json.loads(lines.readline()), lines.readline().decode().strip()
            if opening.get("op") != "connect" or not name:
                return
            with self._lock:
                self.names[name] += 1
                self.runs[opening["run"]] += 1
                self.run_of[name] = opening["run"]
            lines.write(b"taken\n")
            lines.flush()
