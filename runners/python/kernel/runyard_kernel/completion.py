"""Answer the questions of an editor: how a word can go on, and what a name is."""

from IPython.core.completer import provisionalcompleter, rectify_completions
from IPython.utils.tokenutil import token_at_cursor

MAX_MATCHES = 1000
MAX_TEXT = 64 * 1024


def complete(shell, code, cursor):
    """Return a reply with the ways in which the word at the cursor can go on."""
    cursor = max(0, min(cursor, len(code)))
    with provisionalcompleter():
        found = list(rectify_completions(code, shell.Completer.completions(code, cursor)))
    start, end = (found[0].start, found[0].end) if found else (cursor, cursor)
    matches = [one.text for one in found[:MAX_MATCHES] if "\n" not in one.text]
    return {"type": "complete", "start": start, "end": end}, {"matches": "\n".join(matches).encode()}


def inspect(shell, code, cursor):
    """Return a reply with what is known of the name at the cursor."""
    name = token_at_cursor(code, max(0, min(cursor, len(code))))
    try:
        text = shell.object_inspect_mime(name)["text/plain"] if name else ""
    except KeyError:
        text = ""
    return {"type": "inspect", "found": bool(text)}, {"text": text.encode("utf-8", "replace")[:MAX_TEXT]}
