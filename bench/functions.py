"""How long calls of functions take a client, each as a ratio to the plain run that the contract compares it with.

The calls and the runs of a pair alternate, with a pause before each, and the functions have been built before.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bench import programs
from bench.report import Table
from bench.sampling import Step, alternated, ratio
from bench.sessions import GAP_MS, call_step, rest

if TYPE_CHECKING:
    from bench.service import Service

PYTHON = "def run(input):\n    return input['n'] + 1\n"
GO = """
package main

import "strings"

func Run(input string) (string, error) { return strings.ToUpper(input), nil }
"""
RUST = "pub fn run(input: String) -> Result<String, String> { Ok(input.to_uppercase()) }"
#: (language, code, input, what is in the answer)
FUNCTIONS: dict[str, tuple[str, Any, bytes]] = {
    "python": (PYTHON, {"n": 1}, b'"output":2'),
    "go": (GO, "text", b'"output":"TEXT"'),
    "rust": (RUST, "text", b'"output":"TEXT"'),
}
#: Each call, the run that it is compared with, and the most that it may take of that.
BOUNDS = {"python": ("python", 1.1), "go": ("bash", 1.2), "rust": ("bash", 1.2)}


def measure(service: Service, count: int) -> list[dict[str, Any]]:
    """Return a row for each function."""
    client = service.client()
    ready = {language["id"] for language in service.languages}
    made = [language for language in FUNCTIONS if language in ready]
    try:
        steps: dict[str, Step] = {
            f"run {language}": call_step(
                client, "POST", "/v1/runs", {"language": language, "code": programs.HELLO[language]}, b'"2\\n"'
            )
            for language in sorted({BOUNDS[language][0] for language in made})
        }
        for language in made:
            code, value, expected = FUNCTIONS[language]
            path = f"/v1/functions/bench-{language}"
            client.post_any(path, json.dumps({"language": language, "code": code}).encode(), "PUT")
            steps[f"call {language}"] = call_step(client, "POST", f"{path}/runs", {"input": value}, expected)
        found = alternated(steps, count, GAP_MS / 1000, rest)
    finally:
        for language in made:
            client.call("DELETE", f"/v1/functions/bench-{language}")
        client.close()
    rows = []
    for language in made:
        other, bound = BOUNDS[language]
        call, run = found[f"call {language}"], found[f"run {other}"]
        share = ratio(call.ms(0.5), run.ms(0.5))
        rows.append(
            {
                "call": language,
                "calls": len(call.seconds),
                "errors": call.errors + run.errors,
                "p50_ms": call.ms(0.5),
                "run": other,
                "run_p50_ms": run.ms(0.5),
                "ratio": share,
                "bound": bound,
                "within": None if share is None else share <= bound,
            }
        )
    return rows


def tables(rows: list[dict[str, Any]]) -> list[Table]:
    """One row a function."""
    shown = Table("Calls of functions, p50", ("call", "ms", "run", "ms", "ratio", "at most", "errors"))
    for row in rows:
        names = ("call", "p50_ms", "run", "run_p50_ms", "ratio", "bound", "errors")
        shown.rows.append(tuple(row[name] for name in names))
    return [shown]
