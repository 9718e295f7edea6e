"""Derive the hints of an ended run: first those of its facts, then those that its output shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.hints import MAX_HINTS, HintCode, HintData
from sandbox.hints import messages
from sandbox.hints.language_rules import LANGUAGE_RULES
from sandbox.hints.rules import COMMON_RULES, OutputRule
from sandbox.hints.text import excerpt

if TYPE_CHECKING:
    from collections.abc import Iterable
    from re import Match

    from sandbox.hints.facts import HintFacts


def hints_of(facts: HintFacts) -> tuple[HintData, ...]:
    """Return the hints of a run, at most MAX_HINTS, no two of a code."""
    if facts.needs_none or facts.status in ("cancelled", "error"):
        return ()
    found: dict[HintCode, HintData] = {}
    if facts.timed_out:
        found["timed_out"] = messages.timed_out(facts)
    if facts.oom_killed:
        found["out_of_memory"] = messages.out_of_memory(facts, {})
    refused = facts.refused_processes()
    if refused:
        found["pids_exhausted"] = messages.pids_exhausted(facts, {})
    # A kernel that counts them and has refused none contradicts any text.
    settled = set(found) if refused is None else {*found, "pids_exhausted"}
    text = excerpt(facts.stderr if facts.compiler_output is None else facts.compiler_output)
    rows = (*LANGUAGE_RULES.get(facts.language, ()), *COMMON_RULES)
    for row, match in _matches(rows, text):
        if row.code in settled:
            continue
        data = messages.found_in_output(row.code, facts, _groups(match))
        if data is not None:
            settled.add(row.code)
            found[row.code] = data
    return tuple(found.values())[:MAX_HINTS]


def _matches(rows: Iterable[OutputRule], text: str) -> Iterable[tuple[OutputRule, Match[str]]]:
    """Yield the rows that are found: the last place of each, which is the error that ended the program.

    Of syntax errors the first counts, since further ones are often its consequences.
    """
    for row in rows:
        if row.sign not in text:
            continue
        matches = list(row.pattern.finditer(text))
        if matches:
            yield row, matches[0 if row.code == "syntax_error" else -1]


def _groups(match: Match[str]) -> dict[str, str]:
    return {name: text for name, text in match.groupdict().items() if text is not None}
