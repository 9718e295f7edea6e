"""`python -m ops.images [--images DIR] [LANGUAGE ...]`: build the runner images that are not up to date."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ops.environment import clean
from ops.images import layers, wheels
from ops.images.builder import Builder
from ops.images.errors import ImageError
from ops.images.inputs import BuildInputs, place
from ops.images.namespace import run_isolated
from ops.images.packages import LOCK
from ops.images.run import BuildProgress
from ops.images.store import Store

RUNNERS = Path(__file__).resolve().parents[2] / "runners"
REFRESH = "refresh"


def main(argv: list[str] | None = None) -> int:
    """Build; 0 when every language asked for is ready."""
    options = _options(argv)
    os.umask(0o022)
    try:
        if options.context:
            return _context(*options.context)
        return _build(options)
    except ImageError as e:
        print(f"images: {e}", file=sys.stderr)
        return 1


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ops.images", description=__doc__)
    parser.add_argument("--images", type=Path, default=_default_store(), help="the image store")
    parser.add_argument("--check", action="store_true", help="only list outdated images; exit 1 if there are any")
    parser.add_argument("--collect", action="store_true", help="also remove unused layers")
    parser.add_argument("--refresh", metavar="WORD", help="rebuild all images once with newer Debian packages")
    parser.add_argument(
        "--context", nargs=2, metavar=("LANGUAGE", "DIR"), help="fill a directory for `docker build` instead"
    )
    parser.add_argument("languages", nargs="*", help="languages to build; default: all")
    return parser.parse_args(argv)


def _default_store() -> Path:
    state = os.environ.get("STATE_DIR") or "/var/lib/runyard"
    return Path(os.environ.get("IMAGES_DIR") or f"{state}/images")


def _build(options: argparse.Namespace) -> int:
    store, progress = Store(options.images), BuildProgress()
    inputs = BuildInputs(RUNNERS, refresh=_refresh(store, options.refresh))
    languages = options.languages or inputs.languages()
    unknown = sorted(set(languages) - set(inputs.languages()))
    if unknown:
        raise ImageError(f"no runner for {', '.join(unknown)}; available: {', '.join(inputs.languages())}")
    builder = Builder(store, inputs, clean(), progress)
    if options.check:
        outdated = builder.outdated(languages)
        print("\n".join(outdated), end="\n" if outdated else "")
        return 1 if outdated else 0

    def work() -> int:
        try:
            with store.locked(progress):
                builder.build(languages)
                for name in store.collect() if options.collect else ():
                    progress.say(f"{name}: removed")
        except ImageError as e:
            progress.say(f"failed: {e}")
            return 1
        return 0

    return run_isolated(work)


def _refresh(store: Store, word: str | None) -> str:
    """Return the last value of --refresh. It is part of the base's key, so that later builds use it too."""
    path = store.folder / REFRESH
    if word is not None:
        store.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_text(word)
    return path.read_text() if path.exists() else ""


def _context(language: str, target: str) -> int:
    """Lay out what a runner's Dockerfile copies."""
    inputs, folder = BuildInputs(RUNNERS), Path(target).resolve()
    build = folder / "build"
    build.mkdir(parents=True)
    layers.fill_context(build, inputs, language, None)
    lock = RUNNERS / language / LOCK
    if lock.exists():
        wheels.fetch(lock, build / "site", clean())
    place(inputs.agent(), folder / "opt/runyard")
    place({"Dockerfile": RUNNERS / language / "Dockerfile"}, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
