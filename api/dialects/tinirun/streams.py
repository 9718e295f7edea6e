"""Turn the events of runs into tinirun's chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from api.dialects.flat_result import FlatResult
from api.dialects.tinirun import chunks
from api.dialects.tinirun.answers import NOT_BUILT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from api.dialects.tinirun.chunks import Chunk, Media
    from api.runs.events import Message

#: The first chunk of every stream: the image of the language was found ready.
CHECKING = "Checking base image..."
_PHASES = {"compile": "Compiling...", "run": "Running..."}


def result_fields(document: dict[str, Any]) -> tuple[str, str, int | None, bool]:
    """Return stdout, stderr, exit code and whether time ran out. A call's output is the end of its stdout."""
    flat = FlatResult.of(document)
    stdout = flat.stdout
    if (output := document.get("output")) is not None and document["language"] != "bash":
        stdout += output_text(output)
    return stdout, flat.stderr, None if flat.timed_out else flat.exit_code, flat.timed_out


def output_text(output: object) -> str:
    """Return a handler's output as a program would print it."""
    return f"{output if isinstance(output, str) else orjson.dumps(output).decode()}\n"


def run_chunks(messages: Iterable[Message | None]) -> Iterator[Chunk | None]:
    """Yield the chunks of a run; None where there is nothing yet."""
    yield from chunks.texts("info", CHECKING)
    for message in messages:
        if message is None:
            yield None
        elif message["event"] == "result":
            yield from _run_end(document_of(message["data"]))
        elif message["event"] == "error":
            yield _run_error(message["data"])
        else:
            yield from _progress(message)


def build_chunks(
    messages: Iterable[Message | None], built: Callable[[], Mapping[str, Any]]
) -> Iterator[Chunk | None]:
    """Yield the chunks of a function's build; `built` returns the function, once it is built."""
    yield from chunks.texts("info", CHECKING)
    for message in messages:
        if message is None:
            yield None
        elif message["event"] in ("result", "error"):
            found = built()
            if found["state"] != "ready":
                yield chunks.build_failed(NOT_BUILT, found["log"])
                return
            yield from chunks.texts("info", f"Version {found['version']} of {found['name']} is ready.")
            yield from chunks.result(found["log"], "", 0, timeout=False)
        else:
            yield from _progress(message)


def encoded(found: Iterator[Chunk | None], media: Media) -> Iterator[bytes]:
    """Encode chunks; nothing yet as nothing."""
    for chunk in found:
        yield b"" if chunk is None else chunks.encode(chunk, media)


def document_of(data: Any) -> dict[str, Any]:  # noqa: ANN401  # a document, or one that is encoded already
    """Return the run's document in an event's data."""
    found: dict[str, Any] = orjson.loads(orjson.dumps(data))
    return found


def _progress(message: Message) -> Iterator[Chunk]:
    kind, data = message["event"], message["data"]
    if kind in ("stdout", "stderr"):
        yield from chunks.texts(kind, data)
    elif kind == "info" and "output" in data:
        yield from chunks.texts("info", data["output"].rstrip("\n"))
    elif kind == "info" and data.get("status") == "queued":
        yield from chunks.texts("info", "Waiting for a sandbox...")
    elif kind == "phase":
        yield from chunks.texts("info", _PHASES.get(data["name"], data["name"]))
    elif kind == "keepalive":
        yield from chunks.texts("debug", "The program is still running.")


def _run_end(document: dict[str, Any]) -> Iterator[Chunk]:
    stdout, stderr, code, late = result_fields(document)
    # Those of a compiler that failed, and a call's output, are no events of the run.
    yield from chunks.texts("stdout", stdout[len(document["stdout"]) :])
    compiled = stderr.removesuffix(document["stderr"]) if stderr != document["stderr"] else ""
    yield from chunks.texts("stderr", compiled)
    yield from chunks.result(stdout, stderr, code, timeout=late)


def _run_error(error: dict[str, Any]) -> Chunk:
    if error["code"] in ("package_not_found", "package_build_failed"):
        return chunks.build_failed("The dependencies could not be installed.", error["message"])
    return chunks.failed(error["message"])
