"""Decide if a piece of code is a whole cell, or if more lines of it are to be typed."""

from __future__ import annotations

import ast
import codeop
import re
from typing import NamedTuple

_COMPILER = codeop.CommandCompiler()
_COMPILER.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_OPENING, _CLOSING = "([{", ")]}"


class Words(NamedTuple):
    """The words that open and close blocks of a language, and its line comments.

    `opens` do so where they begin a statement; `do` opens one too, but for those of `loops`, if there are any.
    """

    opens: frozenset[str] = frozenset()
    closes: frozenset[str] = frozenset()
    loops: frozenset[str] = frozenset()
    comment: str = "#"


_QUOTES = "'\"`"
_WORDS = {
    "ruby": Words(
        frozenset(["def", "class", "module", "if", "unless", "case", "while", "until", "for", "begin"]),
        frozenset(["end"]),
        frozenset(["while", "until", "for"]),
    ),
    "bash": Words(frozenset(["if", "for", "while", "until", "case", "select"]), frozenset(["fi", "done", "esac"])),
    "node": Words(comment="//"),
}


def is_complete(language: str, code: str) -> bool:
    """Return whether to execute the code now. An empty line ends every cell that is none of Python."""
    if language == "python":
        return _is_python(code)
    lines = code.split("\n")
    if len(lines) > 1 and not lines[-1].strip():
        return True
    return not lines[-1].endswith("\\") and _depth(code, _WORDS.get(language, _WORDS["node"])) <= 0


def _is_python(code: str) -> bool:
    first = code.lstrip()
    if first.startswith("%%"):
        return code.endswith("\n")
    if first.startswith(("%", "!", "?")) or code.rstrip().endswith("?"):
        return True
    try:
        return _COMPILER(code, "<cell>", "single") is not None
    except (SyntaxError, ValueError, OverflowError):
        return True  # the interpreter reports the error


def _depth(code: str, words: Words) -> int:
    """Count the brackets, quotes and blocks that are open at the end."""
    depth, at, quote = 0, 0, ""
    starts_statement, in_loop = True, False
    while at < len(code):
        char = code[at]
        word = "" if quote else _word_at(code, at)
        if quote:
            at += char == "\\"
            quote = "" if char == quote else quote
        elif code.startswith(words.comment, at) and (words.comment != "#" or at == 0 or code[at - 1].isspace()):
            at = code.find("\n", at) - 1 if "\n" in code[at:] else len(code)
        elif word:
            if starts_statement and word in words.opens:
                depth, in_loop = depth + 1, word in words.loops
            elif word == "do" and words.loops:
                depth, in_loop = depth + (not in_loop), False
            depth -= word in words.closes
            starts_statement = word in ("then", "do", "else")
            at += len(word) - 1
        elif char in "\n;&|":
            starts_statement, in_loop = True, in_loop and char != "\n"
        elif not char.isspace():
            depth += (char in _OPENING) - (char in _CLOSING)
            quote, starts_statement = char if char in _QUOTES else "", False
        at += 1
    return depth + bool(quote)


def _word_at(code: str, at: int) -> str:
    found = re.match(r"[A-Za-z_]\w*[!?]?", code[at:])
    return found[0] if found else ""
