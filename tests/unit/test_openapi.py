"""The specification: it is what the code says, all of the code says it, and what it says is well-formed."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path

import jsonschema_rs
import pytest
from flask import Blueprint
from pydantic import BaseModel

from api.app import routes_alone
from api.errors import ApiError
from api.openapi import examples, models
from api.openapi.decorator import Json, operation
from api.openapi.document import Undeclared, document
from api.openapi.error_codes import ANYWHERE, FAULTS
from api.openapi.models import Error, File, Health, LanguageList, Run
from api.openapi.text import as_yaml
from api.runs.requests import RunIn, parse_run
from config.parsers import DIALECT_NAMES
from protocol import result
from tests.unit.test_api_app import RUN_FIELDS, Api

REPO = Path(__file__).resolve().parents[2]
SPEC = REPO / "api" / "openapi" / "spec.yaml"


class Thing(BaseModel):
    name: str


@pytest.fixture(scope="module")
def spec():
    return document(routes_alone())


@pytest.fixture(scope="module")
def api():
    made = Api()
    yield made
    made.close()


def walk(node):
    yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(child)


def responses(spec):
    for path, item in spec["paths"].items():
        for method, said in item.items():
            for status, response in said["responses"].items():
                yield f"{method} {path} {status}", response


def is_of_dialect(spec, where):
    """Return whether an operation is another service's, whose errors have another shape."""
    method, path, _ = where.split(" ")
    return not set(DIALECT_NAMES).isdisjoint(spec["paths"][path][method]["tags"])


def validator(spec, schema):
    """A schema of the document, with the components that it refers to."""
    return jsonschema_rs.Draft202012Validator({**schema, "components": spec["components"]})


def test_the_committed_copy_is_what_the_code_says(spec):
    assert SPEC.read_text() == as_yaml(spec), "make openapi"


def test_the_service_answers_the_same(spec, api):
    reply = api.client.get("/openapi.json")
    assert (reply.status_code, reply.content_type) == (200, "application/json")
    assert reply.json == json.loads(json.dumps(spec))
    again = api.client.get("/openapi.json", headers={"If-None-Match": reply.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_a_route_that_says_nothing_of_itself_is_an_error():
    app = routes_alone()
    app.add_url_rule("/v1/silent", "silent", lambda: "")
    with pytest.raises(Undeclared, match="GET /v1/silent"):
        document(app)


def test_a_route_declared_elsewhere_is_picked_up(spec):
    blueprint = Blueprint("things", __name__)

    @blueprint.get("/v1/things/<thing_id>")
    @operation(
        "One thing",
        tag="usage",
        path={"thing_id": "Its id."},
        answers={200: Json("The thing.", Thing)},
        errors=("file_not_found",),
    )
    def get_thing(thing_id):
        """What it is.

        And more.
        """

    app = routes_alone()
    app.register_blueprint(blueprint)
    found = document(app)
    said = found["paths"]["/v1/things/{thing_id}"]["get"]
    assert (said["operationId"], said["description"]) == ("get_thing", "What it is.")
    assert sorted(said["responses"]) == ["200", "401", "403", "404", "429", "500", "503", "default"]
    assert found["components"]["schemas"]["Thing"]["required"] == ["name"]
    assert [tag["name"] for tag in found["tags"]] == [tag["name"] for tag in spec["tags"]]


def test_a_path_whose_parts_are_not_described_is_an_error():
    app = routes_alone()
    app.add_url_rule("/v1/x/<x_id>", "x", operation("X", tag="runs", answers={})(lambda x_id: ""))
    with pytest.raises(Undeclared, match="x_id"):
        document(app)


def test_everything_that_is_referred_to_is_there(spec):
    for node in walk(spec):
        if isinstance(node, dict) and "$ref" in node:
            found = spec
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part]


def test_every_schema_is_one(spec):
    for schema in spec["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)
        validator(spec, schema)


def test_operations_have_names_of_their_own(spec):
    names = [said["operationId"] for item in spec["paths"].values() for said in item.values()]
    assert len(set(names)) == len(names) >= 15


def test_every_answer_names_its_request_and_every_error_has_one_shape(spec):
    for where, found in responses(spec):
        response = spec["components"]["responses"]["Error"] if "$ref" in found else found
        assert response["headers"]["x-request-id"]["$ref"], where
        if where.split(" ")[2] in {"400", "401", "404", "429", "500"}:
            if is_of_dialect(spec, where):
                schemas = [media["schema"] for media in response["content"].values()]
                assert {"$ref": "#/components/schemas/Error"} not in schemas, where
                continue
            content = response["content"]["application/json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Error"}, where
            assert content["examples"], where


def test_who_may_call(spec):
    schemes = spec["components"]["securitySchemes"]
    assert {(s["type"], s.get("scheme") or s["name"]) for s in schemes.values()} == {
        ("http", "bearer"),
        ("apiKey", "token"),
        ("apiKey", "key"),
        ("apiKey", "X-API-Key"),
        ("apiKey", "X-Runner-Api-Key"),
    }
    assert spec["paths"]["/v1/runs"]["post"]["security"] == [{"key": []}]
    assert spec["paths"]["/v1/files/{file_id}/content"]["get"]["security"] == [{"key": []}, {"link": []}]
    assert spec["paths"]["/v1/languages"]["get"]["security"] == [{}]


def test_every_code_is_in_the_guide_and_the_other_way_round():
    table = (REPO / "docs" / "api.md").read_text().split("| HTTP | `code` |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| ([0-9, ]+|in a run[^|]*) \|(.*)\|$", table, re.MULTILINE)
    words = {
        status: set(re.findall(r"`([a-z]+(?:_[a-z0-9]+)+|overloaded|interrupted)`", text)) - {"run_id"}
        for status, text in rows
    }
    guide = set().union(*words.values()) - {"queue_timeout"}
    said = {code.partition("@")[0] for code in FAULTS}
    assert said == guide
    for code, fault in FAULTS.items():
        row = next(row for row in rows if str(fault.status) in row[0])
        assert code.partition("@")[0] in row[1], code


def test_every_code_is_of_some_route(spec):
    shown = {
        name
        for _, response in responses(spec)
        for content in response.get("content", {}).values()
        for name in content.get("examples", {})
    }
    assert {code.replace("@", "_") for code in set(FAULTS) - set(ANYWHERE)} <= shown


@pytest.mark.parametrize("code", FAULTS)
def test_an_example_of_every_error(code):
    Error.model_validate(FAULTS[code].example(code))


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (Run, examples.RUN),
        (Run, examples.QUEUED),
        (File, examples.FILE),
        (LanguageList, examples.LANGUAGES),
        (Health, examples.HEALTH),
        (Health, examples.DOWN),
    ],
)
def test_examples_of_answers(model, example):
    model.model_validate(example)


