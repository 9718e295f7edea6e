"""The modules that an image has, listed once from the directories of its layers.

The layers were unpacked by the builder of the images; nothing of a run is in them. An image that an engine keeps
in a store of its own has no layers here, and then no names are known.
"""

from __future__ import annotations

import os
import re
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.images import Image

#: An image with more names than this is not listed in full.
MAX_NAMES = 5_000
_SUFFIXES = (".py", ".so", ".pyc")
_NODE = (
    "assert async_hooks buffer child_process cluster console constants crypto dgram diagnostics_channel dns domain "
    "events fs http http2 https inspector module net os path perf_hooks process punycode querystring readline repl "
    "stream string_decoder sys timers tls trace_events tty url util v8 vm wasi worker_threads zlib"
)
#: Names that are known without looking.
_BUILT_IN = {
    "python": frozenset(sys.builtin_module_names),
    "node": frozenset(_NODE.split()),
    "typescript": frozenset(_NODE.split()),
    "bun": frozenset([*_NODE.split(), "bun:sqlite", "bun:ffi", "bun:test"]),
    "deno": frozenset(_NODE.split()),
    "rust": frozenset(("std", "core", "alloc", "proc_macro")),
}
#: The directories of a language, relative to a layer; `*` is one part of a path.
_PLACES = {
    "python": (
        "usr/lib/python3.*", "usr/lib/python3.*/lib-dynload", "usr/lib/python3/dist-packages",
        "usr/local/lib/python3.*/dist-packages", "usr/local/lib/python3.*/site-packages",
    ),
    "ruby": (
        "usr/lib/ruby/*", "usr/lib/*/ruby/*", "usr/lib/ruby/gems/*/gems", "usr/share/rubygems-integration/*/gems",
        "var/lib/gems/*/gems",
    ),
    "node": ("node_modules",),
    "typescript": ("node_modules",),
    "bun": ("node_modules",),
    "go": ("usr/share/go-*/src", "usr/share/go-*/src/*", "usr/local/go/src", "usr/local/go/src/*"),
    "bash": ("usr/local/bin", "usr/bin", "usr/sbin"),
}  # fmt: skip
_GEM_VERSION = re.compile(r"-\d[^/]*\Z")
_NOT_GO = frozenset(("cmd", "vendor", "internal", "testdata"))


@lru_cache(maxsize=32)
def available_modules(image: Image, language: str) -> frozenset[str]:
    """Return the names that a program of the language can import (in bash: the commands); empty if unknown."""
    if not image.layers:
        return frozenset()
    name_of = _NAMES.get(language, _plain_name)
    found = set(_BUILT_IN.get(language, ()))
    for layer in image.layers:
        for place in _PLACES.get(language, ()):
            for directory in _matching(layer, place.split("/")):
                parent = os.path.basename(directory)
                found.update(name for entry in _entries(directory) if (name := name_of(entry, parent)))
                if len(found) >= MAX_NAMES:
                    return frozenset(found)
    return frozenset(found)


def _matching(directory: str, parts: list[str]) -> Iterator[str]:
    """Yield the existing directories that a pattern names."""
    if not parts:
        yield directory
        return
    first, rest = parts[0], parts[1:]
    if "*" not in first:
        yield from _matching(f"{directory}/{first}", rest)
        return
    before, _, behind = first.partition("*")
    for entry in _entries(directory):
        if entry.name.startswith(before) and entry.name.endswith(behind) and entry.is_dir():
            yield from _matching(entry.path, rest)


def _entries(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _plain_name(entry: os.DirEntry[str], _parent: str) -> str:
    return "" if entry.name.startswith((".", "_")) else entry.name


def _python_name(entry: os.DirEntry[str], _parent: str) -> str:
    name, dot, _ = entry.name.partition(".")
    if not name.isidentifier() or name.startswith("_") or (dot and not entry.name.endswith(_SUFFIXES)):
        return ""
    return name


def _ruby_name(entry: os.DirEntry[str], parent: str) -> str:
    if parent == "gems":
        return _GEM_VERSION.sub("", entry.name)
    name, dot, suffix = entry.name.partition(".")
    return name if not dot or suffix in ("rb", "so") else ""


def _go_name(entry: os.DirEntry[str], parent: str) -> str:
    if entry.name in _NOT_GO or parent in _NOT_GO or not entry.is_dir():
        return ""
    return entry.name if parent == "src" else f"{parent}/{entry.name}"


_NAMES: dict[str, Callable[[os.DirEntry[str], str], str]] = {
    "python": _python_name,
    "ruby": _ruby_name,
    "go": _go_name,
}
