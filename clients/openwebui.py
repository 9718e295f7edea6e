"""`python clients/openwebui.py`: regenerate openwebui_tool_docker.py from openwebui_tool.py.

The two differ in the address that a tool inside a container has to use, and in their title.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "openwebui_tool.py"
TARGET = ROOT / "openwebui_tool_docker.py"
_HEADER = "# Made by clients/openwebui.py from openwebui_tool.py: change that, not this.\n#\n"
_CHANGES = {
    "title: Runyard\n": "title: Runyard (from a container)\n",
    'Field("http://localhost:8080"': 'Field("http://host.docker.internal:8080"',
    "# Paste this into": f"{_HEADER}# Paste this into",
    "use openwebui_tool_docker.py: the same with an address that works there.": "this file is the one to take.",
}


def docker_variant(source: str) -> str:
    """Make the source for a container. Raises ValueError if a text to replace does not occur exactly once."""
    for old, new in _CHANGES.items():
        if source.count(old) != 1:
            raise ValueError(f"{SOURCE.name}: {old!r} is there {source.count(old)} times, not once")
        source = source.replace(old, new)
    return source


if __name__ == "__main__":
    TARGET.write_text(docker_variant(SOURCE.read_text()))