@pytest.mark.parametrize("name", examples.RUN_REQUESTS)
def test_examples_of_requests(spec, name):
    parse_run(examples.RUN_REQUESTS[name])
    validator(spec, spec["components"]["schemas"]["RunIn"]).validate(examples.RUN_REQUESTS[name])


@pytest.mark.parametrize("name", ["Isolation", "Limits", "Usage", "Compile"])
def test_what_the_worker_says_of_a_run_has_a_field_in_its_model(name):
    said = [field.name for field in fields(getattr(result, name))]
    assert list(getattr(models, name).model_fields) == said


def test_the_run_has_the_fields_of_its_model():
    assert [*RUN_FIELDS, "request"] == list(Run.model_fields)


GOOD = {"language": "python", "code": "1"}


@pytest.mark.parametrize(
    ("body", "good"),
    [
        (GOOD, True),
        ({**GOOD, "entrypoint": None, "stdin": None, "files": None, "limits": {"pids": None, "cpus": 1}}, True),
        (
            {**GOOD, "files": [{"path": "a/..b", "content": ""}, {"path": "x", "id": "file_1", "content": None}]},
            True,
        ),
        ({"language": "python"}, False),
        ({**GOOD, "code": ""}, False),
        ({**GOOD, "code": None}, False),
        ({**GOOD, "entrypoint": "a", "files": [{"path": "a", "content": ""}]}, False),
        ({"language": "python", "entrypoint": "a"}, False),
        ({**GOOD, "colour": 1}, False),
        ({**GOOD, "limits": {"timeout_ms": 0}}, False),
        ({**GOOD, "limits": {"timeout_ms": 60001}}, False),
        ({**GOOD, "limits": {"timeout_ms": 1.5}}, False),
        ({**GOOD, "limits": {"cpus": True}}, False),
        ({**GOOD, "limits": {"colour": 1}}, False),
        ({**GOOD, "args": ["\0"]}, False),
        ({**GOOD, "args": ["a"] * 65}, False),
        ({**GOOD, "env": {"1A": "x"}}, False),
        ({**GOOD, "stream": True, "background": True}, False),
        ({**GOOD, "isolation": "none"}, False),
        *(
            ({**GOOD, "files": [{"path": path, "content": ""}]}, False)
            for path in ("", "/a", "a//b", "../a", "a/..", "a/./b", "a\0", "a" * 256)
        ),
        ({**GOOD, "files": [{"path": "a", "content": "", "id": "file_1"}]}, False),
        ({**GOOD, "files": [{"path": "a"}]}, False),
        ({**GOOD, "files": [{"path": "a", "content": "", "encoding": "latin-1"}]}, False),
    ],
)
def test_the_schema_of_a_request_and_the_code_agree(spec, body, good):
    assert validator(spec, spec["components"]["schemas"]["RunIn"]).is_valid(body) is good
    with nullcontext() if good else pytest.raises(ApiError):
        parse_run(body)


def test_the_model_of_a_request_has_a_rule_for_each_of_its_fields():
    schema = RunIn.model_json_schema()
    assert all(field.get("description") for field in schema["properties"].values())


def test_the_page_names_no_other_host_and_runs_nothing_else(api):
    reply = api.client.get("/docs")
    text = reply.get_data(as_text=True)
    assert (reply.status_code, reply.content_type) == (200, "text/html; charset=utf-8")
    assert "//" not in text.replace("<!doctype", "")
    assert "<style" not in text
    assert re.findall(r"<script(?! src=)", text) == []
    assert re.findall(r'\son[a-z]+="', text) == []
    policy = reply.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"unsafe|http|\*", policy)
    for address in re.findall(r'(?:src|href)="([^"]+)"', text):
        found = api.client.get(f"/{address}")
        assert (found.status_code, len(found.data) > 100) == (200, True)
        assert found.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", ["docs.html", "swagger-ui.js", "..%2f__init__.py", "%2e%2e/answers.py", "x"])
def test_nothing_else_is_served_beside_it(api, name):
    reply = api.client.get(f"/docs/{name}")
    assert reply.status_code == 404
    assert reply.json["error"]["code"] == "not_found"
