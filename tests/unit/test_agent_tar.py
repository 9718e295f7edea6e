"""The tar that a session's files come and go in: read and written by the agent, whatever bytes it is given."""

import io
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NO_RESET = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def tar(fresh_agent):
    import agent.session.tar

    return agent.session.tar


def reader_of(tar, data, step=700):
    stream = io.BytesIO(data)
    return tar.Reader(lambda size: stream.read(min(size, step)))


def read_all(tar, data, step=700):
    reader = reader_of(tar, data, step)
    found = [(item, b"".join(reader.content())) for item in reader]
    reader.finish()
    return found


def packed(*members, form=tarfile.GNU_FORMAT):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=form) as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content) if content is not None else None)
    return held.getvalue()


def member(name, kind=tarfile.REGTYPE, content=None, **fields):
    made = tarfile.TarInfo(name)
    made.type = kind
    made.size = len(content or b"")
    for field, value in fields.items():
        setattr(made, field, value)
    return made, content


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("step", [1, 511, 100_000])
def test_every_form_of_header_is_read(tar, form, step):
    long = "d" * 60 + "/" + "e" * 60 + "/f"
    data = packed(
        member("./plain", content=b"x" * 700, mode=0o4755, mtime=1_700_000_000),
        member("dir/", tarfile.DIRTYPE),
        member(long, content=b"long"),
        member("link", tarfile.SYMTYPE, linkname="dir/x"),
        member("hard", tarfile.LNKTYPE, linkname="plain"),
        form=form,
    )
    found = [(item.parts, item.kind, item.mode, content) for item, content in read_all(tar, data, step)]
    assert found == [
        ([b"plain"], tar.FILE, 0o755, b"x" * 700),
        ([b"dir"], tar.DIRECTORY, 0o644, b""),
        ([part.encode() for part in long.split("/")], tar.FILE, 0o644, b"long"),
        ([b"link"], tar.SYMLINK, 0o644, b""),
        ([b"hard"], tar.HARD_LINK, 0o644, b""),
    ]


def test_content_that_is_not_taken_is_skipped(tar):
    data = packed(member("a", content=b"1" * 5000), member("b", content=b"2"))
    assert [item.name for item in reader_of(tar, data)] == [b"a", b"b"]


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([member("../x", content=b"")], "../x: a path with '..'"),
        ([member("a/../../x", content=b"")], "a path with '..'"),
        ([member("/etc/x", content=b"")], "/etc/x: an absolute path"),
        ([member("n" * 256, content=b"")], "more than 255 bytes"),
        ([member("a/" * 600 + "x", content=b"")], "more than 1024 bytes"),
        ([member("a/" * 65 + "x", content=b"")], "more than 64 parts"),
        ([member("null", tarfile.CHRTYPE)], "null: a device is not unpacked"),
        ([member("disk", tarfile.BLKTYPE)], "disk: a device is not unpacked"),
        ([member("pipe", tarfile.FIFOTYPE)], "pipe: a FIFO is not unpacked"),
        ([member("sparse", tarfile.GNUTYPE_SPARSE)], "sparse: a sparse file is not unpacked"),
        ([member("odd", b"Z")], "odd: neither a file"),
        ([member("a\x1b[31m\nb/../x", content=b"")], "a?[31m?b/../x: a path"),
    ],
)
def test_an_entry_that_is_not_unpacked_is_named(tar, members, problem):
    with pytest.raises(tar.BadArchive) as found:
        read_all(tar, packed(member("good", content=b"1"), *members))
    assert problem in str(found.value)


@pytest.mark.parametrize(
    ("name", "target", "is_good"),
    [
        ("a", "b", True),
        ("d/e/a", "../../b", True),
        ("d/e/a", "../../../b", False),
        ("a", "..", False),
        ("a", "/etc/passwd", False),
        ("a", "b/../../x", False),
        ("a", "b/../c", False),
        ("a", "./b", True),
        ("a", "", False),
        ("a", "t" * 1025, False),
    ],
)
def test_a_link_leads_nowhere_but_inside(tar, name, target, is_good):
    item = tar.TarEntry(name.encode(), tar.SYMLINK, 0, 0o777, 0, target.encode())
    if is_good:
        tar.check_target(item)
        return
    with pytest.raises(tar.BadArchive):
        tar.check_target(item)


