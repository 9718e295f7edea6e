"""`python -m config.table`: the settings as a page of documentation, docs/configuration.md."""

from __future__ import annotations

from typing import Any, get_args

from pydantic.fields import FieldInfo

from config.settings import IMAGE_PREFIX, UNUSED, Settings

HEAD = """# Configuration

Everything is set by environment variables, read and checked once, at start. A value that does not fit stops the
start with the variable's name; `make doctor` shows what is in force. This page is written by
`python -m config.table`; a test holds it to the code.

| variable | default | values | |
|---|---|---|---|
"""

IMAGES = f"""
`{IMAGE_PREFIX}<LANG>` (for instance `{IMAGE_PREFIX}PYTHON`) names an image of your own for a language, built by the
runner's Dockerfile: for the engine `docker` a reference that its daemon has, for `oci` the path of a root file
system, of an OCI image layout, or of an archive of either or from `docker save`. The service refuses to
start if one cannot be started.
"""


def page() -> str:
    """The whole page as Markdown."""
    rows = [_row(name, field) for name, field in Settings.model_fields.items()]
    unused = " and ".join(f"`{name}`" for name in UNUSED)
    tail = f"\n{unused} are accepted, warned about once and unused: there is no shared host directory.\n"
    return HEAD + "\n".join(rows) + "\n" + IMAGES + tail


def _row(name: str, field: FieldInfo) -> str:
    default = "unset" if field.default is None else f"`{_shown(field.default)}`"
    return f"| `{name.upper()}` | {default} | {_values(field)} | {field.description} |"


def _shown(value: Any) -> str:  # noqa: ANN401  # whatever a default may be
    return str(int(value)) if isinstance(value, bool) else str(value)


def _values(field: FieldInfo) -> str:
    """The choices, or the bounds, or nothing to say."""
    if field.annotation is bool:
        return "`0`, `1`"
    alternatives = [field.annotation, *get_args(field.annotation)]  # of one that may be left unset
    choices = [arg for kind in alternatives for arg in get_args(kind) if isinstance(arg, str)]
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    bounds = {kind: value for entry in field.metadata for kind, value in _bounds(entry)}
    words = [f"{sign} {bounds[kind]}" for kind, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤")) if kind in bounds]
    return ", ".join(words)


def _bounds(entry: object) -> list[tuple[str, Any]]:
    return [(kind, getattr(entry, kind)) for kind in ("ge", "gt", "le") if getattr(entry, kind, None) is not None]


if __name__ == "__main__":
    print(page(), end="")
