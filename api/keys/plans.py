"""Load the plans of stored keys: each is one table of a TOML file (`PLANS_FILE`, else `config/plans.toml`)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import config
from api.ratelimit.bucket import Bucket
from api.ratelimit.limiter import READ_FACTOR
from config.network_patterns import Pattern, PatternInvalid, parse_pattern
from config.settings import Settings, SettingsError
from protocol.limits import LIMIT_RULES, MIB, JobInvalid, LimitProblem, Limits, limit_problem
from protocol.package_patterns import PackagePattern, parse_pattern_table
from protocol.session import MAX_AGE_S
from records.usage import Quota

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The plan of keys that anybody may make.
SELF_SERVICE = "free"
#: The plan of requests of dialects without a key, by address, where self-service is on. A file may leave it out:
#: then there are no such requests.
ANONYMOUS = "anonymous"
SHIPPED = Path(config.__file__ or "").parent / "plans.toml"
MAX_FILE_BYTES = 256 * 1024
_NAME = r"[a-z0-9][a-z0-9_-]{0,31}"


class _PlanIn(BaseModel):
    """One table of the file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    runs: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    period: Literal["all", "month"] = "all"
    rate_per_minute: Annotated[float, Field(gt=0, le=60_000_000)]
    burst: Annotated[int, Field(ge=1, le=1_000_000)]
    concurrency: Annotated[int, Field(ge=1, le=1024)] | None = None
    queue: Annotated[int, Field(ge=0, le=10_000)] | None = None
    storage_mb: Annotated[int, Field(ge=0, le=1_048_576)] | None = None
    records_mb: Annotated[int, Field(ge=1, le=16_777_216)] | None = None
    sessions: Annotated[int, Field(ge=0, le=512)] | None = None
    session_age_s: Annotated[int, Field(ge=1, le=MAX_AGE_S)] | None = None
    session_seconds: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    session_cpu_seconds: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    session_timeout_ms: Annotated[int, Field(ge=1, le=86_400_000)] | None = None
    egress: list[str] | None = None
    egress_mb: Annotated[int, Field(ge=0, le=16_777_216)] | None = None
    package_patterns: dict[str, list[str]] | None = None
    limits: dict[str, int | float] = Field(default_factory=dict)


class _PlansIn(BaseModel):
    """The file."""

    model_config = ConfigDict(strict=True)

    plans: dict[Annotated[str, Field(pattern=f"^{_NAME}$")], _PlanIn]


@dataclass(frozen=True, slots=True)
class Plan:
    """The bounds of the keys of one plan; None means that only the service's own bound applies."""

    name: str
    bucket: Bucket
    reads: Bucket
    runs: int | None = None
    period: Literal["all", "month"] = "all"
    #: Runs at the same time, and runs that wait for a place.
    concurrency: int | None = None
    queue: int | None = None
    storage_bytes: int | None = None
    #: The most bytes that the records of its ended runs may take.
    records_bytes: int | None = None
    #: Sessions at the same time, the age of each, and what all may use in a period together.
    sessions: int | None = None
    session_age_s: int | None = None
    session_seconds: int | None = None
    session_cpu_seconds: int | None = None
    #: The ceiling of a run's time in a session, in place of `limits.timeout_ms`.
    session_timeout_ms: int | None = None
    #: The hosts that its runs may ask for, None for all that the service permits; and what each run may send and
    #: receive.
    egress: tuple[Pattern, ...] | None = None
    egress_bytes: int | None = None
    #: The packages that its runs may ask for; None for all that the service permits.
    package_patterns: tuple[PackagePattern, ...] | None = None
    limits: Mapping[str, int | float] = field(default_factory=dict)

    def ceiling(self, limit: str) -> int | float:
        """Return the ceiling of one run limit."""
        rule = LIMIT_RULES[limit]
        return rule.number(self.limits.get(limit, rule.ceiling))

    def in_session(self) -> Plan:
        """Return the plan as it bounds a run in a session, which may take longer than one of its own."""
        if self.session_timeout_ms is None:
            return self
        return replace(self, limits={**self.limits, "timeout_ms": self.session_timeout_ms})

    def ceilings(self) -> dict[str, int | float]:
        """Return the ceiling of each run limit."""
        return {name: self.ceiling(name) for name in LIMIT_RULES}

    def bounded(self, asked: dict[str, int | float], *, pids_default: int) -> dict[str, int | float]:
        """Return a run's limits, with defaults above the plan's ceilings lowered to them.

        Raises JobInvalid for a requested limit above the plan's.
        """
        for name, value in asked.items():
            if value > (most := self.ceiling(name)):
                raise JobInvalid(
                    f"limits.{name}: {value:g} exceeds this key's maximum of {most:g}"
                    if isinstance(value, float)
                    else f"limits.{name}: {value} exceeds this key's maximum of {most}",
                    param=f"limits.{name}",
                    code="limit_exceeds_maximum",
                )
        limits = dict(asked)
        # CPU time comes last: its default follows from the others.
        for name in sorted(self.limits, key=lambda name: name == "cpu_ms"):
            if name not in asked and getattr(Limits.resolve(limits, pids_default=pids_default), name) > (
                most := self.ceiling(name)
            ):
                limits[name] = most
        return limits

    def quota(self, at_ms: int) -> Quota | None:
        """Return the number of runs allowed in the period of that moment; None if runs are not counted."""
        return None if self.runs is None else Quota(self.period_at(at_ms), self.runs)

    def period_at(self, at_ms: int) -> str:
        """Return the name of the period of that moment, in UTC."""
        return "all" if self.period == "all" else _moment(at_ms).strftime("%Y-%m")

    def resets_at_ms(self, at_ms: int) -> int | None:
        """Return the end of the quota period that contains `at_ms`; None if the quota never resets."""
        if self.period == "all":
            return None
        now = _moment(at_ms)
        following = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
        return int(following.timestamp() * 1000)