def test_an_archive_that_is_cut_or_too_long_is_refused(tar):
    data = packed(member("first", content=b"1" * 2000), member("second", content=b"2"))
    for size in (0, 10, 512, 1500, 2561, 3072, 3500):
        with pytest.raises(tar.BadArchive):
            read_all(tar, data[:size])
    with pytest.raises(tar.BadArchive, match="bytes behind the end"):
        read_all(tar, data + bytes(tar.MAX_TRAILING_BYTES))
    with pytest.raises(tar.BadArchive, match="compressed"):
        read_all(tar, b"\x1f\x8b\x08" + bytes(600))


def test_a_million_entries_end_at_the_bound(tar):
    one = tar.header(b"d/", tar.DIRECTORY, 0, 0o755, 0)
    pieces = iter([one * 1000] * 1000)
    reader = tar.Reader(lambda _size: next(pieces, b""))
    with pytest.raises(tar.BadArchive, match="more than 100000 entries"):
        list(reader)


def test_an_extended_header_has_a_bound(tar):
    huge = tar._block(b"x", b"x", tar.MAX_EXTENSION_BYTES + 1, 0, 0, b"")
    with pytest.raises(tar.BadArchive, match="extended header"):
        read_all(tar, huge + bytes(tar.MAX_EXTENSION_BYTES * 2))


def test_checksums_are_checked(tar):
    data = bytearray(packed(member("first", content=b"1")))
    data[0] ^= 1
    with pytest.raises(tar.BadArchive, match="no header of a tar"):
        read_all(tar, bytes(data))


names = st.binary(min_size=1, max_size=200).filter(lambda name: b"\0" not in name and not name.startswith(b"/"))


@NO_RESET
@given(name=names, target=names, mode=st.integers(0, 0o7777), mtime=st.integers(0, 2**33 - 1))
def test_what_is_written_is_read_by_others(tar, name, target, mode, mtime):
    data = tar.header(name, tar.SYMLINK, 0, mode, mtime, target) + tar.ZEROS * 2
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as archive:
        (found,) = archive.getmembers()
    given_name = name.decode("utf-8", "surrogateescape").rstrip("/")
    assert found.name.rstrip("/") == given_name
    assert found.linkname == target.decode("utf-8", "surrogateescape")
    assert (found.mode, found.mtime) == (mode, mtime)


@NO_RESET
@given(st.binary(max_size=3000))
def test_arbitrary_bytes_are_a_bad_archive_or_nothing(tar, data):
    try:
        read_all(tar, data)
    except tar.BadArchive as e:
        problem = str(e)
    else:
        return
    assert (problem.isprintable(), len(problem) < 400) == (True, True)


@NO_RESET
@given(data=st.data())
def test_a_spoiled_archive_gives_checked_entries_or_is_refused(tar, data):
    good = packed(
        member("a/b", content=b"12"),
        member("p" * 150, content=b"3", pax_headers={"comment": "x"}),
        member("l", tarfile.SYMTYPE, linkname="a"),
        form=tarfile.PAX_FORMAT,
    )
    spoiled = bytearray(good)
    block = data.draw(st.sampled_from(range(0, len(good) - 512, 512)))
    for _ in range(data.draw(st.integers(1, 4))):
        spoiled[block + data.draw(st.integers(0, 511))] = data.draw(st.integers(0, 255))
    # With a checksum that is right, so that the fields behind it are reached.
    total = sum(spoiled[block : block + 512]) - sum(spoiled[block + 148 : block + 156]) + 256
    spoiled[block + 148 : block + 156] = b"%06o\0 " % total
    try:
        found = read_all(tar, bytes(spoiled))
    except tar.BadArchive:
        return
    for item, content in found:
        assert b".." not in item.parts
        assert not any(b"/" in part or b"\0" in part for part in item.parts)
        assert len(content) == item.size
