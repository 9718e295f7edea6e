"""The commands in quick start, API guide, functions and tinirun do what stands below them, in the order in which they stand."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
#: A block of commands, unless a comment above says why it is not run, and what it answers where that is shown.
BLOCK = re.compile(
    r"^(?P<skip><!-- not run: [^\n]+ -->\n)?```sh\n(?P<commands>.*?)^```\n(?:\n```(?:text|json)\n(?P<answer>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
MARK = "=== the next block ==="


def blocks(document):
    return [block for block in BLOCK.finditer((REPO / "docs" / document).read_text()) if not block["skip"]]


def pattern(answer):
    """A text in which `…` stands for anything, also for lines."""
    return ".*".join(re.escape(part) for part in answer.strip().split("…"))


@pytest.mark.parametrize(
    ("document", "least"),
    [
        ("quick-start.md", 5),
        ("api-guide.md", 11),
        ("functions.md", 7),
        ("dialects-agent-coderunner.md", 4),
        ("dialects-tinirun.md", 2),
    ],
)
def test_the_commands_answer_as_they_say(service, document, least, tmp_path):
    found = blocks(document)
    assert len(found) >= least
    script = f"\necho; echo '{MARK}'\n".join(block["commands"] for block in found)
    script = script.replace("localhost:8080", f"{service.host}:{service.port}")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=100, check=False, errors="replace",
    )  # fmt: skip
    said = done.stdout.split(f"\n{MARK}\n")
    assert (done.returncode, len(said)) == (0, len(found)), done.stdout[-3000:]
    for block, answer in zip(found, said, strict=True):
        if block["answer"]:
            wanted = pattern(block["answer"])
            assert re.match(wanted, answer.strip(), re.DOTALL), (block["commands"], answer[-2000:])
