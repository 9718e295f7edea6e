"""Build matplotlib's font list into the image, and have matplotlib find it there.

matplotlib looks for its list in a directory that it must be able to write, which in a sandbox is always new and
empty; so each program that plots would search all fonts again. Here the list is written once, and the one line
that reads it is made to try the image's first.
"""

import os
import sys
import tempfile
from pathlib import Path

LIST = Path("/usr/local/share/matplotlib/fontlist.json")
BEFORE = "    if try_read_cache:\n        try:\n            fm = json_load(fm_path)\n"
AFTER = f"    if try_read_cache:\n        try:\n            fm = json_load({str(LIST)!r})\n"


def write_list() -> None:
    """Let matplotlib search the image's fonts, and keep what it found."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MPLCONFIGDIR"] = folder
        import matplotlib.font_manager  # searches on import, and writes the list

        (found,) = Path(folder).glob("fontlist-*.json")
        LIST.parent.mkdir(parents=True, exist_ok=True)
        LIST.write_text(found.read_text())
        LIST.chmod(0o644)
        if len(matplotlib.font_manager.fontManager.ttflist) < 10:
            raise SystemExit("fonts.py: matplotlib found fewer fonts than it brings")


def read_it_first(site: Path) -> None:
    """Point matplotlib at the image's list; refuse to guess if its source is not as it was."""
    path = site / "matplotlib" / "font_manager.py"
    text = path.read_text()
    if text.count(BEFORE) != 1:
        raise SystemExit(f"fonts.py: {path} no longer reads its font list the way this image build expects")
    path.write_text(text.replace(BEFORE, AFTER))


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    write_list()
    read_it_first(Path(sys.argv[1]))
