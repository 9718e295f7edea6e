"""The documents tell the truth: settings compared with the code, commands run as they stand."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from config.table import page

REPO = Path(__file__).resolve().parents[2]
URL_HOST = re.compile(r"https?://([A-Za-z0-9.-]*[A-Za-z0-9])")
#: This machine, names without a domain, what by RFC 2606 and 5737 is nobody's, and the one that XML's names begin
#: with: a picture's, which nobody ever asks for anything.
HOSTS = re.compile(
    r"[a-z]+|host\.docker\.internal|127\.0\.0\.1|192\.0\.2\.\d+|(.*\.)?(example(\.\w+)?|invalid|test)|www\.w3\.org"
)


def test_the_table_of_settings_is_the_one_in_the_code():
    assert (REPO / "docs" / "configuration.md").read_text() == page()


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


def test_every_make_target_in_the_readme_exists():
    targets = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", (REPO / "README.md").read_text())) <= targets


def test_links_between_documents_lead_somewhere():
    for document in [REPO / "README.md", *(REPO / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), (document.name, target)


def test_each_language_has_what_the_catalogue_reads():
    for path in (REPO / "runners").glob("*/runner.toml"):
        runner = tomllib.loads(path.read_text())
        assert runner["id"] == path.parent.name
        assert (path.parent / "build.sh").exists()
        assert (path.parent / "Dockerfile").exists()
        assert runner["warm"]["mode"] in {"fork", "hold", "none"}


def test_each_languages_example_runs(service):
    for language in service.get("/v1/languages").body["data"]:
        run = service.run(language["id"], language["example"])
        assert (run["status"], run["stdout"] != "") == ("succeeded", True)


def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, capture_output=True, check=True).stdout
    return [REPO / name.decode() for name in listed.split(b"\0") if name]


@pytest.mark.parametrize("path", tracked(), ids=lambda path: str(path.relative_to(REPO)))
def test_no_file_names_a_host_of_somebodys(path):
    hosts = set(URL_HOST.findall(path.read_text(errors="replace")))
    assert [host for host in hosts if not HOSTS.fullmatch(host)] == []
