"""Which lines of code make a whole cell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runyard.cli.completeness import is_complete

ROWS = [
    ("python", "x = 1", True),
    ("python", "def f():", False),
    ("python", "def f():\n    return 1", False),
    ("python", "def f():\n    return 1\n", True),
    ("python", "(1,", False),
    ("python", "await f()", True),
    ("python", "1 +", True),  # an error, which the interpreter reports
    ("python", "x = '''a", False),
    ("python", "%time f(", True),
    ("python", "%%bash\necho", False),
    ("python", "%%bash\necho\n", True),
    ("python", "!ls (", True),
    ("python", "len?", True),
    ("node", "const f = () => {", False),
    ("node", "const f = () => {\n}", True),
    ("node", "const s = `a\n", True),
    ("node", "`a {", False),
    ("node", "f('{')", True),
    ("node", "x // {", True),
    ("node", "x // {\ny = [", False),
    ("node", r"'it\'s {'", True),
    ("ruby", "def f", False),
    ("ruby", "def f\n  1\nend", True),
    ("ruby", "x if y", True),
    ("ruby", "loop do", False),
    ("ruby", "[1].each do |x|\n  x\nend", True),
    ("ruby", "while x do", False),
    ("ruby", "while x do\nend", True),
    ("ruby", "puts 1 # def", True),
    ("ruby", "def f\n  if x\n  end", False),
    ("bash", "for i in 1; do", False),
    ("bash", "for i in 1; do echo; done", True),
    ("bash", "if true; then", False),
    ("bash", "if true; then\nif false; then\nfi\nfi", True),
    ("bash", "echo a \\", False),
    ("bash", "echo 'a", False),
    ("bash", "echo $#", True),
    ("bash", "for i in 1; do\n", True),  # an empty line ends it
]  # fmt: skip


@pytest.mark.parametrize(("language", "code", "wanted"), ROWS)
def test_a_cell_is_whole_or_not(language, code, wanted):
    assert is_complete(language, code) is wanted


@given(st.sampled_from(["python", "node", "ruby", "bash", "typescript"]), st.text(max_size=60))
def test_any_text_is_judged_and_an_empty_line_ends_it(language, code):
    is_complete(language, code)
    if language != "python":
        assert is_complete(language, code + "\n\n")
