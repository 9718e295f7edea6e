"""Encode a job as JSON-ready data, and decode it as if its sender were hostile.

The type of every field is checked; none is guessed.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from protocol.function import RETURNS
from protocol.job import Job, JobFile, JobInput
from protocol.limits import JobInvalid
from protocol.network import decode_network, encode_network
from protocol.package_names import decode_packages

if TYPE_CHECKING:
    from collections.abc import Iterable

_TEXT = ("run_id", "language", "stdin", "key", "session", "outputs", "context", "handler")
_OPTIONAL_TEXT = ("code", "entrypoint")
#: The fields with a few values, the default first.
_CHOICES = (
    ("isolation", ("default", "container", "gvisor")),
    ("interpreter", ("warm", "cold")),
    ("returns", RETURNS),
)
#: For the log and the traces: not worth a refusal, and not taken when it is not what it should be.
_MARKS = {"request_id": re.compile(r"[A-Za-z0-9._-]{1,64}"), "traceparent": re.compile(r"[0-9a-f-]{55}")}


def encode_job(job: Job) -> dict[str, Any]:
    """Return the job as JSON-ready data; file contents as base64."""
    data = {name: getattr(job, name) for name in Job.__slots__ if name != "files"}
    data["args"] = list(job.args)
    data["packages"] = list(job.packages)
    data["network"] = encode_network(job.network)
    data["inputs"] = encode_inputs(job.inputs)
    data["files"] = [{"path": f.path, "content": base64.b64encode(f.content).decode()} for f in job.files]
    return data


def decode_job(data: object) -> Job:
    """Return the job that `encode_job` encoded. Raises JobInvalid, which names the field, for anything else.

    The meaning of the values is checked by the worker's execution plan.
    """
    if not isinstance(data, dict):
        raise JobInvalid("a job must be an object", param=None, code="invalid_type")
    unknown = set(data) - set(Job.__slots__)
    if unknown:
        raise JobInvalid("a job has an unknown field", param=None, code="unknown_field")
    values: dict[str, Any] = {}
    for name in _TEXT:
        values[name] = _text(name, data.get(name, ""))
    for name in _OPTIONAL_TEXT:
        value = data.get(name)
        values[name] = None if value is None else _text(name, value)
    for name, allowed in _CHOICES:
        value = data.get(name, allowed[0])
        if value not in allowed:
            raise JobInvalid(f"{name}: must be one of {', '.join(filter(None, allowed))}", param=name)
        values[name] = value
    for name in ("live", "ends_when_cut", "stdin_open", "results", "executable"):
        if not isinstance(flag := data.get(name, False), bool):
            raise JobInvalid(f"{name}: must be true or false", param=name, code="invalid_type")
        values[name] = flag
    for name, pattern in _MARKS.items():
        text = _text(name, data.get(name, ""))
        values[name] = text if pattern.fullmatch(text) else ""
    for name in ("most_running", "most_waiting"):
        values[name] = _share(name, data.get(name))
    values["args"] = tuple(_text(f"args.{n}", v) for n, v in enumerate(_list("args", data.get("args", []))))
    values["packages"] = decode_packages(data.get("packages", []))
    values["env"] = {_text("env", k): _text(f"env.{k}", v) for k, v in _dict("env", data.get("env", {})).items()}
    for name in ("limits", "compile_limits"):
        values[name] = dict(_dict(name, data.get(name, {})))
    files = _list("files", data.get("files", []))
    values["files"] = tuple(_file(n, item) for n, item in enumerate(files))
    values["inputs"] = decode_inputs(data.get("inputs", []))
    values["network"] = decode_network(data.get("network"))
    return Job(**values)


def decode_inputs(data: object) -> tuple[JobInput, ...]:
    """Return the stored files that `encode_inputs` encoded. Raises JobInvalid, which names the field."""
    return tuple(_input(number, item) for number, item in enumerate(_list("inputs", data)))


def encode_inputs(inputs: Iterable[JobInput]) -> list[dict[str, Any]]:
    """Return stored files as JSON-ready data."""
    return [asdict(item) for item in inputs]


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise JobInvalid(f"{name}: must be a string", param=name, code="invalid_type")
    return value


def _share(name: str, value: object) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise JobInvalid(f"{name}: must be a number of runs", param=name, code="invalid_type")
    return value


def _list(name: str, value: object) -> list[object]:
    if not isinstance(value, list):
        raise JobInvalid(f"{name}: must be a list", param=name, code="invalid_type")
    return value


def _dict(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise JobInvalid(f"{name}: must be an object", param=name, code="invalid_type")
    return value


def _file(number: int, value: object) -> JobFile:
    item = _dict(f"files.{number}", value)
    path = _text(f"files.{number}.path", item.get("path"))
    try:
        content = base64.b64decode(_text(f"files.{number}.content", item.get("content")), validate=True)
    except binascii.Error as e:
        name = f"files.{number}.content"
        raise JobInvalid(f"{name}: is not base64", param=name) from e
    return JobFile(path=path, content=content)


def _input(number: int, value: object) -> JobInput:
    where = f"inputs.{number}"
    item = _dict(where, value)
    area: Any = item.get("area")
    size = item.get("size")
    if area not in {"upload", "artifact"}:
        raise JobInvalid(f"{where}.area: must be upload or artifact", param=f"{where}.area")
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise JobInvalid(f"{where}.size: must be a size", param=f"{where}.size", code="invalid_type")
    path, sha256 = (_text(f"{where}.{name}", item.get(name)) for name in ("path", "sha256"))
    return JobInput(path=path, area=area, sha256=sha256, size=size)
