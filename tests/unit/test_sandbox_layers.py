"""The files of a layer on their way to the disk: entries that no honest builder sends, and what is left of them."""

import hashlib
import os
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.frames import ProtocolError
from sandbox.layers import writer as writer_module
from sandbox.layers.entry import DIRECTORY, FILE, LINK, MAX_DEPTH, LayerEntry
from sandbox.layers.writer import BLOCK_BYTES, LayerTooLarge, LayerWriter
from storage import beneath

SETTINGS = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(params=["openat2", "step by step"])
def _way(request, monkeypatch):
    if request.param == "step by step":
        monkeypatch.setattr(beneath, "_openat2", lambda *_: None)


def write(directory, items, **bounds):
    """Write entries with their content, and return the layer's place and facts."""
    place = directory / "layer"
    with LayerWriter(directory / "new", **bounds) as writer:
        for entry, content in items:
            writer.add(entry)
            if content:
                writer.data(content)
        return place, writer.keep(place)


def file(path, content=b"", mode=0o644):
    return LayerEntry(FILE, path, mode, len(content)), content


def folder(path, mode=0o755):
    return LayerEntry(DIRECTORY, path, mode), b""


def link(path, target):
    return LayerEntry(LINK, path, 0o777, 0, target), b""


@pytest.mark.usefixtures("_way")
def test_a_tree_is_written_as_described(tmp_path):
    place, written = write(
        tmp_path, [folder(b"six"), folder(b"six/a"), file(b"six/a/m.py", b"x = 1\n"), link(b"six/l", b"a/m.py")]
    )
    assert (place / "six/a/m.py").read_bytes() == b"x = 1\n"
    assert os.readlink(place / "six/l") == "a/m.py"
    assert written.entries == 4
    assert written.size == 4 * BLOCK_BYTES
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("mode", [0o6777, 0o1777, 0o4755, 0o666, 0o7000])
def test_no_mode_lets_another_write_or_changes_its_user(tmp_path, mode):
    place, _ = write(tmp_path, [folder(b"d", mode), file(b"d/f", b"1", mode)])
    for path in (place / "d", place / "d/f"):
        assert stat.S_IMODE(path.stat().st_mode) == mode & 0o755


def test_files_have_one_name_no_attributes_and_the_accounts_owner(tmp_path):
    place, _ = write(tmp_path, [file(b"f", b"1")])
    found = (place / "f").stat()
    assert (found.st_nlink, found.st_uid, os.listxattr(place / "f")) == (1, os.geteuid(), [])


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("target", [b"..", b"/", b"../outside", b"../../etc"])
def test_nothing_is_written_through_a_link(tmp_path, target):
    (tmp_path / "outside").mkdir()
    with pytest.raises(ProtocolError, match="before its directory"):
        write(tmp_path, [link(b"l", target), file(b"l/planted", b"1")])
    assert sorted(os.listdir(tmp_path)) == ["outside"]
    assert os.listdir(tmp_path / "outside") == []


@pytest.mark.usefixtures("_way")
def test_a_link_that_is_put_in_a_directorys_place_is_not_followed(tmp_path):
    (tmp_path / "outside").mkdir()
    with LayerWriter(tmp_path / "new") as writer:
        writer.add(folder(b"d")[0])
        (tmp_path / "new/d").rmdir()
        (tmp_path / "new/d").symlink_to(tmp_path / "outside")
        with pytest.raises(OSError, match=r"."):
            writer.add(file(b"d/planted")[0])
    assert os.listdir(tmp_path / "outside") == []


@pytest.mark.parametrize(
    "path",
    [
        b"", b"/", b"/etc/x", b"..", b"../x", b"a/../x", b"a//x", b"./x", b"a/", b"a\0b",
        b"n" * 256, b"/".join([b"d"] * (MAX_DEPTH + 1)), b"a/" * 2047 + b"aa",
    ],
)  # fmt: skip
def test_a_path_that_is_none_is_refused(tmp_path, path):
    with pytest.raises(ProtocolError):
        write(tmp_path, [folder(b"a"), file(path)])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "entry",
    [
        LayerEntry(b"device", b"x"), LayerEntry(b"fifo", b"x"), LayerEntry(b"hardlink", b"x", target=b"y"),
        LayerEntry(DIRECTORY, b"x", size=1), LayerEntry(FILE, b"x", size=-1), LayerEntry(FILE, b"x", target=b"y"),
        LayerEntry(LINK, b"x"), LayerEntry(LINK, b"x", target=b"a\0"), LayerEntry(LINK, b"x", target=b"a" * 4096),
    ],
)  # fmt: skip
def test_an_entry_of_another_kind_is_refused(tmp_path, entry):
    with pytest.raises(ProtocolError):
        write(tmp_path, [(entry, b"")])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("first", [file(b"x"), folder(b"x"), link(b"x", b"y")])
