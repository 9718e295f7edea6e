"""The specification of the HTTP API, OpenAPI 3.1, from what the code itself has.

Each route carries its `Operation` (`declare.py`): a decorator beneath that of its blueprint. What a request may be
comes from the model that checks it (`api.runs.requests`), what an answer is from the models in `answers.py`, which
a test holds real answers to, and each error from the table in `faults.py`. `document.py` walks the routes of an
application and puts it all together: a route that says nothing of itself is an error.

`GET /openapi.json` answers it; `spec.yaml` beside this file is a copy to read and to compare:
`make openapi` after a change.
"""
