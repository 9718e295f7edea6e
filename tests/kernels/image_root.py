"""Start a program in the root of a language's image, without the service.

The root is an overlay of the built image's layers with the kernels of this checkout on top, in a mount namespace of
the process itself: it disappears with it. Nothing of the image is changed.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.place import IMAGES

RUNNERS = Path(__file__).parents[2] / "runners"
UID = 10_000
DEVICES = ("null", "zero", "full", "random", "urandom")

SETUP = f"""
set -e
root=$1 layers=$2 kernels=$3; shift 3
mount -t tmpfs -o mode=0755 tmpfs "$root"
mkdir "$root/upper" "$root/work" "$root/root"
mkdir -p "$root/upper/opt"
cp -r "$kernels" "$root/upper/opt/runyard"
chmod -R a+rX "$root/upper"
mount -t overlay -o "lowerdir=$layers,upperdir=$root/upper,workdir=$root/work" overlay "$root/root"
root=$root/root
# Compiled files of the image's kernels, which Python takes unchecked, are not those of this checkout.
rm -rf "$root"/opt/runyard/*/kernel/__pycache__ "$root"/opt/runyard/*/kernel/*/__pycache__
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for name in {" ".join(DEVICES)}; do touch "$root/dev/$name"; mount --bind "/dev/$name" "$root/dev/$name"; done
ln -s /proc/self/fd "$root/dev/fd"
mkdir -p "$root/work" "$root/tmp"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=1777 tmpfs "$root/work"
exec 3>&"$REPLIES"
eval "exec $REPLIES>&-"
unset REPLIES
exec env -u OLDPWD chroot --userspec={UID}:{UID} "$root" /usr/bin/env -C /work "$@"
"""


def is_built(language: str) -> bool:
    """Return whether there is an image of the language."""
    return (IMAGES / f"{language}.json").exists()


def program(language: str, kernels: Path, mountpoint: Path, argv: list[str]) -> list[str]:
    """Return the argv that runs `argv` in the image; descriptor $REPLIES becomes its descriptor 3."""
    layers = json.loads((IMAGES / f"{language}.json").read_text())["layers"]
    shell = ["bash", "-c", SETUP, "setup", str(mountpoint), ":".join(layers), str(kernels)]
    return ["unshare", "--mount", "--propagation", "private", *shell, *argv]
