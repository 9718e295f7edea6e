"""Read and write the blocks of a tar: ustar, pax and GNU headers as bytes. Nothing here touches a file system.

Only what a directory of files needs is read: regular files, directories, symbolic and hard links. Everything else
is `BadArchive`, so that reading stops there.
"""

BLOCK = 512
ZEROS = bytes(BLOCK)
#: The bounds of an archive that is read. Headers of every kind count as entries.
MAX_ENTRIES = 100_000
MAX_NAME_BYTES = 1024
MAX_PART_BYTES = 255
MAX_DEPTH = 64
MAX_EXTENSION_BYTES = 64 * 1024
MAX_TRAILING_BYTES = 1 << 20
CHUNK = 256 * 1024

FILE, HARD_LINK, SYMLINK, DIRECTORY = b"0", b"1", b"2", b"5"
_KINDS = {b"0": FILE, b"\0": FILE, b"7": FILE, b"1": HARD_LINK, b"2": SYMLINK, b"5": DIRECTORY}
_LONG_NAME, _LONG_TARGET, _PAX, _PAX_GLOBAL = b"L", b"K", b"x", b"g"
_SPECIAL = {b"3": "a device", b"4": "a device", b"6": "a FIFO", b"S": "a sparse file"}
#: The beginnings of gzip, bzip2, xz and zstd.
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"(\xb5/\xfd")
_OCTAL = frozenset(b"01234567")


class BadArchive(Exception):
    """An archive that is not read any further; the text names the entry."""


class TarEntry:
    """One entry: its path as parts, its kind, size, permission bits, time in seconds, and the target of a link."""

    __slots__ = ("kind", "mode", "mtime", "name", "parts", "size", "target")

    def __init__(self, name, kind, size, mode, mtime, target):
        self.name = name
        self.kind = kind
        self.size = size
        self.mode = mode
        self.mtime = mtime
        self.target = target
        self.parts = checked_parts(name)


def shown(name):
    """Return a name as it stands in a message: printable, and not too long."""
    text = name[:200].decode("utf-8", "replace")
    return "".join([letter if letter.isprintable() else "?" for letter in text])


def bad(name, problem):
    """Return the error for an entry."""
    return BadArchive(f"{shown(name)}: {problem}")


def checked_parts(name):
    """Return the parts of a relative path; none for the directory itself. Raises BadArchive."""
    if name.startswith(b"/"):
        raise bad(name, "an absolute path")
    if b"\0" in name:
        raise bad(name, "a path with NUL")
    if len(name) > MAX_NAME_BYTES:
        raise bad(name, f"a path of more than {MAX_NAME_BYTES} bytes")
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise bad(name, "a path with '..'")
    if len(parts) > MAX_DEPTH:
        raise bad(name, f"a path of more than {MAX_DEPTH} parts")
    if any(len(part) > MAX_PART_BYTES for part in parts):
        raise bad(name, f"a path with a part of more than {MAX_PART_BYTES} bytes")
    return parts


def check_target(entry):
    """Refuse a symbolic link that may lead out of the directory of the archive. Raises BadArchive.

    `..` may only stand at the beginning: behind a name it would depend on what that name leads to.
    """
    target = entry.target
    if not target or b"\0" in target or len(target) > MAX_NAME_BYTES:
        raise bad(entry.name, "a link with an empty or too long target")
    parts = [part for part in target.split(b"/") if part not in (b"", b".")]
    up = 0
    while up < len(parts) and parts[up] == b"..":
        up += 1
    if target.startswith(b"/") or b".." in parts[up:] or up > len(entry.parts) - 1:
        raise bad(entry.name, "a link that leads out of the archive")


# -- reading -----------------------------------------------------------------------------------------


