"""The kernels by themselves, as plain processes in the roots of their languages' images."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.kernels.driver import Kernel, KernelEnded, Outcome
from tests.kernels.image_root import is_built
from tests.kernels.rows import Cell, Row, Text, rows

LANGUAGES = ("bash", "node", "typescript", "ruby")


@pytest.fixture(scope="session", autouse=True)
def images(request):
    """The images that the service builds; it is started only where they are missing."""
    if os.geteuid() != 0:
        pytest.fail("these tests mount images and need root")
    if not all(is_built(language) for language in LANGUAGES):
        request.getfixturevalue("service")


@pytest.fixture
def start():
    """Start kernels, and end them after the test."""
    kernels = []

    def started(language: str) -> Kernel:
        kernels.append(Kernel(language))
        return kernels[-1]

    yield started
    for kernel in kernels:
        kernel.close()


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.language}-{row.name.replace(' ', '_')}")
def test_cells(start, row: Row):
    kernel = start(row.language)
    assert kernel.ready == {"type": "ready"}
    for number, cell in enumerate(row.cells, 1):
        outcome = kernel.execute(cell.code, cell.stdin, cell.env, cell.interrupt_s)
        assert differences(cell, outcome) == [], f"cell {number}: {cell.code[:200]}"
        assert outcome.done["execution_count"] == number


def differences(cell: Cell, outcome: Outcome) -> list[str]:
    """Compare a cell with its outcome."""
    found = []

    def compare(name: str, expected: object, actual: object) -> None:
        if not matches(expected, actual):
            found.append(f"{name}: {str(actual)[:2000]!r} instead of {expected!r}")

    compare("stdout", cell.stdout, outcome.stdout)
    compare("stderr", cell.stderr, outcome.stderr)
    compare("exit code", cell.exit_code, outcome.done["exit_code"])
    compare("dropped", cell.dropped, outcome.done["dropped"])
    compare("number of results", len(cell.results), len(outcome.displays))
    for expected, display in zip(cell.results, outcome.displays, strict=False):
        for kind, value in expected.items():
            compare(kind, value, display["data"].get(kind))
    if cell.exception is None or outcome.exception is None:
        compare("exception", cell.exception, outcome.exception)
    else:
        name, value, traceback = cell.exception
        compare("exception's name", name, outcome.exception["name"])
        compare("exception's value", value, outcome.exception["value"])
        if traceback is not None:
            compare("traceback", traceback, "\n".join(outcome.exception["traceback"]))
    return found


def matches(expected: Text | object, actual: object) -> bool:
    if hasattr(expected, "fullmatch"):
        return isinstance(actual, str) and expected.fullmatch(actual) is not None
    return expected == actual


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("node", "display.html('1'); console.log('2'); display.html('3'); console.log('4'); 5"),
        ("typescript", "display.html('1'); console.log('2'); display.html('3'); console.log('4'); 5"),
        ("ruby", "Runyard.html('1'); puts '2'; Runyard.html('3'); puts '4'; 5"),
    ],
)
def test_results_and_output_in_order(start, language, code):
    outcome = start(language).execute(code)
    kinds = [kind for kind, _ in outcome.events]
    assert kinds == ["display", "stdout", "display", "stdout", "display", "done"]
    assert [display["is_main_result"] for display in outcome.displays] == [False, False, True]


UPDATES = {
    "node": "display('a', { id: 'i' }); console.log('between'); display.update('i', 'b'); display('c', { id: 'i', update: true }); undefined",
    "ruby": "Runyard.display('a', id: 'i'); puts 'between'; Runyard.display('b', id: 'i', update: true); Runyard.display('c', id: 'i', update: true); nil",
}  # fmt: skip
CLEARS = {
    "node": "display.text('a'); display.clear(); console.log('o'); display.clear({ wait: true }); display.text('b'); undefined",
    "ruby": "Runyard.text('a'); Runyard.clear; puts 'o'; Runyard.clear(wait: true); Runyard.text('b'); nil",
}  # fmt: skip
WITH_RESULTS = ("node", "typescript", "ruby")


def of_language(codes, language):
    return codes.get(language) or codes["node"]


@pytest.mark.parametrize("language", WITH_RESULTS)
def test_updates_of_displays(start, language):
    kernel = start(language)
    outcome = kernel.execute(of_language(UPDATES, language))
    quote = '"' if language == "ruby" else "'"
    assert [(one["data"]["text/plain"], one["display_id"], one["update"]) for one in outcome.displays] == [
        (f"{quote}a{quote}", "i", False),
        (f"{quote}b{quote}", "i", True),
        (f"{quote}c{quote}", "i", True),
    ]
    assert [kind for kind, _ in outcome.events] == ["display", "stdout", "display", "display", "done"]
    later = kernel.execute(of_language(UPDATES, language))  # an id means something beyond its cell
    assert [one["display_id"] for one in later.displays] == ["i"] * 3


@pytest.mark.parametrize("language", WITH_RESULTS)
def test_clears_are_in_order_with_displays_and_output(start, language):
    outcome = start(language).execute(of_language(CLEARS, language))
    assert [(kind, reply["wait"] if kind == "clear" else None) for kind, reply in outcome.events] == [
        ("display", None), ("clear", False), ("stdout", None), ("clear", True), ("display", None), ("done", None),
    ]  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_interrupt_between_cells(start, language):
    kernel = start(language)
    kernel.process.send_signal(signal.SIGINT)
    kernel.execute("x = 1" if language != "bash" else "x=1")
    kernel.process.send_signal(signal.SIGINT)
    time.sleep(0.2)  # it may reach a cell that begins at once
    outcome = kernel.execute({"bash": "echo $x", "ruby": "puts x"}.get(language, "console.log(x)"))
    assert outcome.stdout == "1\n"
    assert outcome.exception is None


@pytest.mark.parametrize(
    ("language", "code", "status"),
    [
        ("bash", "trap 'echo bye' EXIT; exit 5", 5),
        ("bash", "exec sh -c 'exit 6'", 6),
        ("node", "process.exit(7)", 7),
        ("typescript", "process.exit(7)", 7),
    ],
)
def test_kernels_that_end_with_a_cell(start, language, code, status):
    kernel = start(language)
    assert kernel.execute(code).done["exit_code"] == status
    with pytest.raises((KernelEnded, BrokenPipeError)):
        kernel.execute("1")


@pytest.mark.parametrize("language", LANGUAGES)
def test_end_of_requests(language):
    assert Kernel(language).close() == 0


@pytest.mark.parametrize(
    ("language", "setup", "code", "match", "start_at"),
    [
        ("bash", "long_name=1", "echo $long_n", "$long_name", 5),
        ("bash", "long_f() { :; }", "long_", "long_f", 0),
        ("bash", ":", "ls /et", "/etc", 3),
        ("node", "let longName = 1", "é + longN", "longName", 4),
        ("node", "const o = { longName: 1 }", "o.lon", "longName", 2),
        ("typescript", "let longName: number = 1", "longN", "longName", 0),
        ("ruby", "long_name = 1", "é + long_n", "long_name", 4),
        ("ruby", "o = 'a'", "o.upca", "upcase", 2),
    ],
)
def test_completion(start, language, setup, code, match, start_at):
    kernel = start(language)
    kernel.execute(setup)
    answer = kernel.ask("complete", code)
    assert match in answer["matches"]
    assert (answer["start"], answer["end"]) == (start_at, len(code))


@pytest.mark.parametrize(
    ("language", "setup", "code", "text"),
    [
        ("bash", "f() { echo inside; }", "f", "echo inside"),
        ("node", "function f() { return 'inside' }", "f", "return 'inside'"),
        ("typescript", "function f(): string { return 'inside' }", "f", "return 'inside'"),
        ("ruby", "def f(inside) = 1", "f", "inside"),
    ],
)
def test_inspection(start, language, setup, code, text):
    kernel = start(language)
    kernel.execute(setup)
    assert text in kernel.ask("inspect", code)["text"]
    assert kernel.ask("inspect", "no_such_name") == {"type": "inspect", "found": False, "text": ""}
