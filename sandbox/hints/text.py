"""Bound the texts that hints are read from, and those that they quote. The texts may be hostile."""

from __future__ import annotations

from protocol.hints import MAX_QUOTED

#: So much of the output is looked at: a panic begins with its message, other errors end with it.
HEAD_CHARS = 2 * 1024
TAIL_CHARS = 6 * 1024
#: A longer line is cut: no row looks for a longer message.
LINE_CHARS = 600


def excerpt(text: str) -> str:
    """Return the lines that the rows are tried on: the first and the last ones of a long text, without CR."""
    if len(text) > HEAD_CHARS + TAIL_CHARS:
        text = f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if len(text) <= LINE_CHARS:
        return text
    return "\n".join(line[:LINE_CHARS] for line in text.split("\n"))


def quoted(text: str, most: int = MAX_QUOTED) -> str:
    """Return a text as a hint shows it: one line of printable characters, cut to `most` of them."""
    if len(text) > most:
        text = f"{text[: most - 1]}…"
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)
