"""The programs that are measured: a hello for each language, and what a bare start of its interpreter is."""

from __future__ import annotations

import json
from typing import Any

#: The yardstick: Debian's own Python, started by nobody's service.
BARE = ("/usr/bin/python3", "-I", "-c", "print(1+1)")

#: Languages measured at every gap; each other one that is ready is measured back to back and at 100 ms.
FULL = ("python", "node", "bash")

HELLO = {
    "python": "print(1+1)",
    "node": "console.log(1+1)",
    "bash": "echo 2",
    "typescript": "const n: number = 1+1; console.log(n)",
    "deno": "const n: number = 1+1; console.log(n)",
    "bun": "const n: number = 1+1; console.log(n)",
    "ruby": "puts 1+1",
    "php": "<?php echo 1+1, PHP_EOL;",
    "go": 'package main\nimport "fmt"\nfunc main() { fmt.Println(1+1) }\n',
    "rust": 'fn main() { println!("{}", 1+1); }\n',
}

#: The same hello by the interpreter of the runner image itself, outside any sandbox.
OWN = {
    "python": ("python3", "-I", "-c", HELLO["python"]),
    "node": ("node", "-e", HELLO["node"]),
    "bash": ("bash", "-c", HELLO["bash"]),
    "ruby": ("ruby", "-e", HELLO["ruby"]),
    "php": ("php", "-r", "echo 1+1, PHP_EOL;"),
}


def body(language: str, code: str, **fields: Any) -> bytes:  # JSON
    """The request that runs a program."""
    return json.dumps({"language": language, "code": code, **fields}, separators=(",", ":")).encode()
