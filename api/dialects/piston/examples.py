"""Examples of Piston's requests and answers, for the specification."""

from __future__ import annotations

from typing import Any

REQUESTS: dict[str, Any] = {
    "main": {
        "language": "python",
        "version": "3.x",
        "files": [{"name": "main.py", "content": "print(input()[::-1])"}],
        "stdin": "olleh",
        "args": [],
        "run_timeout": 3000,
        "run_memory_limit": -1,
    }
}
_STAGE: dict[str, Any] = {
    "stdout": "hello\n",
    "stderr": "",
    "code": 0,
    "signal": None,
    "output": "hello\n",
    "memory": 9437184,
    "message": None,
    "status": None,
    "cpu_time": 12,
    "wall_time": 15,
}
RESULTS: dict[str, Any] = {"ended": {"run": _STAGE, "language": "python", "version": "3.13.5"}}
RUNTIMES: dict[str, Any] = {
    "some": [
        {"language": "python", "version": "3.13.5", "aliases": ["py", "py3", "python3"]},
        {
            "language": "typescript",
            "version": "2.9.8",
            "aliases": ["deno-ts", "deno"],
            "runtime": "deno",
        },
    ]
}
PACKAGES: dict[str, Any] = {"some": [{"language": "python", "language_version": "3.13.5", "installed": True}]}
