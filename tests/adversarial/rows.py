"""A row of the adversarial suite: a program that means harm, or that a wall must not stand in the way of, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

GVISOR = ("oci/runsc", "docker/runsc")


def on_gvisor(instead: Mapping[str, Any] | str) -> dict[str, Mapping[str, Any] | str]:
    """For `on`: what both its columns have instead, or why they are not asked."""
    return dict.fromkeys(GVISOR, instead)


@dataclass(frozen=True)
class Case:
    """`code` may name {state} (the service's directory on the host) and {port}; `on` is what a column has instead.

    What is expected: one of `status`; `stdout` in full, or each line of it one of `lines`, or each to begin with one
    of `begins`; `contains` and `lacks` of both outputs; `reasons` for which files were left out.
    """

    language: str
    code: str
    status: tuple[str, ...] = ("succeeded",)
    stdout: str | None = None
    lines: frozenset[str] | None = None
    begins: tuple[str, ...] | None = None
    contains: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    #: What must hold of the whole result.
    facts: Mapping[str, Any] = field(default_factory=dict)
    reasons: Mapping[str, str] | None = None
    job: Mapping[str, Any] = field(default_factory=dict)
    #: By column: expectations that replace those above; a text instead says why the column is not asked.
    on: Mapping[str, Mapping[str, Any] | str] = field(default_factory=dict)


def judge(case: Case, result: Mapping[str, Any], column: str) -> None:
    """Hold a run's result against what the case expects of this column."""
    wanted = {
        name: getattr(case, name)
        for name in ("status", "stdout", "lines", "begins", "contains", "lacks", "facts", "reasons")
    }
    special = case.on.get(column, {})
    assert not isinstance(special, str)
    wanted |= special
    said = (result["status"], result["stdout"][-2000:], result["stderr"][-2000:], result["compile"])
    assert result["status"] in wanted["status"], said
    if wanted["stdout"] is not None:
        assert result["stdout"] == wanted["stdout"], said
    if wanted["lines"] is not None:
        found = result["stdout"].splitlines()
        assert found, said
        assert set(found) <= wanted["lines"], said
    if wanted["begins"] is not None:
        assert [line for line in result["stdout"].splitlines() if not line.startswith(wanted["begins"])] == [], said
    compiler = result["compile"] or {}
    text = "".join((result["stdout"], result["stderr"], compiler.get("stdout", ""), compiler.get("stderr", "")))
    assert [piece for piece in wanted["contains"] if piece not in text] == [], said
    assert [piece for piece in wanted["lacks"] if piece in text] == [], said
    assert {name: result[name] for name in wanted["facts"]} == dict(wanted["facts"]), said
    if wanted["reasons"] is not None:
        assert {item["path"]: item["reason"] for item in result["skipped_artifacts"]} == dict(wanted["reasons"]), (
            said
        )


def filled(code: str, **names: object) -> str:
    """The code with {state} and {port} put in; other braces are the program's own."""
    for name, value in names.items():
        code = code.replace("{" + name + "}", str(value))
    return code
