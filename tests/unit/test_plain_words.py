"""Docstrings and comments avoid the figures of speech and headless clauses that made them hard to read.

The list is small: words with a plain technical equivalent (`released`, not `given back`; `exited`, not `dead`). A
sentence that begins with "What …" or "Who …" has no subject: name the thing (`Return whether …`, `The owner of …`).
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
FOLDERS = (
    "api", "clients/python/src", "config", "dispatch", "egress", "ops", "protocol", "records", "runners", "sandbox",
    "storage", "transport", "worker",
)  # fmt: skip
FIGURES = re.compile(
    r"\b(anew|whoever|whatever|as good as|so long|rid of|lets? go|letting go|g[ia]ves? back|given back|giving back"
    r"|safe hands|of its own making|bur(?:y|ies|ied)|dead|walls?(?![ -]clock)|owe[sd]?|strangers?|adrift"
    r"|all the same|what is wrong|told|heard|said|mend(?:ed|s)?|born)\b"
)
#: At the beginning of a text or after the end of a sentence.
HEADLESS = re.compile(r"(?:\A|(?<=[.!?:;] ))(What|Who|Whose|Whatever|Whoever|Whether|How|Where)\b")
CODE = re.compile(r"`[^`]*`")


def docstrings(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text


def comments(source):
    """Comments, those on consecutive lines joined."""
    found, last = [], -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("#: ")
            if found and token.start[0] == last + 1 and token.line.lstrip().startswith("#"):
                found[-1] += " " + text
            else:
                found.append(text)
            last = token.start[0]
    return found


def problems(source):
    found = []
    for text in [*docstrings(source), *comments(source)]:
        plain = " ".join(CODE.sub("`…`", text).split())
        found += [match.group(0) for rule in (FIGURES, HEADLESS) for match in rule.finditer(plain)]
    return found


def files():
    for folder in FOLDERS:
        for path in sorted((REPO / folder).rglob("*.py")):
            name = path.relative_to(REPO).as_posix()
            if "node_modules" not in name and "/.venv/" not in name:
                yield name


def is_listed(name, entry):
    return name == entry or name.startswith(f"{entry}/")


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_words_are_plain(folder):
    names = [name for name in files() if is_listed(name, folder)]
    assert names
    found = {name: problems((REPO / name).read_text()) for name in names}
    assert {name: words for name, words in found.items() if words} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('"""Give the memory that a dead worker left to whoever asks."""', ["dead", "whoever"]),
        ('"""What a run took."""', ["What"]),
        ('"""Stop. Whether it runs is unknown."""', ["Whether"]),
        ("x = 1  # what is told\n# once\n", ["told"]),
        ("#: It waits so\n#: long.\n", ["so long"]),
        ('"""Return whether it runs, in wall-clock time; see `walls.py` and `adrift`."""', []),
        ('x = "told by whoever"\n', []),
    ],
)
def test_a_figure_is_found_in_texts_and_not_in_code(source, found):
    assert problems(source) == found
