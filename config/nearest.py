"""Find the known name that is nearest to a wrong one, for messages such as "did you mean timeout_ms?".

The wrong name may be hostile: it is compared only up to a length, and it is never part of the result.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

#: A longer name is not compared: such a name is no typing error, and comparing costs the product of both lengths.
MAX_COMPARED = 48
#: A shorter text begins too many names by chance.
MIN_PREFIX = 4
#: The number of edits that still counts as a typing mistake: for names shorter than each of these lengths.
_EDITS = ((4, 0), (7, 1), (MAX_COMPARED + 1, 2))
_SEPARATORS = re.compile(r"[^a-z0-9]")


def plain(name: str) -> str:
    """Return a name in lower case without separators: `timeoutMs`, `timeout-ms` and `timeout_ms` are the same."""
    return _SEPARATORS.sub("", name[: 2 * MAX_COMPARED].lower())


def nearest(
    name: str, known: Iterable[str], *, synonyms: Mapping[str, str] | None = None, prefixes: bool = False
) -> str | None:
    """Return the known name that `name` probably means; None if none is near.

    `synonyms` maps a plain name to its result. With `prefixes` one name may also be the beginning of the other.
    """
    word = plain(name)
    if not word or len(name) > MAX_COMPARED:
        return None
    if synonyms is not None and word in synonyms:
        return synonyms[word]
    candidates = [(plain(candidate), candidate) for candidate in known]
    for text, candidate in candidates:
        if text == word:
            return candidate
    if prefixes:
        begun = [(abs(len(text) - len(word)), candidate) for text, candidate in candidates if _begins(text, word)]
        if begun:
            return min(begun)[1]
    close = [
        (edits, candidate)
        for text, candidate in candidates
        if (edits := distance(word, text, _bound(word, text))) is not None
    ]
    return min(close)[1] if close else None


def distance(one: str, other: str, most: int) -> int | None:
    """Return the number of edits between two texts, at most `most`; None if there are more.

    An edit inserts, deletes or replaces a character, or swaps two neighbours.
    """
    if abs(len(one) - len(other)) > most:
        return None
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        before, previous, row = row, before, [i]
        for j, b in enumerate(other, start=1):
            edits = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                edits = min(edits, previous[j - 2] + 1)
            row.append(edits)
        if min(row) > most and min(before) > most:
            return None
    return row[-1] if row[-1] <= most else None


def _begins(text: str, word: str) -> bool:
    short, long = sorted((text, word), key=len)
    return len(short) >= MIN_PREFIX and long.startswith(short)


def _bound(one: str, other: str) -> int:
    length = min(len(one), len(other))
    return next((edits for below, edits in _EDITS if length < below), 0)
