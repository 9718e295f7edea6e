"""Show the facts and figures of several workers as those of one."""

from __future__ import annotations

import re
from typing import Any

#: Figures that are added up, by worker and by name.
_SUMMED = ("pool", "gvisor_pool")
_SAMPLE = re.compile(r"(?P<name>[A-Za-z_:][A-Za-z0-9_:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_SUFFIXES = ("_total", "_created", "_bucket", "_count", "_sum", "_info")


def merge_status(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the status of several workers as that of one.

    A language is ready where one worker has it; confinement is what the weakest of them has.
    """
    merged = dict(found[0])
    merged["languages"] = _languages(found)
    for name in _SUMMED:
        merged[name] = _sum_of_counts([one.get(name) for one in found])
    merged["queue"] = _sum([one.get("queue") for one in found])
    merged["confined"] = all(one.get("confined") is not False for one in found)
    merged["posture"] = _weakest([one.get("posture") for one in found])
    merged["isolations"] = _in_order([one.get("isolations") for one in found])
    sandboxes = [one.get("sandboxes") for one in found]
    told = [one for one in sandboxes if isinstance(one, dict)]
    merged["sandboxes"] = {
        "usable": any(one.get("usable") is not False for one in told) or not told,
        "failing": sorted({name for one in told for name in one.get("failing", ())}),
    }
    return merged


def merge_metrics(found: list[tuple[str, str]]) -> str:
    """Return the metrics of several workers in Prometheus's text format; each sample has the label `worker`."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for worker, text in found:
        seen: set[str] = set()
        for line in text.splitlines():
            if line.startswith(("# HELP ", "# TYPE ")):
                family = line.split(" ", 3)[2]
                if family not in heads or family in seen:
                    heads.setdefault(family, []).append(line)
                    seen.add(family)
            elif (sample := _SAMPLE.fullmatch(line)) is not None:
                labels = ",".join(filter(None, (sample["labels"], f'worker="{worker}"')))
                row = f"{sample['name']}{{{labels}}} {sample['value']}"
                samples.setdefault(_family_of(sample["name"], heads), []).append(row)
    lines = [line for family in {**heads, **samples} for line in (*heads.get(family, ()), *samples.get(family, ()))]
    return "\n".join((*lines, ""))


def _family_of(name: str, heads: dict[str, list[str]]) -> str:
    if name in heads:
        return name
    return next((base for end in _SUFFIXES if (base := name.removesuffix(end)) != name and base in heads), name)


def _languages(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    languages: dict[str, dict[str, Any]] = {}
    for one in found:
        for language in one.get("languages", ()):
            known = languages.get(str(language.get("id")))
            if known is None or (language.get("ready") and not known.get("ready")):
                languages[str(language.get("id"))] = language
    return list(languages.values())


def _sum(figures: list[Any]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in figures:
        for name, value in one.items() if isinstance(one, dict) else ():
            if isinstance(value, int):
                total[name] = total.get(name, 0) + value
    return total


def _sum_of_counts(figures: list[Any]) -> dict[str, dict[str, int]]:
    names = {name: None for one in figures if isinstance(one, dict) for name in one}
    return {name: _sum([one.get(name) for one in figures if isinstance(one, dict)]) for name in names}


def _weakest(found: list[Any]) -> dict[str, str]:
    merged: dict[str, str] = {}
    for one in found:
        for name, state in one.items() if isinstance(one, dict) else ():
            if merged.get(name, "ok") == "ok":
                merged[name] = str(state)
    return merged


def _in_order(found: list[Any]) -> list[str]:
    return list({str(name): None for one in found if isinstance(one, list) for name in one})
