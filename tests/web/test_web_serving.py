"""How the page is served: safe by its headers, cheap to fetch again, and nothing else than the page."""

from __future__ import annotations

import gzip
import re

import pytest

from tests.support.service import REPO

STATIC = REPO / "web" / "admin" / "static"
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}


def test_the_page_is_there_without_a_token_and_what_was_built(service):
    reply = service.get("/", token=None)
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert reply.raw == (STATIC / "index.html").read_bytes()


def test_the_policy_lets_in_only_what_came_with_the_page(service):
    headers = service.get("/", token=None).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert {name: policy[name] for name in POLICY} == POLICY
    assert "unsafe" not in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


def test_nothing_is_fetched_from_elsewhere(service):
    page = service.get("/", token=None).raw.decode()
    assert re.findall(r"(?:https?:)?//\w", page) == []
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", page) == []


@pytest.mark.parametrize("path", sorted(path.name for path in (STATIC / "assets").iterdir()))
def test_every_asset_is_served_as_it_is_and_fetched_once(service, path):
    content = (STATIC / "assets" / path).read_bytes()
    plain = service.get(f"/assets/{path}", token=None)
    packed = service.get(f"/assets/{path}", {"Accept-Encoding": "gzip"}, token=None)
    assert plain.raw == content
    assert (packed.headers["content-encoding"], gzip.decompress(packed.raw)) == ("gzip", content)
    assert plain.headers["etag"] != packed.headers["etag"]
    assert ("immutable" in plain.headers["cache-control"]) == ("-" in path)
    again = service.get(f"/assets/{path}", {"If-None-Match": plain.headers["etag"]}, token=None)
    assert (again.status, again.raw) == (304, b"")


@pytest.mark.parametrize(
    "path", ["nothing.js", "..%2findex.html", "../pyproject.toml", "%2e%2e/%2e%2e/__init__.py", ""]
)
def test_nothing_else_is_there(service, path):
    reply = service.get(f"/assets/{path}", token=None)
    assert (reply.status, reply.body["error"]["code"]) == (404, "not_found")


def test_the_page_is_only_read(service):
    reply = service.post("/", json={}, token=None)
    assert (reply.status, reply.body["error"]["code"]) == (405, "method_not_allowed")
