"""The artifacts of a run in a session: the files beneath its outputs that it has created or changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from protocol.job import INPUTS, MAX_ARTIFACTS_BYTES, MAX_SKIPPED_LISTED
from sandbox.frames import pack
from sandbox.sessions.files import Entry, FileRefused, entries, operation

if TYPE_CHECKING:
    from collections.abc import Collection

    from protocol.limits import Limits
    from sandbox.agent_client.artifacts import Receiver
    from sandbox.sessions.session import LiveSession

DEPTH = b"32"
MOST_LISTED = b"10000"
#: The path of /work itself.
WHOLE = "."


#: No number of changes: something may have changed a file since.
NEVER = -1


class KeptListing(NamedTuple):
    """The entries beneath a directory at the end of a run, valid as long as nothing was changed since."""

    directory: str
    #: `SessionStream.changes` at that time.
    changes: int
    found: dict[bytes, Entry]


class SessionOutputs:
    """One directory of outputs of a session, for one run."""

    def __init__(self, session: LiveSession, directory: str) -> None:
        self._session = session
        self._directory = directory
        self._path = b"/work" if directory == WHOLE else b"/work/" + directory.encode()
        self._before: dict[bytes, Entry] = {}
        self._changed: Collection[bytes] | None = None

    @property
    def path(self) -> str:
        """Return the directory, as programs in the sandbox name it."""
        return self._path.decode()

    def note(self) -> None:
        """Note what lies there before the run: as the last run left it, if nothing can have changed it since."""
        kept = self._session.kept_listing
        if kept is not None and kept[:2] == (self._directory, self._session.stream.changes):
            self._before = dict(kept.found)
        else:
            self._before = self._list()

    def note_last(self) -> None:
        """Note what lay there when it was listed last: nearly what lies there before the run."""
        kept = self._session.kept_listing
        self._before = dict(kept.found) if kept is not None and kept.directory == self._directory else {}

    def expect(self, changed: Collection[bytes] | None) -> None:
        """Take these files for the ones that the run has created or changed; None: all that are there.

        It is a claim of the run's kernel, which has looked before and after it.
        """
        self._changed = changed

    def note_written(self, entry: Entry) -> None:
        """Note a file that the service has put there for the run, which is none of its outputs."""
        prefix = self._path + b"/"
        if entry.name.startswith(prefix):
            name = entry.name[len(prefix) :]
            self._before[name] = entry._replace(name=name)

    def collect(self, receiver: Receiver, limits: Limits) -> None:
        """Keep the files that the run has created or changed, within its limits."""
        if self._changed is not None and not self._changed:
            receiver.end(b"0")
            return
        total = count = skipped = 0
        # Before the look: anything that is alive now may change a file after that.
        changes, is_quiet = self._session.stream.changes, self._session.stream.is_quiet
        found = self._list()
        self._session.kept_listing = KeptListing(self._directory, changes if is_quiet else NEVER, found)
        for path, entry in found.items():
            if entry.kind == "directory" or not self._is_changed(path, entry):
                continue
            reason = _reason(entry, limits.max_artifact_bytes, MAX_ARTIFACTS_BYTES - total)
            if reason is None and count >= limits.max_artifact_files:
                reason = b"too_many"
            if reason is None:
                count, total = count + 1, total + entry.size
                self._keep(path, entry.size, receiver)
                continue
            skipped += 1
            if skipped <= MAX_SKIPPED_LISTED:
                receiver.skip(pack([path, reason]))
        receiver.end(b"%d" % skipped)

    def _is_changed(self, path: bytes, entry: Entry) -> bool:
        if self._changed is not None and path not in self._changed:
            return False
        return self._before.get(path) != entry

    def _list(self) -> dict[bytes, Entry]:
        """Return what lies there, by path; nothing if there is no such directory, or a link in its place."""
        try:
            with operation(self._session, b"list", self._path, DEPTH, b"", MOST_LISTED) as listing:
                if Entry.parse(listing.report(whole=False)).kind != "directory":
                    return {}
                found = {entry.name: entry for entry in entries(listing.content())}
        except FileRefused:
            return {}
        if self._directory != WHOLE:
            return found
        return {path: entry for path, entry in found.items() if not is_left_out(path)}

    def _keep(self, path: bytes, size: int, receiver: Receiver) -> None:
        receiver.begin(pack([path, b"%d" % size]))
        try:
            with operation(self._session, b"read", self._path + b"/" + path, b"0", b"%d" % size) as reading:
                reading.report(whole=False)
                for piece in reading.content():
                    receiver.data(piece)
        except FileRefused:
            pass  # what is missing is noted as changed


def is_left_out(path: bytes) -> bool:
    """Return whether a path of /work is never an artifact: what was put in, and hidden files."""
    parts = path.split(b"/")
    return parts[0] == INPUTS.encode() or any(part.startswith(b".") for part in parts)


def _reason(entry: Entry, most: int, room: int) -> bytes | None:
    """Return why a file is not kept as an artifact; None if it may be."""
    if entry.kind == "symlink":
        return b"symlink"
    if entry.kind != "file":
        return b"special_file"
    return b"too_large" if entry.size > most or entry.size > room else None
