"""Add to the schema of a run's request the rules that `api.runs.requests` checks by hand.

They are checked there for the sake of their messages and of bounds in bytes; here they are written down for
readers of the document and generators of clients, from the same constants. Rules that JSON Schema cannot express
(a path given twice, `entrypoint` as one of the files, all files together) are in the descriptions.
"""

from __future__ import annotations

from typing import Any

from protocol.job import MAX_CODE_BYTES, MAX_METADATA_BYTES, MAX_PATH_BYTES, MAX_STDIN_BYTES, MAX_STRING_BYTES
from protocol.limits import LIMIT_RULES, LimitRule
from protocol.packages import MAX_PACKAGE_BYTES

_NULL = {"type": "null"}
#: No empty part, no `.`, no `..`, no NUL, not absolute; a part of at most 255.
_PART = r"(?!\.{1,2}(/|$))[^/\x00]{1,255}"
_PATH = {"type": "string", "pattern": f"^{_PART}(/{_PART})*$", "maxLength": MAX_PATH_BYTES}
_NO_NUL = r"^[^\x00]*$"
#: Roughly: whether labels, numbers and addresses are well-formed is in words.
_PATTERN = {"type": "string", "pattern": r"^[a-z0-9_.*:\[\]-]+$", "maxLength": 300}


def file(schema: dict[str, Any]) -> None:
    """Add the rules of a file, in place."""
    fields = schema["properties"]
    fields["path"] = _PATH | {
        "description": "Relative to /work; with an `id` relative to /work/inputs, unless `root` is `work`."
    }
    _describe(fields, "root", "Of a file with an `id`: the directory that `path` is relative to. Default: inputs.")
    _describe(fields, "content", "The content, as text or base64.")
    _describe(
        fields,
        "encoding",
        "The encoding of `content`. Default: utf-8. base64 must be padded and without white space.",
    )
    _describe(fields, "id", "The id of an uploaded file, or of an artifact of an earlier run.")
    schema["oneOf"] = [
        {"required": ["content"], "properties": {"content": {"type": "string"}, "id": _NULL}},
        {"required": ["id"], "properties": {"id": {"type": "string"}, "content": _NULL, "encoding": _NULL}},
    ]


def network(schema: dict[str, Any]) -> None:
    """Add the rules of the network's patterns, in place."""
    fields = schema["properties"]
    for name in ("allow", "deny"):
        fields[name]["anyOf"][0]["items"] = _PATTERN
    _describe(
        fields,
        "allow",
        "Hosts that may be reached: `name`, `*.name`, `*`, or an address, with `:port` or on 80 and 443. "
        "Default: none.",
    )
    _describe(fields, "deny", "Hosts that may not be reached although `allow` names them; without a port on every.")


def packages(schema: dict[str, Any]) -> None:
    """Add the rules of the packages that all ecosystems share, in place."""
    schema["items"] = {"type": "string", "minLength": 1, "maxLength": MAX_PACKAGE_BYTES, "pattern": r"^[ -~]+$"}


def run(schema: dict[str, Any]) -> None:
    """Add the rules of a run's request, in place."""
    program(schema)
    fields = schema["properties"]
    argument = {"type": "string", "maxLength": MAX_STRING_BYTES, "pattern": _NO_NUL}
    fields["args"]["anyOf"][0]["items"] = argument
    _describe(fields, "args", f"Each at most {MAX_STRING_BYTES} bytes, without NUL.")
    fields["stdin"] = _or_null({"type": "string", "maxLength": MAX_STDIN_BYTES}, "The program's standard input.")
    fields["stdin_open"] = _or_null(
        {"type": "boolean"}, "Leave the input open behind `stdin`, for `POST /v1/runs/{id}/stdin`."
    )
    _describe(fields, "background", "Return immediately with 202 and the queued run.")
    _describe(
        fields, "isolation", "`container` always uses a new container; `gvisor` uses gVisor, if the service has it."
    )
    fields["outputs"] = outputs()
    _describe(fields, "network", "The hosts that the program may reach through the proxy. Default: none.")
    _describe(
        fields,
        "results",
        "Execute `code` as a cell: its last value, figures and tables are `results`, an exception is `exception`. "
        "Not together with `entrypoint`, `args` or `stdin_open`; for the languages whose `results` is true.",
    )
    _describe(
        fields, "metadata", f"Your own labels; name and value together have at most {MAX_METADATA_BYTES} bytes."
    )


def program(schema: dict[str, Any]) -> None:
    """Add the rules of a program and how it is answered, which a run and a function have, in place."""
    fields = schema["properties"]
    fields["language"]["description"] = "The id or an alias of a language in `GET /v1/languages`."
    fields["code"] = _or_null(
        {"type": "string", "minLength": 1, "maxLength": MAX_CODE_BYTES},
        f"The program, written to the language's entry file. At most {MAX_CODE_BYTES} bytes.",
    )
    fields["entrypoint"] = _or_null(_PATH, "Instead of `code`: the path of one of the inline files.")
    _describe(fields, "files", "No path twice, none of the entry file with `code`, none both file and folder.")
    variables = fields["env"]["anyOf"][0]
    variables["propertyNames"] = {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}
    variables["additionalProperties"] = {"type": "string", "pattern": _NO_NUL}
    _describe(fields, "env", f"Name and value together at most {MAX_STRING_BYTES} bytes, without NUL.")
    schema["oneOf"] = [
        {"required": ["code"], "properties": {"code": {"type": "string"}, "entrypoint": _NULL}},
        {
            "required": ["entrypoint", "files"],
            "properties": {"entrypoint": {"type": "string"}, "code": _NULL, "files": {"type": "array"}},
        },
    ]
    answer(schema)


def answer(schema: dict[str, Any]) -> None:
    """Add the rules of limits and of how the answer comes, in place."""
    fields = schema["properties"]
    fields["limits"] = _or_null(
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: _or_null(_limit(rule), rule.sentence) for name, rule in LIMIT_RULES.items()},
        },
        "Absent or null limits have their defaults.",
    )
    _describe(fields, "stream", "Return the events as they happen. Cannot be combined with `background`.")
    schema["not"] = {
        "required": ["stream", "background"],
        "properties": {"stream": {"const": True}, "background": {"const": True}},
    }


def outputs() -> dict[str, Any]:
    """Return the schema of the directory of artifacts."""
    return _or_null(
        {"anyOf": [_PATH, {"const": "."}]},
        "The directory beneath /work whose new or changed files are artifacts. Default: outputs. `.` is /work "
        "without `inputs` and without names that begin with a dot.",
    )


def _limit(rule: LimitRule) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "integer" if rule.integer else "number",
        "minimum": rule.number(rule.minimum),
        "maximum": rule.number(rule.ceiling),
    }
    return schema if rule.default is None else schema | {"default": rule.number(rule.default)}


def _or_null(schema: dict[str, Any], description: str | None = None) -> dict[str, Any]:
    return {"anyOf": [schema, _NULL]} | ({"description": description} if description else {})


def _describe(fields: dict[str, Any], name: str, text: str) -> None:
    fields[name]["description"] = text
