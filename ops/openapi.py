"""`make openapi`: write the committed copy of the specification, api/openapi/spec.yaml."""

from __future__ import annotations

from pathlib import Path

from api.app import routes_alone
from api.openapi.document import document
from api.openapi.text import as_yaml

SPEC = Path(__file__).resolve().parents[1] / "api" / "openapi" / "spec.yaml"

if __name__ == "__main__":
    SPEC.write_text(as_yaml(document(routes_alone())))
    print(f"written: {SPEC}")
