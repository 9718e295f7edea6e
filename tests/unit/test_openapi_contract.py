"""Nothing that the API promised may go: the document still has every path, parameter, field, type, status and code.

`data/openapi_contract.yaml` is the document without its texts and examples, as it was when the packages were moved.
What is added later is allowed, so the comparison is one of containment.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from api.app import routes_alone
from api.openapi.document import document
from api.openapi.error_codes import FAULTS

CONTRACT = Path(__file__).with_name("data") / "openapi_contract.yaml"
TEXTS = frozenset(
    {"summary", "description", "example", "examples", "title", "externalDocs", "info", "tags", "servers"}
)


def stripped(node, names_are_free=False):
    """The document without texts and examples; a property may have the name of a text."""
    if isinstance(node, list):
        return [stripped(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        name: stripped(value, names_are_free=name in ("properties", "patternProperties", "paths"))
        for name, value in node.items()
        if names_are_free or name not in TEXTS
    }


def lost(old, new, where=""):
    """Yield each place where something of the old document is not in the new one."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name, value in old.items():
            if name in new:
                yield from lost(value, new[name], f"{where}/{name}")
            else:
                yield f"{where}/{name}"
    elif isinstance(old, list) and isinstance(new, list):
        for item in old:
            if item in new:
                continue
            same = [one for one in new if identity(one) is not None and identity(one) == identity(item)]
            if same:
                yield from lost(item, same[0], f"{where}/{identity(item)}")
            else:
                yield f"{where}/{item}"
    elif old != new:
        yield f"{where}: {old!r} is {new!r} now"


def identity(item):
    """The names of a parameter: those by which it is found again."""
    return (item["in"], item["name"]) if isinstance(item, dict) and {"in", "name"} <= set(item) else None


def promises():
    """The document of the present code, with the error codes and their statuses beside it."""
    return stripped(document(routes_alone())) | {
        "x-error-codes": {code: one.status for code, one in FAULTS.items()}
    }


def test_nothing_that_was_promised_is_gone():
    now = promises()
    assert list(lost(yaml.safe_load(CONTRACT.read_text()), now)) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda now: now["paths"].pop("/v1/runs"),
        lambda now: now["components"]["schemas"]["Run"]["properties"].pop("stdout"),
        lambda now: now["components"]["schemas"]["Run"]["properties"]["stdout"].update(type="integer"),
        lambda now: now["paths"]["/v1/runs"]["post"]["responses"].pop("429"),
        lambda now: now["paths"]["/v1/runs"]["get"]["parameters"].pop(),
        lambda now: now["x-error-codes"].pop("quota_exceeded"),
    ],
    ids=["path", "field", "type", "status", "parameter", "code"],
)
def test_a_loss_is_noticed(change):
    now = promises()
    change(now)
    assert list(lost(yaml.safe_load(CONTRACT.read_text()), now))
