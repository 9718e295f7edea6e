"""Functions: the bounds of a call, and the places in its sandbox that its driver and the worker know."""

from __future__ import annotations

from typing import Literal, get_args

from protocol.limits import KIB, MIB

#: The most bytes of a call's input and of its output, as JSON.
MAX_INPUT_BYTES = MIB
MAX_OUTPUT_BYTES = MIB
#: The most bytes of the schema that inputs must match, as JSON.
MAX_SCHEMA_BYTES = 64 * KIB
#: The form in which a handler's output leaves its sandbox: JSON or text in a file, or all that it has printed.
#: Empty for a run that is no call.
Returns = Literal["", "json", "text", "stdout"]
RETURNS: tuple[str, ...] = get_args(Returns)
#: Directory of files that the service puts beside those of a function, beneath /work.
RESERVED = ".runyard"
#: The input of a call, beneath /work.
INPUT_PATH = f"{RESERVED}/input"
#: The program of a compiled function, beneath /work.
PROGRAM_PATH = f"{RESERVED}/program"
#: The file of the output, beneath the directory of artifacts. It comes first in the order of names, and no artifact
#: can have a name that is not printable.
OUTPUT_NAME = "\x01output"
