"""Links put into run documents at each reading."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.files.links import ArtifactLinkSigner
from api.http.forwarded import origin
from api.openapi.models import Run
from storage.links import Links

NOW_S = 1_700_000_000
LINKS = Links(("k" * 48,), base_url="http://fallback.example", ttl_s=600, now=lambda: NOW_S)
HOUR_LATER_MS = (NOW_S + 3600) * 1000
TEXT = st.text(max_size=40) | st.sampled_from(
    ['"artifacts":[{', '"artifacts":[]', ',"skipped_artifacts":', '\\"artifacts":[', '],"skipped_artifacts":[']
)


def artifact(name="a", until_ms=HOUR_LATER_MS):
    return {"id": "file_1", "name": name, "path": name, "url": None, "expires_at": until_ms}


def document(artifacts, **fields):
    run = {"id": "run_1", "stdout": "", "artifacts": artifacts, "skipped_artifacts": [], "metadata": {}}
    return orjson.dumps(run | fields)


def test_each_artifact_gets_a_link_that_opens_it():
    signed = orjson.loads(ArtifactLinkSigner(LINKS, "https://runs.example").document(document([artifact()])))
    (found,) = signed["artifacts"]
    address = urlsplit(found["url"])
    assert (address.scheme, address.netloc, address.path) == ("https", "runs.example", "/v1/files/file_1/content")
    assert LINKS.verify("file_1", parse_qs(address.query)["token"][0]) == 600
    assert found["expires_at"] == datetime.fromtimestamp(NOW_S + 600, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def test_a_link_ends_with_its_file():
    signed = ArtifactLinkSigner(LINKS).artifact(artifact(until_ms=(NOW_S + 5) * 1000))
    token = parse_qs(urlsplit(signed["url"]).query)["token"][0]
    assert LINKS.verify("file_1", token) == 5


def test_a_file_that_was_forgotten_has_no_link():
    signed = ArtifactLinkSigner(LINKS).artifact(artifact(until_ms=NOW_S * 1000))
    assert (signed["url"], signed["expires_at"]) == (None, None)


def test_a_run_without_artifacts_is_answered_as_it_is():
    plain = document([])
    assert ArtifactLinkSigner(LINKS).document(plain) is plain


@given(st.lists(TEXT, max_size=3), TEXT, st.dictionaries(TEXT | st.just("artifacts"), TEXT, max_size=3), TEXT)
def test_no_text_of_a_run_is_mistaken_for_its_artifacts(names, stdout, metadata, skipped):
    run = document(
        [artifact(name) for name in names],
        stdout=stdout,
        metadata=metadata,
        skipped_artifacts=[{"path": skipped, "reason": "symlink"}],
    )
    signer = ArtifactLinkSigner(LINKS)
    expected = orjson.loads(run)
    expected["artifacts"] = [signer.artifact(item) for item in expected["artifacts"]]
    assert orjson.loads(signer.document(run)) == expected


@pytest.mark.parametrize("placed", ["note", "skipped_artifacts", "artifacts_total"])
@pytest.mark.parametrize("value", ["]}", ["é", [1]], {"a": [{}]}, None])
def test_any_field_may_stand_behind_the_artifacts(placed, value):
    fields = {"stdout": "é", "artifacts": [artifact("é"), artifact('"]')], placed: value, "metadata": {"é": "é"}}
    signer = ArtifactLinkSigner(LINKS)
    signed = orjson.loads(signer.document(orjson.dumps(fields)))
    assert signed == fields | {"artifacts": [signer.artifact(item) for item in fields["artifacts"]]}
    assert list(signed) == list(fields)


def test_a_run_has_one_list_called_artifacts():
    definitions = Run.model_json_schema()["$defs"]
    assert "artifacts" in Run.model_fields
    assert [name for name, model in definitions.items() if "artifacts" in model.get("properties", ())] == []


@pytest.mark.parametrize("host", ["runs.example", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "a_b-c.example"])
def test_the_host_that_was_asked_is_in_the_links(host):
    assert origin("http", host) == f"http://{host}"


@pytest.mark.parametrize(
    "host", ["", "a b", "a/b", "a@b", "a:b", 'a"', "a#", "a\n", "é.example", "a" * 300, "x:1:2"]
)
def test_a_host_that_is_none_is_not_repeated(host):
    assert origin("http", host) is None


@pytest.mark.parametrize("own", [[], [artifact()]])
@pytest.mark.parametrize("name", ["results", "output"])
def test_a_list_of_artifacts_that_a_program_made_is_not_taken_for_the_runs(own, name):
    forged = {"artifacts": [artifact("of another"), 1], "_": {"artifacts": []}}
    fields = {name: [{"json": forged}] if name == "results" else forged, "error": None}
    signer = ArtifactLinkSigner(LINKS)
    signed = orjson.loads(signer.document(document(own, **fields)))
    assert signed[name] == fields[name]
    assert signed["artifacts"] == [signer.artifact(item) for item in own]
