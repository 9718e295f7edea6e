"""The limits of a run: the table of API.md, and what is wrong with a wish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

KIB = 1024
MIB = 1024 * KIB


class JobInvalid(ValueError):
    """A job that breaks a rule of API.md. The message is for the client; `param` names the field."""

    def __init__(self, message: str, *, param: str | None, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


@dataclass(frozen=True, slots=True)
class LimitRule:
    """One row of the limits table: what a limit is when absent, and what it may be.

    `default` None means it depends on the others (`cpu_ms` = timeout × cpus) or on the language (`pids`).
    """

    name: str
    default: float | None
    minimum: float
    ceiling: float
    integer: bool = True


LIMIT_RULES: dict[str, LimitRule] = {
    rule.name: rule
    for rule in (
        LimitRule("timeout_ms", 10_000, 1, 60_000),
        LimitRule("cpu_ms", None, 1, 120_000),
        LimitRule("memory_mb", 256, 16, 2_048),
        LimitRule("cpus", 1.0, 0.1, 2.0, integer=False),
        LimitRule("pids", None, 1, 512),
        LimitRule("max_output_bytes", MIB, 1, 8 * MIB),
        LimitRule("max_artifact_bytes", 10 * MIB, 0, 50 * MIB),
        LimitRule("max_artifact_files", 10, 0, 100),
    )
}
DEFAULT_PIDS = 64
#: What compiling may take, whatever the run's own limits are: wall clock, processors, processes and threads.
COMPILE_TIMEOUT_MS = 30_000
COMPILE_CPUS = LIMIT_RULES["cpus"].ceiling
COMPILE_PIDS = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit of one run, resolved: nothing is left to a default."""

    timeout_ms: int
    cpu_ms: int
    memory_mb: int
    cpus: float
    pids: int
    max_output_bytes: int
    max_artifact_bytes: int
    max_artifact_files: int

    @classmethod
    def resolve(cls, given: dict[str, int | float], *, pids_default: int = DEFAULT_PIDS) -> Limits:
        """Fill in the defaults of the limits that were not given.

        Raises JobInvalid naming the field for one that is unknown, of the wrong type or out of bounds.
        """
        values: dict[str, Any] = {}
        for name, value in given.items():
            problem = limit_problem(name, value)
            if problem:
                raise JobInvalid(problem.message, param=f"limits.{name}", code=problem.code)
            values[name] = value
        for name, rule in LIMIT_RULES.items():
            if name not in values and rule.default is not None:
                values[name] = rule.default if not rule.integer else int(rule.default)
        values.setdefault("pids", pids_default)
        default_cpu = max(1, round(values["timeout_ms"] * values["cpus"]))
        values.setdefault("cpu_ms", min(default_cpu, int(LIMIT_RULES["cpu_ms"].ceiling)))
        return cls(**values)


@dataclass(frozen=True, slots=True)
class LimitProblem:
    message: str
    code: str


def limit_problem(name: str, value: object) -> LimitProblem | None:
    """What is wrong with a limit, as one sentence naming field and bound; None if nothing is."""
    rule = LIMIT_RULES.get(name)
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
    """A number for a message; the longest accepted JSON integer must not become a page of digits."""
    if isinstance(number, int):
        return str(number) if abs(number) < 10**18 else "a number of more than 18 digits"
    return f"{number:g}"
