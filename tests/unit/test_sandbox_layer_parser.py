"""The bytes that a builder sends, read by the host: written by the agent's own code, and by one that lies."""

import contextlib
import io
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.frames import ProtocolError, pack
from sandbox.layers.entry import DIRECTORY, FILE, LINK, LayerEntry
from sandbox.layers.parser import MAX_FIELDS_BYTES, LayerParser
from sandbox.layers.places import PLACES


class Kept:
    """A writer that keeps what it is given."""

    def __init__(self):
        self.items = []

    def add(self, entry):
        self.items.append((entry, b""))

    def data(self, content):
        entry, before = self.items[-1]
        self.items[-1] = entry, before + content


def sent(*fields, content=b""):
    packed = pack(fields)
    return len(packed).to_bytes(4, "big") + packed + content


@pytest.fixture
def packing(fresh_agent):
    import agent.packages.pack

    return agent.packages.pack


def parse(data):
    kept = Kept()
    parser = LayerParser(kept)
    parser.feed(data)
    return kept.items, parser.is_complete


def test_what_the_agent_packs_arrives_as_it_was(packing, tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a").chmod(0o755)
    (tmp_path / "a/b").chmod(0o700)
    (tmp_path / "a/file").write_bytes(b"content" * 100_000)
    (tmp_path / "a/file").chmod(0o4640)
    (tmp_path / "a/empty").write_bytes(b"")
    (tmp_path / "a/empty").chmod(0o644)
    (tmp_path / "a/link").symlink_to("../../etc/passwd")
    os.mkfifo(tmp_path / "a/fifo")
    out = io.BytesIO()
    packing.pack(str(tmp_path), out)
    items, is_complete = parse(out.getvalue())
    assert is_complete
    assert items == [
        (LayerEntry(DIRECTORY, b"a", 0o755), b""),
        (LayerEntry(DIRECTORY, b"a/b", 0o700), b""),
        (LayerEntry(FILE, b"a/empty", 0o644), b""),
        (LayerEntry(FILE, b"a/file", 0o4640, 700_000), b"content" * 100_000),
        (LayerEntry(LINK, b"a/link", 0o777, 0, b"../../etc/passwd"), b""),
    ]


@settings(max_examples=200, deadline=None)
@given(cuts=st.lists(st.integers(1, 40), max_size=60))
def test_it_does_not_matter_where_the_bytes_are_cut(cuts):
    whole = sent(b"directory", b"a", b"755", b"0", b"") + sent(
        b"file", b"a/f", b"644", b"9", b"", content=b"123456789"
    )
    whole += bytes(4)
    kept = Kept()
    parser = LayerParser(kept)
    at = 0
    for cut in [*cuts, len(whole)]:
        parser.feed(whole[at : at + cut])
        at += cut
    assert parser.is_complete
    assert kept.items[1] == (LayerEntry(FILE, b"a/f", 0o644, 9), b"123456789")


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(ProtocolError):
        parse(data)


@pytest.mark.parametrize(
    "data",
    [
        (MAX_FIELDS_BYTES + 1).to_bytes(4, "big"),
        sent(b"file", b"a", b"644", b"-1", b""),
        sent(b"file", b"a", b"644", b"99999999999", b""),
        sent(b"file", b"a", b"9", b"0", b""),
        sent(b"file", b"a", b"", b"0", b""),
        sent(b"file", b"a", b"07777", b"0", b""),
        sent(b"file", b"a", b"644", b"0"),
        sent(b"file", b"a", b"644", b"0", b"", b""),
        bytes(4) + b"x",
    ],
    ids=[
        "too long",
        "size below 0",
        "size beyond",
        "no octal",
        "no mode",
        "long mode",
        "too few",
        "too many",
        "rest",
    ],
)
def test_what_no_agent_sends_is_refused(data):
    with pytest.raises(ProtocolError):
        parse(data)


def test_a_layer_without_its_end_is_not_complete():
    assert parse(sent(b"directory", b"a", b"755", b"0", b""))[1] is False


def test_a_layer_fills_the_places_of_its_ecosystem_alone():
    kept = Kept()
    parser = LayerParser(kept, PLACES["cargo"])
    for path in (b"opt", b"opt/packages", b"opt/packages/rust"):
        parser.feed(sent(b"directory", path, b"0", b"0", b""))
    parser.feed(sent(b"file", b"opt/packages/rust/arguments", b"600", b"0", b""))
    assert [(entry.path, entry.mode) for entry, _ in kept.items] == [
        (b"opt", 0o755), (b"opt/packages", 0o755), (b"opt/packages/rust", 0), (b"opt/packages/rust/arguments", 0o600)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (b"directory", b"usr"),
        (b"directory", b"opt/runyard"),
        (b"directory", b"opt/packages/rusty"),
        (b"directory", b"opt/packages/python"),
        (b"file", b"opt/packages"),
        (b"link", b"opt"),
        (b"link", b"opt/packages"),
        (b"link", b"node_modules"),
        (b"directory", b""),
    ],
)
def test_a_layer_that_covers_more_of_the_image_is_refused(kind, path):
    target = b"/etc" if kind == b"link" else b""
    with pytest.raises(ProtocolError):
        LayerParser(Kept(), PLACES["cargo"]).feed(sent(kind, path, b"755", b"0", target))