@pytest.mark.parametrize("second", [file(b"x"), folder(b"x"), link(b"x", b"y")])
def test_no_path_comes_twice(tmp_path, first, second):
    with pytest.raises(ProtocolError, match="twice"):
        write(tmp_path, [first, second])


@pytest.mark.parametrize("content", [b"", b"12", b"1234"])
def test_content_of_another_length_is_refused(tmp_path, content):
    with pytest.raises(ProtocolError):
        write(tmp_path, [(LayerEntry(FILE, b"x", size=3), content)])
    assert os.listdir(tmp_path) == []


def test_content_without_a_file_is_refused(tmp_path):
    with pytest.raises(ProtocolError, match="not announced"):
        write(tmp_path, [(LayerEntry(DIRECTORY, b"d"), b"1")])


def test_more_entries_than_permitted_are_refused(tmp_path):
    write(tmp_path, [folder(b"%d" % at) for at in range(3)], max_entries=3)
    (tmp_path / "other").mkdir()
    with pytest.raises(LayerTooLarge, match="more than 3 files"):
        write(tmp_path / "other", [folder(b"%d" % at) for at in range(4)], max_entries=3)


def test_a_size_is_refused_before_its_bytes_come(tmp_path):
    with LayerWriter(tmp_path / "new") as writer, pytest.raises(LayerTooLarge, match="bytes"):
        writer.add(LayerEntry(FILE, b"x", size=writer_module.MAX_LAYER_BYTES + 1))
    assert os.listdir(tmp_path) == []


def test_a_layer_never_replaces_another(tmp_path):
    place, _ = write(tmp_path, [file(b"f", b"first")])
    with pytest.raises(FileExistsError):
        write(tmp_path, [file(b"f", b"second")])
    assert (place / "f").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["layer"]


def test_the_hash_does_not_know_the_order_and_knows_all_else(tmp_path):
    def hash_of(*items):
        base = tmp_path / hashlib.sha256(repr(items).encode()).hexdigest()
        base.mkdir()
        return write(base, items)[1].sha256

    assert hash_of(file(b"a", b"1"), file(b"b", b"2")) == hash_of(file(b"b", b"2"), file(b"a", b"1"))
    others = [
        hash_of(file(b"a", b"1")), hash_of(file(b"a", b"2")), hash_of(file(b"b", b"1")), hash_of(folder(b"a")),
        hash_of(file(b"a", b"1", 0o755)), hash_of(link(b"a", b"1")), hash_of(file(b"a", b"")),
    ]  # fmt: skip
    assert len(set(others)) == len(others)


PARTS = st.sampled_from([b"a", b"b", b"..", b".", b"", b"l", b"\xff", b"etc"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map(b"/".join)
ENTRIES = st.builds(
    LayerEntry,
    st.sampled_from([DIRECTORY, FILE, LINK, b"device"]),
    PATHS,
    st.integers(0, 0o7777),
    st.sampled_from([0, 0, 1, 5]),
    st.sampled_from([b"", b"", b"..", b"/", b"../outside", b"a"]),
)


@SETTINGS
@given(st.lists(st.tuples(ENTRIES, st.binary(max_size=5)), max_size=12))
def test_whatever_comes_nothing_is_written_elsewhere(tmp_path_factory, items):
    base = tmp_path_factory.mktemp("base")
    (base / "outside").mkdir()
    with LayerWriter(base / "new") as writer:
        for entry, content in items:
            try:
                writer.add(entry)
                if content:
                    writer.data(content)
            except ProtocolError:
                break
        assert sorted(os.listdir(base)) == ["new", "outside"]
        for path in (base / "new").rglob("*"):
            mode = path.lstat().st_mode
            assert stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)
    assert os.listdir(base) == ["outside"]
    assert os.listdir(base / "outside") == []
