"""A check of our own for schemathesis, in place of its `positive_data_acceptance`.

A request that keeps the schema may still be refused, but only for what no schema says: which languages and files
there are, what two fields say of each other, and sizes that are counted in bytes.
"""

from __future__ import annotations

import re
from collections import deque

import requests
import schemathesis
from schemathesis import GenerationMode

BEYOND_A_SCHEMA = {
    "unknown_language",
    "invalid_cursor",
    "file_not_found",
    "duplicate_path",
    "invalid_base64",
    "invalid_path",  # `inputs` and `outputs` themselves, and parts counted in bytes
    "too_long",
    "files_too_large",
    "not_supported",  # gvisor, where the service has none
    "invalid_archive",  # bytes that are no tar
    "invalid_package",  # an entry of a registry's own form, which differs between languages
    "package_not_allowed",  # as the service is set
    "invalid_input",  # by the schema of the function that is called
}
#: `entrypoint` is one of the inline files; and 13.0 is an integer to JSON Schema, but not to this API.
MESSAGES = re.compile(
    r"entrypoint: must be the path of one of the inline files|[a-z_.]+: must be an integer"
    # A session has some of what a run asks for, and takes some that a run has not.
    r"|(limits\.[a-z_]+|isolation|network|packages|stdin_open): is the session's|language: this session's is [a-z]+"
    r"|stdin_open: not together with stdin, which ends the input|stream: not together with (background|wait)"
    r"|files\.\d+\.root: only of a file with an id"
    r"|limits\.disk_mb: \d+ exceeds \d+, the maximum for memory_mb \d+"
    # A function's name in the path; and which JSON is a schema of its own.
    r"|name: must be 1 to 64 letters, digits, _ or -|input_schema: .*|files\.\d+\.id: the files of a function are .*"
    # Patterns of hosts: canonical addresses, and the labels of names.
    r"|network\.(allow|deny)\.\d+: .*",
    re.ASCII,
)

#: Each holds memory for as long as it lives, and there is a 503 for the one that finds none left.
MOST_SESSIONS = 3
CREATING = {"POST /v1/sessions": 201, "POST /v1/sandboxes": 201, "POST /api/sessions": 200}
sessions: deque[str] = deque()


@schemathesis.hook
def after_call(_context, case, response):
    """End the oldest session when there are more than the service has room for."""
    # A method that is none of these has the same label.
    if response.request.method != "POST" or response.status_code != CREATING.get(case.operation.label):
        return
    made = response.json()
    found = made.get("data", made)
    where = response.request.url.partition("?")[0]
    sessions.append(f"{where}/{found['id'] if 'id' in found else found['sessionId']}")
    if len(sessions) > MOST_SESSIONS:
        sent = response.request.headers
        key = {name: sent[name] for name in ("Authorization", "X-API-Key") if name in sent}
        requests.delete(sessions.popleft(), headers=key, timeout=60)


@schemathesis.hook
def filter_body(_context, body):
    """In a form everything is text: a purpose that is a number by intention is not one when it arrives."""
    return not isinstance(body, dict) or isinstance(body.get("purpose", ""), str)


@schemathesis.serializer("application/x-tar")
def bytes_as_they_are(_context, value):
    """Send an archive as the bytes that were generated: nearly none of them is one."""
    return value.encode() if isinstance(value, str) else value


@schemathesis.check
def refused_only_for_what_no_schema_says(_context, response, case):
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE or response.status_code != 400:
        return
    # Another service's errors have none of these codes, and most are of unknown languages.
    if not response.headers["content-type"][0].startswith("application/json"):
        return
    body = response.json()
    if list(body) in (["message"], ["error", "message"]) or "requestId" in body.get("error", {}):
        return
    error = body["error"]
    assert error["code"] in BEYOND_A_SCHEMA or MESSAGES.fullmatch(error["message"]), error
