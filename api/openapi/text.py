"""The document as YAML, for people: equal documents give equal texts."""

from __future__ import annotations

from typing import Any

HEADER = "# Made by `python -m api.openapi` from the code: change that, not this.\n"
WIDTH = 116


def as_yaml(document: dict[str, Any]) -> str:
    """Return the document as YAML, with long texts as blocks. PyYAML is a development dependency only."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  # no anchors: equal parts are repeated
            return True

    def text(dumper: Dumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value and not any(line.endswith(" ") for line in value.split("\n")) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return HEADER + yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)
