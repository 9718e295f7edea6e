"""The page about keys: its commands run as they stand, one after the other."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.support.service import ADMIN_TOKEN

REPO = Path(__file__).resolve().parents[2]
PAGE = (REPO / "docs" / "keys.md").read_text()


def test_its_commands_answer(service):
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 7
    # An address of its own: the tests before may have made the keys of theirs.
    script = "\n".join(blocks).replace(
        "curl -s -X POST $RUNYARD/v1/keys ", "curl -s -X POST $RUNYARD/v1/keys $HERE "
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={
            "PATH": "/usr/bin:/bin",
            "RUNYARD": service.url,
            "ADMIN_TOKEN": ADMIN_TOKEN,
            "HERE": f"-HX-Forwarded-For:198.18.{os.getpid() >> 8 & 255}.{os.getpid() & 255}",
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"stdout":"2\\n"' in done.stdout
    assert '"runs_left":49' in done.stdout
    assert '"deleted":true' in done.stdout
    assert '"plan":"pro"' in done.stdout
    assert '"action":"key.create"' in done.stdout
    assert ",alice@example.org,pro," in done.stdout
    assert '"object":"usage_report"' in done.stdout
    assert '"error":{' not in done.stdout
