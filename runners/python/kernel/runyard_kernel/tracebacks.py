"""An exception as a client gets it: its name, its value, and the lines of the cells that led to it."""

import traceback

#: IPython has the code of each cell in a file of a name that begins so.
CELL_PREFIX = "<ipython-input-"
MAX_BYTES = 64 * 1024
MAX_FRAMES = 50


def describe(error, names):
    """Return the parts of an `exception`. `names` are the file names of cells, and how they are shown."""
    lines = "".join(_lines(error, names)).rstrip("\n")
    return {
        "name": type(error).__name__.encode("utf-8", "replace"),
        "value": _shown(_text(error), names).encode("utf-8", "replace")[:MAX_BYTES],
        "traceback": lines.encode("utf-8", "replace")[:MAX_BYTES],
    }


def _shown(text, names):
    """Return a text with cells named as in the traceback: that of a SyntaxError has the name of its file."""
    if CELL_PREFIX in text:
        for name, shown in names.items():
            text = text.replace(name, shown)
    return text


def _text(error):
    try:
        return str(error)
    except Exception:  # of the cell's own class
        return "<no text>"


def _lines(error, names):
    try:
        told = traceback.TracebackException.from_exception(error, compact=True)
        _keep_cells(told, names)
        return list(told.format())
    except Exception:  # of the cell's own class
        return [f"{type(error).__name__}: {_text(error)}"]


def _keep_cells(told, names, depth=0):
    """Leave only the frames of cells, in an exception and in those that it came of."""
    if told is None or depth > 20:
        return
    frames = [frame for frame in told.stack if frame.filename in names]
    for frame in frames:
        frame.filename = names[frame.filename]
    told.stack[:] = frames[-MAX_FRAMES:]
    if getattr(told, "filename", None) in names:  # a SyntaxError's
        told.filename = names[told.filename]
    for other in (told.__cause__, told.__context__, *(getattr(told, "exceptions", None) or ())):
        _keep_cells(other, names, depth + 1)
