"""Find the modules and files that a wrong name probably means. The wrong name may be hostile."""

from __future__ import annotations

import math
import posixpath
from typing import TYPE_CHECKING

from config.nearest import MAX_COMPARED, MIN_PREFIX, distance, plain
from protocol.hints import MAX_NEAR

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

#: Names of Python's packages that are imported by another name, without separators.
_IMPORTED_AS = {
    "beautifulsoup": "bs4", "beautifulsoup4": "bs4", "opencv": "cv2", "opencvpython": "cv2",
    "pillow": "PIL", "pythondateutil": "dateutil", "pythondocx": "docx", "pythonpptx": "pptx", "pyyaml": "yaml",
    "scikitimage": "skimage", "scikitlearn": "sklearn", "pytorch": "torch", "opencvpythonheadless": "cv2",
}  # fmt: skip
#: The most edits between two names, for names shorter than each of these lengths.
_EDITS = ((4, 0), (7, 1), (MAX_COMPARED + 1, 2))


def near_names(name: str, known: Collection[str], *, synonyms: bool = False) -> list[str]:
    """Return the known names that are nearest to a wrong one, the best first; at most MAX_NEAR.

    A name is near if it differs in spelling only, by few edits, or in what is appended to it. With `synonyms`
    packages are also found by the name that Python installs them by.
    """
    word = plain(name)
    if not word or len(name) > MAX_COMPARED:
        return []
    ranked: list[tuple[int, str]] = []
    meant = _IMPORTED_AS.get(word) if synonyms else None
    for candidate in known:
        if candidate == meant:
            ranked.append((-1, candidate))
        elif candidate != name and (rank := _rank(word, plain(candidate))) is not None:
            ranked.append((rank, candidate))
    ranked.sort()
    # A difference of one letter is more likely meant than any further one.
    most = max(ranked[0][0], 0) if ranked and ranked[0][0] <= 1 else math.inf
    return [candidate for rank, candidate in ranked[:MAX_NEAR] if rank <= most]


def sorted_by_nearness(path: str, files: Iterable[str]) -> list[str]:
    """Return files with those first that have the name of a wrong path, or one near to it."""
    name = posixpath.basename(path)
    by_name: dict[str, list[str]] = {}
    for file in files:
        by_name.setdefault(posixpath.basename(file), []).append(file)
    near = [name, *near_names(name, by_name)]
    first = [file for each in near for file in by_name.pop(each, ())]
    return first + sorted(file for rest in by_name.values() for file in rest)


def _rank(word: str, other: str) -> int | None:
    if not other or other == word:
        return 0 if other else None
    bound = next((edits for below, edits in _EDITS if min(len(word), len(other)) < below), 0)
    edits = distance(word, other, bound)
    if edits is not None:
        return edits
    short, long = (word, other) if len(word) < len(other) else (other, word)
    return 2 + len(long) - len(short) if len(short) >= MIN_PREFIX and long.startswith(short) else None
