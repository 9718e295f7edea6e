"""The keys of runakode's `config.yaml` that a settings file may have: the setting of each, and its unit.

runakode gives times in seconds, processors and memory as `docker run` reads them (`--cpus`, `-m`), and the limits
of a job for its own API alone; they are those of its clients here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from config.allowed import LARGEST

#: The table of the broker, whose keys are shown as `rabbitmq.url` and `rabbitmq.queue`.
BROKER_TABLE = "rabbitmq"
#: Accepted and unused: the images of sandboxes are built here.
UNUSED_KEY = "sandboxImages"
UNUSED_REASON = "has no effect: the images of sandboxes are built here (RUNNER_IMAGE_<LANG> names one of your own)"

_SIZE = re.compile(r"(\d{1,15})\s*([bkmgBKMG]?)")
_NUMBER = re.compile(r"\d{1,6}(\.\d{1,6})?|\.\d{1,6}")
_FACTORS = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class RunakodeKey:
    """One key: our setting in lower case, and the conversion of a value that is in another unit or type.

    `convert` returns the setting's value, None for a value of another type. `form` describes the values that it
    takes; `scale` is one of its units in ours and `unit` its name, for the bounds.
    """

    setting: str
    convert: Callable[[object], int | float | None] | None = None
    form: str = ""
    scale: float = 1
    unit: str = ""


def _number(value: object) -> float | None:
    """Return a finite number; one that is out of every bound stays so. None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return float(max(-LARGEST, min(value, LARGEST)))


def _milliseconds(value: object) -> int | None:
    seconds = _number(value)
    return None if seconds is None else math.ceil(seconds * 1000)


def _processors(value: object) -> float | None:
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value.strip()) else None
    return _number(value)


def _mebibytes(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(min(abs(value), LARGEST)) if value >= 0 else "-"
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    # Half a mebibyte is no limit that can be set: rounded down, so that no job gets more.
    return None if found is None else int(found[1]) * _FACTORS[found[2].lower()] // _MIB


RUNAKODE_KEYS: Mapping[str, RunakodeKey] = {
    "address": RunakodeKey("bind"),
    "rabbitmq.url": RunakodeKey("amqp_url"),
    "rabbitmq.queue": RunakodeKey("amqp_queue"),
    "supportedLanguages": RunakodeKey("languages"),
    "apiTimeout": RunakodeKey("queue_wait_s"),
    "maxWorkers": RunakodeKey("max_runs"),
    "jobCpu": RunakodeKey("runakode_cpus", _processors, 'processors as docker\'s --cpus has them, 0.5 or "0.5"'),
    "jobMemory": RunakodeKey(
        "runakode_memory_mb", _mebibytes, 'a size as docker\'s -m has it, "256m" or "1g"', unit=" MiB"
    ),
    "jobTimeout": RunakodeKey("runakode_timeout_ms", _milliseconds, "a number of seconds", 1000),
    "outputMaxBytes": RunakodeKey("runakode_output_bytes"),
}
