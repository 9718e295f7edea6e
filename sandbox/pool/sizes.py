"""Compute how many sandboxes of each language wait in the warm pool."""

from __future__ import annotations

from collections.abc import Mapping

from sandbox.languages import Language

#: The most that wait of one language: containers, and what is forked, which is there again in milliseconds.
MAX_READY_CONTAINERS, MAX_READY_FORKED = 16, 8


def flavour_sizes(sizes: Mapping[Language, int]) -> dict[tuple[Language, str], int]:
    """Return the number of warm sandboxes of each variant: half of its language's, if that has any."""
    return {
        (language, flavour.name): (size + 1) // 2
        for language, size in sizes.items()
        for flavour in language.flavours
        if size
    }


def pool_sizes(
    languages: list[Language],
    *,
    memory_mb: int,
    wanted: str | None,
    most: int = MAX_READY_CONTAINERS,
    name: str = "WARM_POOL",
) -> dict[Language, int]:
    """Return the number of warm sandboxes of each language: from `wanted` (`python=8,node=4`), else by memory.

    Every language gets the same share of the memory, as many slots as fit, at least one and at most `most`.
    Raises ValueError, naming the setting, for a wish that cannot be read.
    """
    if wanted is not None:
        return _wished(languages, wanted, name)
    share = memory_mb / max(len(languages), 1)
    return {lang: max(1, min(most, int(share // lang.slot_mb))) if memory_mb else 0 for lang in languages}


def _wished(languages: list[Language], wanted: str, setting: str) -> dict[Language, int]:
    sizes = {language.id: 0 for language in languages}
    for entry in wanted.split(","):
        name, _, count = entry.strip().partition("=")
        if name not in sizes or not count.isdigit() or int(count) > 256:
            raise ValueError(f"{setting}: {entry.strip()[:40]!r} is not LANGUAGE=0..256")
        sizes[name] = int(count)
    return {language: sizes[language.id] for language in languages}
