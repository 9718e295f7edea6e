"""The client without its sockets: each operation yields its next step to a driver.

Every operation of the client is written once, as a generator of steps. A driver, one for threads (`_sync`) and one
for asyncio (`_aio`), takes each step, sends its outcome back in, and throws ConnectionFailed in where there was no
answer. So retries, resuming and parsing are the same code for both clients.

    Send(call)   → Reply, whole
    Open(call)   → Reply; of a 2xx the body is still to come
    Chunk()      → the next bytes of what was opened, None at its end
    Close()      → None: the opened reply is done with
    Pause(s)     → None, after that many seconds
    Emit(event)  → None: hand this to the one who iterates
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeVar

from runyard.errors import ProtocolError, RunyardError
from runyard.models import Event

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to be sent as multipart, under a name; `content` is read from its start at each attempt."""

    name: str
    content: BinaryIO
    purpose: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `safe`: a repetition has no further effect."""

    method: str
    path: str
    #: A sequence is a parameter that is given several times.
    query: Mapping[str, str | int | Sequence[str]] = field(default_factory=dict)
    body: bytes | None = None
    upload: Upload | None = None
    #: A file that is the body as it is.
    content: Upload | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    safe: bool = True
    #: False for a signed link, which must not get the key.
    with_key: bool = True
    #: Seconds without a byte before it counts as lost; None is the client's own.
    silence_s: float | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def json(self) -> Any:  # noqa: ANN401  # any JSON
        """Parse the body as JSON. Raises ProtocolError."""
        return parsed(self.body)


@dataclass(frozen=True, slots=True)
class Send:
    call: Call


@dataclass(frozen=True, slots=True)
class Open:
    call: Call


@dataclass(frozen=True, slots=True)
class Chunk:
    pass


@dataclass(frozen=True, slots=True)
class Close:
    pass


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Emit:
    event: Event


@dataclass(frozen=True, slots=True)
class Finished:
    """The step that a driver gets when an operation has returned."""

    result: Any


Step = Send | Open | Chunk | Close | Pause | Emit
#: An operation: yields steps, is sent their outcomes, returns its result.
Operation = Generator[Step, Any, T]
#: Called for every lost connection with the error and the seconds until the next attempt.
Notice = Callable[[RunyardError, float], None]


def parsed(text: bytes) -> Any:  # noqa: ANN401  # any JSON
    """Parse JSON of the service. Raises ProtocolError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as e:
        raise ProtocolError("the response is not JSON; is this the address of the service?") from e
