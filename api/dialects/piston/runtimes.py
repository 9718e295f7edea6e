"""The runtimes that Piston's clients see: our languages under Piston's names, and the choice among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api.dialects.piston.versions import Version, installed_version, matches

if TYPE_CHECKING:
    from collections.abc import Iterable

    from api.system.languages import OfferedLanguage

#: Longer names and selectors are cut in a message.
_SHOWN = 100


@dataclass(frozen=True, slots=True)
class _Names:
    """A language that one of ours provides: its name in Piston, its aliases, and what runs it."""

    language: str
    aliases: tuple[str, ...] = ()
    runtime: str | None = None


#: By the id of our language. One that is missing here has its own names.
_PROVIDED: dict[str, tuple[_Names, ...]] = {
    "bash": (_Names("bash", ("sh",)),),
    "bun": (_Names("javascript", ("bun-js",), "bun"), _Names("typescript", ("bun-ts", "bun"), "bun")),
    "deno": (_Names("javascript", ("deno-js",), "deno"), _Names("typescript", ("deno-ts", "deno"), "deno")),
    "go": (_Names("go", ("golang",)),),
    "node": (_Names("javascript", ("node-javascript", "node-js", "javascript", "js"), "node"),),
    "php": (_Names("php", ("php8",)),),
    "python": (_Names("python", ("py", "py3", "python3")),),
    "ruby": (_Names("ruby", ("ruby3", "rb")),),
    "rust": (_Names("rust", ("rs",)),),
    "typescript": (_Names("typescript", ("ts", "node-ts", "tsc", "typescript5")),),
}


@dataclass(frozen=True, slots=True)
class LanguageRuntime:
    """A row of `GET /runtimes`, and the language of ours that it is."""

    #: The id of our language.
    id: str
    entry_file: str
    ready: bool
    language: str
    version: Version
    aliases: tuple[str, ...]
    runtime: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the row; `runtime` is left out where the language has one only."""
        row: dict[str, Any] = {
            "language": self.language,
            "version": str(self.version),
            "aliases": list(self.aliases),
        }
        if self.runtime is not None:
            row["runtime"] = self.runtime
        return row


class LanguageRuntimes:
    """The runtimes of one state of the languages."""

    def __init__(self, languages: Iterable[OfferedLanguage]) -> None:
        self._all = tuple(runtime for language in languages for runtime in _runtimes(language))
        self._by_name: dict[str, list[LanguageRuntime]] = {}
        for runtime in self._all:
            for name in {runtime.language, *runtime.aliases}:
                self._by_name.setdefault(name, []).append(runtime)

    @property
    def installed(self) -> list[LanguageRuntime]:
        """Return the runtimes whose languages are ready."""
        return [runtime for runtime in self._all if runtime.ready]

    @property
    def packages(self) -> list[dict[str, Any]]:
        """Return the rows of `GET /packages`: each language of ours once."""
        languages = {runtime.id: runtime for runtime in self._all}
        return [
            {
                "language": runtime.runtime or runtime.language,
                "language_version": str(runtime.version),
                "installed": runtime.ready,
            }
            for runtime in languages.values()
        ]

    def find(self, language: str, selector: str) -> LanguageRuntime | None:
        """Return the runtime with the highest version that a selector names.

        One that is not ready comes last and is never left out: its version may not be known yet.
        """
        named = self._by_name.get(language, ())
        found = [item for item in named if not item.ready or matches(item.version, selector)]
        return max(found, key=lambda item: (item.ready, item.version.order), default=None)


def unknown_runtime(language: str, selector: str) -> str:
    """Return the message for a language and a selector that name no runtime."""
    return f"{language[:_SHOWN]}-{selector[:_SHOWN]} runtime is unknown"


def _runtimes(language: OfferedLanguage) -> list[LanguageRuntime]:
    public = language.public
    names = _PROVIDED.get(language.id) or (_Names(language.id),)
    made = [
        LanguageRuntime(
            language.id,
            language.entry_file,
            language.ready,
            item.language,
            installed_version(str(public["version"] or "")),
            item.aliases,
            item.runtime,
        )
        for item in names
    ]
    # Our own names work too.
    last = made[-1]
    own = [name for name in (language.id, *public["aliases"]) if name not in (last.language, *last.aliases)]
    made[-1] = LanguageRuntime(
        last.id, last.entry_file, last.ready, last.language, last.version, (*last.aliases, *own), last.runtime
    )
    return made
