"""The specification of the HTTP API, OpenAPI 3.1, from what the code itself has.

Each route carries its `Operation` (`decorator.py`), set by a decorator beneath that of its blueprint. Requests are
described by the model that checks them (`api.runs.requests`), answers by the models in `models.py`, which a test
compares with real answers, and errors by the table in `error_codes.py`. `document.py` collects the routes of an
application: a route without an `Operation` is an error.

`GET /openapi.json` answers it; `spec.yaml` in this directory is a copy to read and to compare:
`make openapi` after a change.
"""
