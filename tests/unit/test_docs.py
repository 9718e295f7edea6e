"""The documents, as text: settings, targets, links, numbers and names are those of the code."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

from click.testing import CliRunner
from runyard.cli import cli

from api.keys.plans import SHIPPED, load_plans
from config.settings import Settings
from config.settings_doc import page

REPO = Path(__file__).resolve().parents[2]
KEYS = (REPO / "docs" / "keys.md").read_text()
CLIENTS = (REPO / "docs" / "clients.md").read_text()
URL_HOST = re.compile(r"https?://([A-Za-z0-9.-]*[A-Za-z0-9])")
#: This machine, names without a domain, what by RFC 2606 and 5737 is nobody's, and the one that XML's names begin
#: with: a picture's, which nobody ever asks for anything.
HOSTS = re.compile(
    r"[a-z]+|host\.docker\.internal|127\.0\.0\.1|192\.0\.2\.\d+|(.*\.)?(example(\.\w+)?|invalid|test)|www\.w3\.org"
    r"|json-schema\.org"
)


def test_the_table_of_settings_is_the_one_in_the_code():
    assert (REPO / "docs" / "configuration.md").read_text() == page()


def test_every_phony_make_target_has_a_rule():
    makefile = (REPO / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[1].split()
    assert set(phony) <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


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


def test_no_file_names_a_host_of_somebodys():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, capture_output=True, check=True).stdout
    paths = [name.decode() for name in listed.split(b"\0") if name]
    assert "README.md" in paths
    found = {path: set(URL_HOST.findall((REPO / path).read_text(errors="replace"))) for path in paths}
    assert [(path, host) for path, hosts in found.items() for host in hosts if not HOSTS.fullmatch(host)] == []


def test_every_make_target_in_a_documents_commands_exists():
    targets = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), re.MULTILINE))
    for document in (REPO / "docs").glob("*.md"):
        for commands in re.findall(r"```sh\n(.*?)```", document.read_text(), re.DOTALL):
            assert set(re.findall(r"^(?:[A-Z_]+=\S+ )*make ([a-z-]+)", commands, re.MULTILINE)) <= targets


def test_the_numbers_in_the_page_about_keys_are_those_of_the_code():
    free, defaults = load_plans(Settings()).get("free"), Settings()
    assert f"{free.runs} runs in all, {round(free.bucket.rate * 60)} requests a minute" in KEYS
    assert f"An address may make {defaults.keys_per_hour} keys in any hour" in KEYS
    assert f"`ADDRESS_RPS` ({defaults.address_rps:g})" in KEYS
    assert f"`ADDRESS_BURST` ({defaults.address_burst})" in KEYS
    assert defaults.key_grace_s == 86_400


def test_every_entry_of_a_plan_is_explained():
    entries = {name for plan in tomllib.loads(SHIPPED.read_text()).values() for name in plan}
    table = KEYS.split("| entry |")[1].split("\n\n")[0]
    assert {name for name in entries if f"`{name}`" not in table} == {"limits"}
    assert "`[name.limits]`" in table


def test_every_command_in_the_page_about_clients_is_there():
    commands = dict(re.findall(r"`runyard (runs|files|keys|sessions) ([a-z| ]+)`", CLIENTS))
    assert set(commands) == {"runs", "files", "keys", "sessions"}
    for group, names in commands.items():
        for name in names.split(" | "):
            assert CliRunner().invoke(cli, [group, name, "--help"]).exit_code == 0, (group, name)


def test_the_open_webui_guide_names_the_tools_valves():
    guide, tool = ((REPO / name).read_text() for name in ("docs/open-webui.md", "openwebui_tool.py"))
    named = set(re.findall(r"`((?:api|public|max|show)_[a-z_]+)`", guide))
    assert named
    assert named <= set(re.findall(r"^        (\w+): (?:str|int|bool) = Field", tool, re.MULTILINE))
    assert set(re.findall(r"`(run_\w+|execute_code)`", guide)) == set(
        re.findall(r"async def (run_\w+|execute_code)\(", tool)
    )
