"""The root of a template's child: an overlay that is mounted nowhere."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

import pytest

from sandbox.engines.syscalls import detached_overlay

#: Beyond about a dozen layers the kernel has to take them one by one.
TAKES_MANY = tuple(map(int, platform.release().split(".")[:2])) >= (6, 8)


def mounted() -> str:
    return Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize(
    "count", [2, pytest.param(40, marks=pytest.mark.skipif(not TAKES_MANY, reason="old kernel"))]
)
def test_it_shows_the_topmost_file_of_each_name_and_is_read_only(tmp_path, count):
    mounts = mounted()
    with contextlib.ExitStack() as undo:
        layers = []
        for number in range(count):
            layer = tmp_path / str(number)
            layer.mkdir()
            (layer / "common").write_text(f"of {number}")
            (layer / f"own-{number}").write_text("")
            layers.append(os.open(layer, os.O_PATH | os.O_DIRECTORY))
            undo.callback(os.close, layers[-1])
        root = detached_overlay(layers)
        undo.callback(os.close, root)
        assert sorted(os.listdir(f"/proc/self/fd/{root}")) == sorted(
            ["common", *(f"own-{n}" for n in range(count))]
        )
        fd = os.open("common", os.O_RDONLY, dir_fd=root)
        undo.callback(os.close, fd)
        assert os.read(fd, 100) == b"of 0"
        with pytest.raises(OSError, match="Read-only"):
            os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=root)
        assert mounted() == mounts
