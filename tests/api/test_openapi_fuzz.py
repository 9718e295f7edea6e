"""schemathesis lets the service be tried by its own document: what it sends is made of the schemas, good and bad."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
#: The same requests every time, and few of them: this is part of every `make test`.
SEED, EXAMPLES = 7, 6
ENDLESS = "/files/watch$"
NOT_CHECKED = "positive_data_acceptance"  # schemathesis_hooks.py says it more exactly


@pytest.mark.timeout(400)
def test_schemathesis_finds_nothing(service, tmp_path):
    argv = [str(Path(sys.executable).with_name("schemathesis")), f"--config-file={HERE}/schemathesis.toml"]
    argv += ["run", f"{service.url}/openapi.json"]
    argv += ["-H", f"Authorization: Bearer {service.token}", f"--seed={SEED}", f"--max-examples={EXAMPLES}"]
    argv += [f"--exclude-checks={NOT_CHECKED}", "--generation-database=none", "--workers=1"]
    # A watch of a directory is a stream without an end.
    argv += ["--request-timeout=60", "--no-color", f"--exclude-path-regex={ENDLESS}"]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(HERE),
        "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
    }
    done = subprocess.run(
        argv, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=380,
        check=False,
    )  # fmt: skip
    # What it created holds memory for as long as it lives.
    while sessions := service.get("/v1/sessions?status=live&limit=100").body["data"]:
        for session in sessions:
            assert service.request("DELETE", f"/v1/sessions/{session['id']}").status == 200
    while functions := service.get("/v1/functions?limit=100").body["data"]:
        for function in functions:
            assert service.request("DELETE", f"/v1/functions/{function['name']}").status == 200
    assert done.returncode == 0, done.stdout[done.stdout.find("= FAILURES =") :][:12_000]
    paths = service.get("/openapi.json", token=None).body["paths"]
    # All of them but the document itself and what has no end.
    left_out = 1 + sum(len(item) for path, item in paths.items() if re.search(ENDLESS, path))
    assert f"Tested: {sum(len(item) for item in paths.values()) - left_out}\n" in done.stdout
    assert service.get("/v1/health").body["status"] == "ok"
