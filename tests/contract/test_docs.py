"""The README: the commands in it run as they stand and do what it says."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def test_the_readmes_curl_answers_as_it_says(service):
    block = re.search(
        r"^curl -s localhost:8080.*?(?=\n```|\n\n)", (REPO / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    command = block.group(0).replace("localhost:8080", f"{service.host}:{service.port}")
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    run = json.loads(done.stdout)
    assert (run["stdout"], run["status"], run["object"]) == ("2\n", "succeeded", "run")
    assert run["isolation"]["source"] == "template"


def test_the_readmes_plot_is_a_picture(service, tmp_path):
    text = (REPO / "README.md").read_text()
    command = next(block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "plot.png" in block)
    command = command.replace("localhost:8080", f"{service.host}:{service.port}")
    subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=tmp_path, timeout=60, check=True)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_each_languages_example_runs(service):
    for language in service.get("/v1/languages").body["data"]:
        run = service.run(language["id"], language["example"])
        assert (run["status"], run["stdout"] != "") == ("succeeded", True)