class Reader:
    """Reads an archive from `read(size)`, which returns b"" at the end. Iterates over its entries.

    The content of an entry is taken by `content`, before the next entry; what is not taken is skipped.
    """

    def __init__(self, read):
        self._read = read
        self._held = bytearray()
        self._left = self._padding = 0
        self._headers = 0
        self._name = b"the archive"

    def __iter__(self):
        while (found := self._next()) is not None:
            yield found

    def content(self):
        """Yield the content of the entry returned last. Raises BadArchive if the archive ends within it."""
        while self._left:
            piece = self._piece(self._left)
            self._left -= len(piece)
            yield piece

    def finish(self):
        """Read what stands behind the end, up to a bound."""
        left = MAX_TRAILING_BYTES - len(self._held)
        while data := self._read(CHUNK):
            left -= len(data)
            if left < 0:
                raise BadArchive(f"more than {MAX_TRAILING_BYTES} bytes behind the end of the archive")

    def _next(self):
        """Return the next entry, None at the end."""
        long_name = long_target = None
        pax = {}
        while True:
            block = self._header()
            if block is None:
                return None
            kind, size = block[156:157], self._size(block)
            if kind in (_LONG_NAME, _LONG_TARGET):
                text = self._extension(size).rstrip(b"\0")
                long_name, long_target = (text, long_target) if kind == _LONG_NAME else (long_name, text)
            elif kind == _PAX:
                pax.update(self._pax(size))
            elif kind == _PAX_GLOBAL:
                self._extension(size)  # a comment, or defaults that are not used
            else:
                return self._entry(block, kind, size, long_name, long_target, pax)

    def _header(self):
        """Return the next block if it is a header, None at the end of the archive. Raises BadArchive."""
        for _ in self.content():
            pass
        self._exactly(self._padding)
        self._padding = 0
        block = self._exactly(BLOCK)
        if block == ZEROS:
            return None
        self._headers += 1
        if self._headers > MAX_ENTRIES:
            raise bad(block[:100].partition(b"\0")[0], f"the archive has more than {MAX_ENTRIES} entries")
        if block.startswith(_COMPRESSED):
            raise BadArchive("the archive is compressed: send a plain tar")
        total = sum(block) - sum(block[148:156]) + 8 * 32
        if _number(block[148:156]) != total:
            raise bad(self._name, "the block behind it is no header of a tar")
        return block

    def _size(self, block):
        size = _number(block[124:136])
        if size is None:
            raise bad(block[:100].partition(b"\0")[0], "its size is no number")
        return size

    def _extension(self, size):
        if size > MAX_EXTENSION_BYTES:
            raise bad(self._name, f"an extended header behind it has more than {MAX_EXTENSION_BYTES} bytes")
        data = self._exactly(size)
        self._exactly(-size % BLOCK)
        return data

    def _pax(self, size):
        """Return the records of a pax header: each is `LENGTH KEY=VALUE` and a newline."""
        data, found, at = self._extension(size), {}, 0
        while at < len(data):
            digits, space, _ = data[at : at + 8].partition(b" ")
            length = int(digits) if space and digits.isdigit() else 0
            record = data[at : at + length]
            key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
            if len(record) != length or record[-1:] != b"\n" or not equals:
                raise bad(self._name, "the extended header behind it is malformed")
            found[key] = value
            at += length
        return found

    def _entry(self, block, kind, size, long_name, long_target, pax):
        name = block[:100].partition(b"\0")[0]
        if block[257:263] == b"ustar\0" and (prefix := block[345:500].partition(b"\0")[0]):
            name = prefix + b"/" + name
        name = pax.get(b"path", long_name if long_name is not None else name)
        target = pax.get(
            b"linkpath", long_target if long_target is not None else block[157:257].partition(b"\0")[0]
        )
        self._name = name
        if kind not in _KINDS or any(key.startswith(b"GNU.sparse") for key in pax):
            raise bad(name, f"{_SPECIAL.get(kind, 'neither a file, nor a directory, nor a link')} is not unpacked")
        kind = DIRECTORY if _KINDS[kind] == FILE and name.endswith(b"/") else _KINDS[kind]
        size = _decimal(pax[b"size"]) if b"size" in pax else size
        if size is None or (size and kind != FILE):
            raise bad(name, "a size that it cannot have")
        found = TarEntry(name, kind, size, (_number(block[100:108]) or 0) & 0o777, _time(block, pax), target)
        self._left, self._padding = size, -size % BLOCK
        return found

    def _exactly(self, size):
        while len(self._held) < size:
            data = self._read(CHUNK)
            if not data:
                raise bad(self._name, "the archive ends within it or behind it")
            self._held += data
        found = bytes(self._held[:size])
        del self._held[:size]
        return found

    def _piece(self, most):
        if not self._held:
            self._held += self._read(CHUNK)
            if not self._held:
                raise bad(self._name, "the archive ends within it or behind it")
        found = bytes(self._held[:most])
        del self._held[:most]
        return found


def _number(field):
    """Return the number of a field: octal digits, or binary behind the bit 0x80; None if it is neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip(b" ")
    if not digits:
        return 0
    return int(digits, 8) if _OCTAL.issuperset(digits) else None


def _decimal(text):
    return int(text) if text.isdigit() and len(text) < 20 else None


def _time(block, pax):
    whole = pax.get(b"mtime", b"").partition(b".")[0]
    if whole.isdigit() and len(whole) < 12:
        return int(whole)
    return min(_number(block[136:148]) or 0, 1 << 35)


# -- writing -----------------------------------------------------------------------------------------


def header(name, kind, size, mode, mtime, target=b""):
    """Return the header of an entry, in GNU's form: names are bytes, of any length."""
    longer = b""
    if len(target) > 100:
        longer += _long(_LONG_TARGET, target)
    if len(name) > 100:
        longer += _long(_LONG_NAME, name)
    return longer + _block(name, kind, size, mode, mtime, target)


def _long(kind, text):
    data = text + b"\0"
    return _block(b"././@LongLink", kind, len(data), 0o644, 0, b"") + data + bytes(-len(data) % BLOCK)


def _block(name, kind, size, mode, mtime, target):
    # The owner is left out: uids mean nothing outside a sandbox.
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, 0, 0, size, min(max(mtime, 0), 0o77777777777))
    first = name[:100].ljust(100, b"\0") + numbers
    last = kind + target[:100].ljust(100, b"\0") + b"ustar  \0"
    block = (first + b" " * 8 + last).ljust(BLOCK, b"\0")
    return first + b"%06o\0 " % sum(block) + block[156:]
