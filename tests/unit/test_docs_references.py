"""The documents name paths that exist, link to headings that exist, and name error codes of the table."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from api.openapi.error_codes import FAULTS
from protocol.hints import HintCode

REPO = Path(__file__).resolve().parents[2]
DOCUMENTS = [REPO / "README.md", REPO / "SECURITY.md", *sorted((REPO / "docs").glob("*.md"))]
IDS = [path.name for path in DOCUMENTS]
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"[\w.*-]+(?:/[\w.*-]+)*/?")
#: A word in capitals stands for some text, as ENGINE and RUNTIME in `sandbox/posture/ENGINE-RUNTIME.json`.
PLACEHOLDER = re.compile(r"(?<![A-Za-z])[A-Z]{4,}(?![A-Za-z])")
#: Files that a reader makes while following a page.
MADE_BY_THE_READER = re.compile(
    r"runners/lua/.*|tests/engines/programs/lua\.py|records/sql/migrations/versions/NNNN_what\.py"
    r"|deploy/docker/certificates/\*\.crt|runyard\.(toml|ya?ml)|function\.toml|handler\.(py|js|ts|go|rs)"
)
#: Files of these kinds are named without their folder too. Others without a folder belong to programs, not to us.
OWN_KINDS = (".py", ".md", ".ts", ".toml", ".yml", ".yaml", ".sh", ".svg")
NOT_OURS = {"main.py", "main.ts", "main.sh"}  # a sandbox's entry files
#: A code where prose names one: after its HTTP status, after the word, or in an error's JSON.
CODES = (
    re.compile(r"\b[45]\d\d(?: \([^)]*\))?,?\s+`([a-z_]+)`"),
    re.compile(r"\bcodes?\s+`([a-z_]+)`"),
    re.compile(r'"code":\s*"([a-z_]+)"'),
    re.compile(r'\be\.code\) == \([^)]*"([a-z_]+)"\)'),
)
#: In a run's `error` only: docs/api.md says so in the table's last row.
OF_RUNS = {"queue_timeout"}
OF_HINTS = set(get_args(HintCode))
#: Words with a plainer one in technical English. Sentences begin with their subject, not with a relative clause.
AVOIDED = re.compile(
    r"\b(anew|whoever|whatever|as good as|be rid of|safe hands|of its own making|walls)\b", re.IGNORECASE
)
OPENING = re.compile(r"(?:^|\. )(?:What|Who|Whose|Whether|How|Where) ")


@cache
def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, capture_output=True, check=True).stdout
    return frozenset(Path(name.decode()) for name in listed.split(b"\0") if name)


@cache
def top():
    return frozenset(path.parts[0] for path in tracked() if len(path.parts) > 1)


def exists(name):
    """Return whether a path of the repository, or a file's name alone, is there; placeholders match anything."""
    pattern = PLACEHOLDER.sub("*", name).rstrip("/")
    if "/" in pattern:
        return any(REPO.glob(pattern))
    return any(path.name == name for path in tracked()) or (REPO / pattern).exists()


def paths(text):
    """Return what is written in a text as a path of the repository."""
    found = set()
    for code in CODE.findall(FENCED.sub("", text)):
        name = code.partition("::")[0]  # a test within its file
        if (
            not PATH.fullmatch(name)
            or name.startswith(".")
            or name in NOT_OURS
            or MADE_BY_THE_READER.fullmatch(name)
        ):
            continue
        if ("/" in name and name.partition("/")[0] in top()) or ("/" not in name and name.endswith(OWN_KINDS)):
            found.add(name)
    return found


def codes(text):
    return {code for pattern in CODES for code in pattern.findall(text)}


@cache
def anchors(document):
    """Return the headings of a document as GitHub names them in links."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def prose(text):
    """Return the text without code, links' targets and generated tables."""
    text = re.sub(r"<!-- bench:.*?<!-- bench:\w+ end -->", "", FENCED.sub("", text), flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)", "]", CODE.sub("x", text))


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_paths_exist(document):
    assert [name for name in sorted(paths(document.read_text())) if not exists(name)] == []


def test_paths_are_found_in_the_documents():
    assert len(set().union(*(paths(document.read_text()) for document in DOCUMENTS))) > 80


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`api/runs/service.py` and `sandbox/pool/`", {"api/runs/service.py", "sandbox/pool/"}),
        ("`tests/unit/test_docs_references.py::test_paths_exist`", {"tests/unit/test_docs_references.py"}),
        ("`/usr/bin/python3`, `db/`, `main.py`, `runners/lua/runner.toml`", set()),
        ("```\n`api/none.py`\n```\n", set()),
    ],
)
def test_what_counts_as_a_path(text, found):
    assert paths(text) == found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("api/runs/service.py", True),
        ("sandbox/pool/", True),
        ("sandbox/posture/ENGINE-RUNTIME.json", True),
        ("editor.ts", True),
        ("api/collector.py", False),
        ("collector.py", False),
    ],
)
def test_what_exists(name, expected):
    assert exists(name) is expected


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_error_codes_are_those_of_the_table(document):
    known = {code.partition("@")[0] for code in FAULTS} | OF_RUNS | OF_HINTS
    assert codes(document.read_text()) <= known


def test_error_codes_are_found_in_prose():
    found = set().union(*(codes(document.read_text()) for document in DOCUMENTS))
    assert {"too_many_runs", "queue_timeout", "limit_exceeds_maximum", "storage_low", "interrupted"} <= found


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_links_lead_to_files_and_headings(document):
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", document.read_text()):
        page = document.parent / target if target else document
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), (target, anchor)


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_plain_words(document):
    for paragraph in prose(document.read_text()).split("\n\n"):
        text = " ".join(paragraph.split())
        assert not AVOIDED.search(text), text
        assert not OPENING.search(text), text


def test_every_document_is_linked_from_the_readme():
    text = (REPO / "README.md").read_text()
    assert [path.name for path in DOCUMENTS[2:] if f"docs/{path.name}" not in text] == []


def test_every_code_of_a_hint_is_documented():
    assert [
        code for code in sorted(OF_HINTS) if f"| `{code}` |" not in (REPO / "docs" / "api.md").read_text()
    ] == []
