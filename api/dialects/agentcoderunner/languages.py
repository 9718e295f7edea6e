"""agent-coderunner's four languages, and the names under which it shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.errors import invalid

if TYPE_CHECKING:
    from api.system.languages import OfferedLanguages

#: The language of a request that names none.
DEFAULT = "javascript"
#: The values of `language`, and the id of each language here.
IDS = {"python": "python", "javascript": "node", "typescript": "typescript", "bash": "bash"}
_NAMES = {own: name for name, own in IDS.items()}
_SHOWN = {
    "python": "Python {}",
    "node": "JavaScript (Node.js {})",
    "typescript": "TypeScript (Node.js {})",
    "bash": "Bash {}",
}


def id_of(name: str | None) -> str:
    """Return the id of the language that a request names. Raises ApiError 400."""
    found = IDS.get(DEFAULT if name is None else name)
    if found is None:
        raise invalid(f"language: unknown; supported: {', '.join(IDS)}", param="language", code="unknown_language")
    return found


def name_of(own_id: str) -> str:
    """Return the client's name of a language by its id; the id of one that agent-coderunner does not have."""
    return _NAMES.get(own_id, own_id)


def shown(own_id: str, offered: OfferedLanguages) -> str:
    """Return a language with its version, as `Python 3.13`; by name alone where it is not offered at the moment."""
    language = offered.by_name.get(own_id)
    version = "" if language is None else str(language.public["version"] or "")
    short = ".".join(version.split(".")[:2])
    return _SHOWN.get(own_id, f"{own_id} {{}}").format(short).replace(" )", ")").rstrip()


def rows_of(offered: OfferedLanguages) -> list[dict[str, Any]]:
    """Return the rows of the list of languages: those of the four that are ready."""
    found = []
    for name, own_id in IDS.items():
        language = offered.by_name.get(own_id)
        if language is not None and language.ready:
            version = language.public["version"]
            found.append({"id": name, "name": shown(own_id, offered), "version": version})
    return found
