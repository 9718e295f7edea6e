"""The limits of a run: their table, and the check of requested values."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Mapping

KIB = 1024
MIB = 1024 * KIB


class JobInvalid(ValueError):
    """A job that breaks a rule of API.md. The message is for the client; `param` names the field."""

    def __init__(self, message: str, *, param: str | None, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


Unit = Literal["ms", "MiB", "CPUs", "processes", "bytes", "files"]


@dataclass(frozen=True, slots=True)
class LimitRule:
    """Describe one limit: all that anything but its enforcement has to know of it.

    `default` is None where it depends on the other limits (`cpu_ms` = timeout × cpus) or on the language (`pids`).
    `frame` is the form of the JOB frame's field of the same name, None where the host alone enforces the limit.
    """

    default: float | None
    minimum: float
    ceiling: float
    unit: Unit
    sentence: str
    frame: Literal["number"] | None = None
    #: Taken from the field of `Limits` that has the row.
    name: str = ""
    integer: bool = True

    def number(self, value: float) -> int | float:
        """Return `value` in the limit's own type."""
        return int(value) if self.integer else float(value)


def _row(
    default: float | None,
    minimum: float,
    ceiling: float,
    unit: Unit,
    sentence: str,
    frame: Literal["number"] | None = None,
) -> dict[str, LimitRule]:
    """Make the metadata of a field of `Limits`."""
    return {"rule": LimitRule(default, minimum, ceiling, unit, sentence, frame)}


DEFAULT_PIDS = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """Hold every limit of one run, resolved: nothing is left to a default.

    The fields are the table of limits, one row each: name, default, minimum, ceiling, unit, sentence, and the form
    in the JOB frame if the agent has to know it. All else is made of the rows (`LIMIT_RULES`) or compared with them
    by a test: docs/add-a-limit.md.
    """

    timeout_ms: int = field(metadata=_row(10_000, 1, 60_000, "ms", "Wall clock time."))
    cpu_ms: int = field(metadata=_row(None, 1, 120_000, "ms", "CPU time of all processes together."))
    memory_mb: int = field(metadata=_row(256, 16, 2_048, "MiB", "Memory of all processes and files together."))
    cpus: float = field(metadata=_row(1.0, 0.1, 2.0, "CPUs", "Processors in use at the same time."))
    pids: int = field(metadata=_row(None, 1, 512, "processes", "Processes and threads at the same time."))
    max_output_bytes: int = field(metadata=_row(MIB, 1, 8 * MIB, "bytes", "Output kept of each stream.", "number"))
    max_artifact_bytes: int = field(metadata=_row(10 * MIB, 0, 50 * MIB, "bytes", "Size of an artifact.", "number"))
    max_artifact_files: int = field(metadata=_row(10, 0, 100, "files", "Number of artifacts.", "number"))

    @classmethod
    def resolve(
        cls,
        given: dict[str, int | float],
        *,
        pids_default: int = DEFAULT_PIDS,
        rules: Mapping[str, LimitRule] | None = None,
    ) -> Limits:
        """Fill in the defaults of the limits that were not given; `rules` are LIMIT_RULES, or those of a session.

        Raises JobInvalid naming the field for one that is unknown, of the wrong type or out of bounds.
        """
        rules = LIMIT_RULES if rules is None else rules
        values: dict[str, Any] = {}
        for name, value in given.items():
            problem = limit_problem(name, value, rules)
            if problem:
                raise JobInvalid(problem.message, param=f"limits.{name}", code=problem.code)
            values[name] = value
        for name, rule in rules.items():
            if name not in values and rule.default is not None:
                values[name] = rule.number(rule.default)
        values.setdefault("pids", pids_default)
        default_cpu = max(1, round(values["timeout_ms"] * values["cpus"]))
        values.setdefault("cpu_ms", min(default_cpu, int(rules["cpu_ms"].ceiling)))
        return cls(**values)


def _rules() -> dict[str, LimitRule]:
    """Return the rows of `Limits` by name."""
    types = get_type_hints(Limits)
    return {
        of.name: replace(of.metadata["rule"], name=of.name, integer=types[of.name] is int) for of in fields(Limits)
    }


LIMIT_RULES = _rules()
#: Limits of compiling, independent of the run's own: wall clock, processors, processes and threads.
COMPILE_TIMEOUT_MS = 30_000
COMPILE_CPUS = LIMIT_RULES["cpus"].ceiling
COMPILE_PIDS = 256
#: The limits of compiling that a job may lower.
COMPILE_LIMITS = ("timeout_ms", "cpu_ms", "memory_mb")


@dataclass(frozen=True, slots=True)
class LimitProblem:
    message: str
    code: str


def limit_problem(name: str, value: object, rules: Mapping[str, LimitRule] | None = None) -> LimitProblem | None:
    """Return the problem of a limit as one sentence naming field and bound; None if it is valid.

    `rules` are LIMIT_RULES, or those of a session.
    """
    rule = (LIMIT_RULES if rules is None else rules).get(name)
    field_name = f"limits.{name}"
    if rule is None:
        return LimitProblem(f"{field_name}: there is no such limit", "unknown_field")
    # JSON integers beyond 64 bits arrive as floats: too large, and not of the wrong type.
    huge = isinstance(value, float) and abs(value) >= 2.0**63
    if rule.integer and not huge:
        if isinstance(value, bool) or not isinstance(value, int):
            return LimitProblem(f"{field_name}: must be an integer", "invalid_type")
    elif isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return LimitProblem(f"{field_name}: must be a number", "invalid_type")
    if value < rule.minimum:
        return LimitProblem(
            f"{field_name}: {_shown(value)} is below the minimum of {_shown(rule.minimum)}",
            "limit_below_minimum",
        )
    if value > rule.ceiling:
        return LimitProblem(
            f"{field_name}: {_shown(value)} exceeds this key's maximum of {_shown(rule.ceiling)}",
            "limit_exceeds_maximum",
        )
    return None


def _shown(number: float) -> str:
    """Format a number for a message: the longest accepted JSON integer must not become a page of digits."""
    if isinstance(number, int):
        return str(number) if abs(number) < 10**18 else "a number of more than 18 digits"
    return f"{number:g}"
