"""`python -m api.openapi > api/openapi/spec.yaml`: write the committed copy of the specification."""

from __future__ import annotations

import sys

from flask import Flask

from api.app import BLUEPRINTS
from api.openapi.document import document
from api.openapi.text import as_yaml


def application() -> Flask:
    """An application that has every route and nothing behind them."""
    app = Flask("runyard", static_folder=None, template_folder=None)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    return app


if __name__ == "__main__":
    sys.stdout.write(as_yaml(document(application())))
