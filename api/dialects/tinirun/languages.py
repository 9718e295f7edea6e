"""The languages of tinirun, and how its functions are written in the form of this service's functions.

A bash function is a program that gets its input as `$1`; here it stands beside a handler that starts it so. Go code
may leave the package clause out. Either way the code of the client is found again as it came.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The file of a bash function, beneath /work.
BASH_FILE = "run"
#: Reads the input, and starts the program with the interpreter that its first line names.
_BASH_HANDLER = f"""input=$(cat)
IFS= read -r first < {BASH_FILE}
case $first in
'#!'*) read -ra interpreter <<< "${{first#'#!'}}" ;;
*) interpreter=(bash) ;;
esac
exec "${{interpreter[@]}}" ./{BASH_FILE} "$input"
"""
#: On the first line of the code, so that the compiler's line numbers stay true; no client writes it in this form.
_GO_CLAUSE = "package main ;\t"
_GO_PACKAGE = re.compile(r"^[ \t]*package[ \t]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class TinirunLanguage:
    """One of tinirun's languages: its id here, and the first code of a function."""

    id: str
    template: str


LANGUAGES: Mapping[str, TinirunLanguage] = {
    "bash": TinirunLanguage("bash", "#!/bin/bash\nprintf 'Hello, %s!\\n' \"$1\"\n"),
    "go": TinirunLanguage(
        "go",
        'package main\n\nfunc run(input string) (string, error) {\n\treturn "Hello, " + input + "!", nil\n}\n',
    ),
    "javascript": TinirunLanguage("node", "export async function run(input) {\n  return `Hello, ${input}!`;\n}\n"),
    "python": TinirunLanguage("python", 'def run(input: str) -> str:\n    return f"Hello, {input}!"\n'),
    "rust": TinirunLanguage(
        "rust",
        'pub fn run(input: String) -> Result<String, String> {\n    Ok(format!("Hello, {input}!"))\n}\n',
    ),
    "typescript": TinirunLanguage(
        "typescript",
        "export async function run(input: string): Promise<string> {\n  return `Hello, ${input}!`;\n}\n",
    ),
}
_BY_ID = {language.id: name for name, language in LANGUAGES.items()}


def name_of(language_id: str) -> str:
    """Return tinirun's name of a language, or its id where tinirun has none."""
    return _BY_ID.get(language_id, language_id)


def source_fields(language_id: str, code: str) -> dict[str, Any]:
    """Return the fields of a function that hold its source."""
    if language_id == "bash":
        return {"code": _BASH_HANDLER, "files": [{"path": BASH_FILE, "content": code}]}
    if language_id == "go" and not _GO_PACKAGE.search(code):
        return {"code": _GO_CLAUSE + code}
    return {"code": code}


def code_of(language_id: str, source: Mapping[str, Any]) -> str:
    """Return the code that a function was made of, from its source as it is stored.

    A function that was deployed by `/v1/functions` may have files only; of these the first is returned.
    """
    code, files = source["code"], source["files"] or []
    if language_id == "bash" and code == _BASH_HANDLER and files:
        return str(files[0]["content"])
    if code is None:
        return str(files[0]["content"]) if files else ""
    return str(code).removeprefix(_GO_CLAUSE) if language_id == "go" else str(code)
