"""The output of a function: checked, and put into the result of its run as JSON on one line.

The output is a claim of the program: it is bounded, it must be JSON or text, and a run whose handler left none has
failed, also with exit code 0.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from protocol.function import MAX_OUTPUT_BYTES
from protocol.kernel import ExceptionFacts

if TYPE_CHECKING:
    from protocol.function import Returns
    from protocol.result import Result
    from sandbox.agent_client.output_file import OutputFile

#: Parsed JSON can take fifty times its own size: outputs are parsed one at a time.
_PARSING = threading.Lock()
_LINE_ENDS = bytes.maketrans(b"\n\r", b"  ")
_TOO_LARGE = f"the output of the handler has more than {MAX_OUTPUT_BYTES} bytes"
_NONE = "the handler ended without an output: it ended the process, or removed /work/outputs"


class OutputInvalid(ValueError):
    """A handler left no output that can be used. `name` is the kind of mistake."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def with_output(result: Result, returns: Returns, file: OutputFile | None) -> Result:
    """Return the result of a call with its output; it is `failed` if there is none that can be used.

    `file` is where the output is, unless the handler prints it.
    """
    if not returns or result.status != "succeeded":
        return result
    try:
        data = _printed(result) if returns == "stdout" else _written(file)
        output = json_output(data) if returns == "json" else text_output(data)
    except OutputInvalid as e:
        return replace(result, status="failed", exception=ExceptionFacts(e.name, str(e), ()))
    return replace(result, output=output)


def json_output(data: bytes) -> str:
    """Return JSON as it may stand on one line of a stream. Raises OutputInvalid.

    Its bytes are kept as they are, and so its numbers: only line ends change, which JSON has between values alone.
    """
    with _PARSING:
        try:
            orjson.loads(data)
        except orjson.JSONDecodeError as e:
            message = "the output of the handler is not JSON, or is nested too deep"
            raise OutputInvalid("OutputInvalid", message) from e
    return data.translate(_LINE_ENDS).decode()


def text_output(data: bytes) -> str:
    """Return a text as JSON, without one final newline; a byte that is not UTF-8 becomes U+FFFD.

    Raises OutputInvalid.
    """
    if len(data) > MAX_OUTPUT_BYTES:
        raise OutputInvalid("OutputTooLarge", _TOO_LARGE)
    return orjson.dumps(data.decode("utf-8", "replace").removesuffix("\n")).decode()


def _printed(result: Result) -> bytes:
    if result.stdout_truncated:
        raise OutputInvalid("OutputTooLarge", _TOO_LARGE)
    return result.stdout.encode()


def _written(file: OutputFile | None) -> bytes:
    if file is not None and (file.is_too_large or file.skipped == "too_large"):
        raise OutputInvalid("OutputTooLarge", _TOO_LARGE)
    data = None if file is None else file.whole()
    if data is None:
        raise OutputInvalid("OutputMissing", _NONE)
    return data