class Plans:
    """The current plans, by name."""

    def __init__(self, plans: Mapping[str, Plan]) -> None:
        self._plans = dict(plans)

    def __contains__(self, name: object) -> bool:
        return name in self._plans

    def __iter__(self) -> Iterator[str]:
        return iter(self._plans)

    def replace(self, other: Plans) -> None:
        """Replace the current plans by those of another set."""
        self._plans = other._plans

    def get(self, name: str) -> Plan | None:
        """Return the plan of that name."""
        return self._plans.get(name)


def load_plans(settings: Settings) -> Plans:
    """Return the plans of `PLANS_FILE`, or those shipped. Raises SettingsError that names the file's entry."""
    plans = _read(settings.plans_file or SHIPPED)
    if settings.self_service and SELF_SERVICE not in plans:
        raise SettingsError(f"PLANS_FILE: has no plan {SELF_SERVICE}, which SELF_SERVICE_KEYS=1 gives out")
    return plans


def _read(path: Path) -> Plans:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise SettingsError(f"PLANS_FILE: {path} is larger than {MAX_FILE_BYTES} bytes")
        given = _PlansIn.model_validate({"plans": tomllib.loads(data.decode())}).plans
    except OSError as e:
        raise SettingsError(f"PLANS_FILE: {path} cannot be read: {e.strerror}") from e
    except ValidationError as e:
        raise SettingsError(f"PLANS_FILE: {path}: {_sentence(e)}") from e
    except ValueError as e:  # not UTF-8, or not TOML
        raise SettingsError(f"PLANS_FILE: {path} is not TOML: {e}") from e
    for name, plan in given.items():
        for limit, value in plan.limits.items():
            problem = _ceiling_problem(limit, value)
            if problem is not None:
                raise SettingsError(f"PLANS_FILE: {path}: {name}.{problem.message}")
        for number, text in enumerate(plan.egress or ()):
            try:
                parse_pattern(text)
            except PatternInvalid as e:
                raise SettingsError(f"PLANS_FILE: {path}: {name}.egress.{number}: {e}") from e
        try:
            parse_pattern_table(plan.package_patterns or {})
        except ValueError as e:
            raise SettingsError(f"PLANS_FILE: {path}: {name}.package_patterns.{e}") from e
    return Plans({name: _plan(name, plan) for name, plan in given.items()})


def _ceiling_problem(limit: str, value: float) -> LimitProblem | None:
    problem = limit_problem(limit, value)
    if problem is None or problem.code != "limit_exceeds_maximum":
        return problem
    return LimitProblem(f"limits.{limit}: {value} is above the service's own {LIMIT_RULES[limit].ceiling}", "")


def _plan(name: str, given: _PlanIn) -> Plan:
    bucket = Bucket(given.rate_per_minute / 60, given.burst)
    return Plan(
        name=name,
        bucket=bucket,
        reads=bucket.widened(READ_FACTOR),
        runs=given.runs,
        period=given.period,
        concurrency=given.concurrency,
        queue=given.queue,
        storage_bytes=None if given.storage_mb is None else given.storage_mb * MIB,
        records_bytes=None if given.records_mb is None else given.records_mb * MIB,
        sessions=given.sessions,
        session_age_s=given.session_age_s,
        session_seconds=given.session_seconds,
        session_cpu_seconds=given.session_cpu_seconds,
        session_timeout_ms=given.session_timeout_ms,
        egress=None if given.egress is None else tuple(map(parse_pattern, given.egress)),
        egress_bytes=None if given.egress_mb is None else given.egress_mb * MIB,
        package_patterns=None if given.package_patterns is None else parse_pattern_table(given.package_patterns),
        limits=given.limits,
    )


def _sentence(e: ValidationError) -> str:
    problem = e.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"][1:] if part not in ("int", "float", "[key]"))
    what = {
        "extra_forbidden": "there is no such entry",
        "missing": "is required",
        "string_pattern_mismatch": "a plan's name is 1 to 32 of a-z 0-9 _ -",
        "model_type": "must be a table",
    }.get(problem["type"], problem["msg"][:1].lower() + problem["msg"][1:])
    return f"{where}: {what}"


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
