"""The Open WebUI tool's two files, as text: what its loader would change, and that they are one source."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import openwebui_tool

REPO = Path(__file__).resolve().parents[2]
TOOL = (REPO / "openwebui_tool.py").read_text()
IN_CONTAINER = (REPO / "openwebui_tool_docker.py").read_text()
docker_variant = runpy.run_path(str(REPO / "clients/openwebui.py"))["docker_variant"]


def test_the_one_for_containers_is_made_from_the_other():
    assert docker_variant(TOOL) == IN_CONTAINER, "run: python clients/openwebui.py"


def test_a_source_without_a_place_to_change_is_refused():
    with pytest.raises(ValueError, match="title"):
        docker_variant(TOOL.replace("title: Runyard\n", ""))


@pytest.mark.parametrize("text", [TOOL, IN_CONTAINER])
def test_the_loader_finds_what_it_needs_and_changes_nothing(text):
    lines = text.splitlines()
    assert lines[0] == '"""'
    front = lines[1 : lines.index('"""', 1)]
    keys = [re.match(r"([a-z_]+):", line)[1] for line in front]
    assert keys[0] == "title"
    assert "requirements" not in keys
    for replaced in ("from utils", "from apps", "from main", "from config"):
        assert replaced not in text
    imported = set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE))
    assert imported <= {"asyncio", "base64", "hashlib", "json", "re", "secrets", "time", "unicodedata", "typing", "urllib", "httpx", "pydantic"}  # fmt: skip


@pytest.mark.parametrize(
    ("valve", "asked", "wanted"),
    [
        ("", None, []),
        ("", [], []),
        ("humanize, @types/node", ["Humanize==4.12.3", "@types/node@^22"], ["Humanize==4.12.3", "@types/node@^22"]),
        ("typing-extensions", "typing_extensions>=4, ", ["typing_extensions>=4"]),
        ("httpx", ["httpx[http2]"], ["httpx[http2]"]),
        ("*", ["anything@1"], ["anything@1"]),
    ],
)
def test_the_model_gets_the_packages_that_the_valve_names(valve, asked, wanted):
    call = openwebui_tool._Call(openwebui_tool.Tools.Valves(packages=valve), None, None, None, None, None)
    assert call._permitted(asked) == wanted


@pytest.mark.parametrize(
    "asked", [["requests"], ["humanize2"], ["humanize", "x"], ["--humanize"], [""], ["humanize/../x"]]
)
def test_others_are_refused_with_those_that_are_permitted(asked):
    call = openwebui_tool._Call(openwebui_tool.Tools.Valves(packages="humanize"), None, None, None, None, None)
    if asked == [""]:
        assert call._permitted(asked) == []
        return
    with pytest.raises(openwebui_tool.Refused, match="permitted: humanize"):
        call._permitted(asked)
