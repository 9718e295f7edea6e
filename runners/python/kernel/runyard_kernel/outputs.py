"""The files of the directory of outputs, so that a cell's reply can name those that it created or changed."""

import os

MAX_ENTRIES = 10_000
MAX_DEPTH = 32


class TooMany(Exception):
    """There are so many files that the worker had better look itself."""


def look(directory):
    """Return the files beneath a directory and what changes with them, by path; None if there are too many."""
    found = {}
    try:
        _walk(directory, "", found, MAX_DEPTH)
    except TooMany:
        return None
    return found


def changed(before, after):
    """Return the paths that were created or changed, as the part of a reply; None if that is not known."""
    if before is None or after is None:
        return None
    return b"\0".join(os.fsencode(path) for path, state in after.items() if before.get(path) != state)


def _walk(directory, prefix, found, depth):
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return
    for entry in entries:
        path = prefix + entry.name
        try:
            state = entry.stat(follow_symlinks=False)
            found[path] = (state.st_ino, state.st_size, state.st_mtime_ns, state.st_mode)
            if len(found) > MAX_ENTRIES:
                raise TooMany
            if entry.is_dir(follow_symlinks=False) and depth:
                _walk(entry.path, path + "/", found, depth - 1)
        except OSError:
            continue
