"""The content of a session's files on the real service: streams in both directions, archives, names, full disks."""

from __future__ import annotations

import io
import os
import socket
import tarfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 1024 * 1024


def refused(reply, status, code, param="path"):
    assert (reply.status, reply.body["error"]["code"]) == (status, code), reply.body
    assert reply.body["error"]["param"] == param
    return reply.body["error"]["message"]


class Inside:
    """The calls of one session."""

    def __init__(self, service, session_id):
        self.service = service
        self.path = f"/v1/sessions/{session_id}"

    def __call__(self, method, path, data=None, **options):
        if "json" in options:
            return self.service.post(f"{self.path}{path}", **options)
        return self.service.request(method, f"{self.path}{path}", data, **options)

    def run(self, code):
        reply = self.service.post(f"{self.path}/runs", json={"code": code})
        assert reply.status == 200, reply.body
        return reply.body["stdout"]

    def names(self, path):
        return [item["name"] for item in self("GET", f"/files/list?path={path}&depth=64").body["data"]]


@contextmanager
def opened(service, **fields):
    reply = service.post("/v1/sessions", json={"language": "bash", **fields})
    assert reply.status == 201, reply.body
    try:
        yield Inside(service, reply.body["id"])
    finally:
        service.request("DELETE", f"/v1/sessions/{reply.body['id']}")


@pytest.fixture(scope="module")
def inside(service):
    """A session that several tests use; each has names of its own."""
    with opened(service) as made:
        yield made


# -- streams -----------------------------------------------------------------------------------------


def _resident_bytes(service):
    """The memory of api's processes and the worker, each by pid."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            environ = (folder / "environ").read_bytes()
            if str(service.state).encode() not in environ + command:
                continue
            if b"gunicorn" in command or b"worker" in command.split(b"\0")[2:4]:
                pages = int((folder / "statm").read_text().split()[1])
                found[folder.name] = pages * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            continue
    return found


@contextmanager
def growth_of(service):
    """Measure how much the memory of any process of the service grows meanwhile: appended when it is over."""
    before, grown, stopped = _resident_bytes(service), [0], threading.Event()
    assert len(before) >= 2, "api and worker are found"

    def look():
        while not stopped.wait(0.02):
            now = _resident_bytes(service)
            grown[0] = max(grown[0], *(size - before[pid] for pid, size in now.items() if pid in before))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield grown
    finally:
        stopped.set()
        looking.join()


def test_200_mb_go_through_in_both_directions_in_little_memory(service):
    size, piece = 200 * MIB, os.urandom(MIB)
    limits = {"memory_mb": 1024, "disk_mb": 400}
    with opened(service, limits=limits) as inside, growth_of(service) as grown:
        headers = {"Content-Length": str(size)}
        written = inside("PUT", "/files?path=large", (piece for _ in range(200)), headers=headers)
        assert (written.status, written.body["size"]) == (200, size)
        connection = service.connection(60)
        connection.request(
            "GET", f"{inside.path}/files?path=large", headers={"Authorization": f"Bearer {service.token}"}
        )
        response, got = connection.getresponse(), 0
        while data := response.read(MIB):
            assert data == piece[: len(data)] or got % MIB, "the bytes that were written"
            got += len(data)
        connection.close()
        assert got == size
    assert grown[0] < 64 * MIB, f"{grown[0] / MIB:.0f} MiB more"


def test_a_chunked_body_is_written_without_its_length(inside):
    def pieces():
        for _ in range(30):
            yield b"x" * 10_000

    assert inside("PUT", "/files?path=chunked", pieces()).body["size"] == 300_000


def test_a_body_that_is_cut_leaves_the_old_file(service, inside):
    inside("PUT", "/files?path=whole", b"old")
    with socket.create_connection((service.host, service.port), timeout=10) as sock:
        sock.sendall(
            f"PUT {inside.path}/files?path=whole HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
            f"Authorization: Bearer {service.token}\r\n\r\n".encode()
            + b"new" * 1000
        )
        time.sleep(0.3)
    deadline = time.monotonic() + 10
    while any(name.endswith(".part") for name in inside.names("/work")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (inside("GET", "/files?path=whole").raw, inside.names("/work").count("whole")) == (b"old", 1)
    assert not [name for name in inside.names("/work") if name.endswith(".part")]


def test_a_reader_that_goes_leaves_nothing_behind(service, inside):
    inside.run("head -c 100M /dev/zero > held")
    with socket.create_connection((service.host, service.port), timeout=10) as sock:
        sock.sendall(
            f"GET {inside.path}/files?path=held HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {service.token}\r\n\r\n".encode()
        )
        assert sock.recv(1000)
        assert _tasks(service, inside) == 1
    deadline = time.monotonic() + 20
    while _tasks(service, inside) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _tasks(service, inside) == 0
    inside("DELETE", "/files?path=held")


def _tasks(service, inside):
    return service.get(inside.path).body["usage"]["processes"]


def test_of_two_writers_one_wins_whole(inside):
    contents = [bytes([65 + number]) * (3 * MIB) for number in range(4)]
    threads = [
        threading.Thread(target=inside, args=("PUT", "/files?path=contested", content)) for content in contents
    ]
    for thread in threads:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in threads):
        reply = inside("GET", "/files?path=contested")
        if reply.status == 200:
            seen.add(reply.raw)
    for thread in threads:
        thread.join()
    assert inside("GET", "/files?path=contested").raw in contents
    assert seen <= set(contents)


def test_ranges_of_a_file(inside):
    inside("PUT", "/files?path=digits", b"0123456789")

    def get(method="GET", **headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return inside(method, "/files?path=digits", headers=names)

    whole = get()
    assert (whole.status, whole.headers["accept-ranges"]) == (200, "bytes")
    for asked, body, told in [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=8-", b"89", "bytes 8-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=5-99", b"56789", "bytes 5-9/10"),
    ]:
        part = get(Range=asked)
        assert (part.status, part.raw, part.headers["content-range"]) == (206, body, told)
        assert part.headers["content-length"] == str(len(body))
    beyond = get(Range="bytes=10-")
    assert (beyond.status, beyond.headers["content-range"]) == (416, "bytes */10")
    assert [get(Range=other).status for other in ("bytes=5-2", "lines=1-2", "bytes=0-1,3-4", "x")] == [200] * 4
    assert get(Range="bytes=0-1", If_Range='"x"').raw == b"0123456789"
    head = get("HEAD")
    assert (head.status, head.headers["content-length"], head.raw) == (200, "10", b"")


def test_a_full_disk_is_told_before_all_has_been_sent(inside):
    inside("PUT", "/files?path=small", b"old")
    sent = [0]

    def endless():
        while True:
            sent[0] += MIB
            yield bytes(MIB)

    try:
        reply = inside("PUT", "/files?path=small", endless())
        refused(reply, 507, "disk_full")
    except (BrokenPipeError, ConnectionResetError):
        pass  # the answer came while this was still sending
    assert sent[0] < 700 * MIB
    assert inside("GET", "/files?path=small").raw == b"old"
    assert inside.run("find . -name '.*.part' | wc -l") == "0\n"


# -- names -------------------------------------------------------------------------------------------

ODD = "dir%20%26%23/a%FF%0A%25b"


def test_a_name_of_any_bytes_is_written_read_moved_and_removed(inside):
    written = inside("PUT", f"/files?path={ODD}", b"odd").body
    assert (written["name"], written["raw"]) == ("a%FF%0A%25b", True)
    assert inside.run("ls -b 'dir &#'") == "a\\377\\n%b\n"
    assert inside("GET", f"/files?path={ODD}").raw == b"odd"
    moved = inside("POST", "/files/move", json={"from": ODD, "to": "%FE", "raw": True})
    assert (moved.status, moved.body["name"]) == (200, "%FE")
    assert inside("POST", "/files/chmod", json={"path": "%FE", "mode": "600", "raw": True}).body["mode"] == "0600"
    assert inside("DELETE", "/files?path=%FE").status == 200
    refused(
        inside("POST", "/files/move", json={"from": "a%00b", "to": "x", "raw": True}), 400, "invalid_path", "from"
    )
    refused(inside("GET", "/files?path=a&path=b"), 400, "invalid_value")


# -- archives ----------------------------------------------------------------------------------------


def packed(*members):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, kind, content, fields in members:
            item = tarfile.TarInfo(name)
            item.type, item.size = kind, len(content)
            for field, value in fields.items():
                setattr(item, field, value)
            archive.addfile(item, io.BytesIO(content))
    return held.getvalue()


def a_file(name, content=b"", **fields):
    return name, tarfile.REGTYPE, content, fields


def a_link(name, target, kind=tarfile.SYMTYPE):
    return name, kind, b"", {"linkname": target}


def unpacked(reply):
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"] == "application/x-tar"
    assert reply.headers["content-disposition"].startswith("attachment")
    with tarfile.open(fileobj=io.BytesIO(reply.raw), errors="surrogateescape") as archive:
        return {
            item.name: archive.extractfile(item).read() if item.isreg() else item.linkname or "directory"
            for item in archive.getmembers()
        }


def test_a_directory_comes_out_as_a_tar(inside):
    inside.run(
        "mkdir -p out/sub; echo a > out/a; echo b > out/sub/b; ln -s ../a out/sub/l; mkfifo out/p; "
        "touch out/$'n\\xff'; mkdir out/closed; touch out/closed/x; chmod 0 out/closed; echo c > out/sub/c.log"
    )
    found = unpacked(inside("GET", "/files/archive?path=out&exclude=*.log"))
    assert found == {
        "a": b"a\n", "sub": "directory", "sub/b": b"b\n", "sub/l": "../a", "n\udcff": b""
    }  # fmt: skip
    assert set(unpacked(inside("GET", "/files/archive?path=out&exclude=sub&exclude=n*"))) == {"a"}
    assert unpacked(inside("GET", "/files/archive?path=out/a")) == {"a": b"a\n"}
    refused(inside("GET", "/files/archive?path=absent"), 404, "file_not_found")
    refused(inside("GET", "/files/archive?path=/dev/null"), 409, "not_a_directory")
    assert inside("HEAD", "/files/archive?path=out").status == 200
    inside.run("chmod 700 out/closed")


def test_a_tar_is_unpacked(inside):
    long = "deep/" * 40 + "file"
    data = packed(
        a_file("bin/tool", b"#!/bin/sh\necho works\n", mode=0o755, mtime=1_700_000_000),
        ("sealed", tarfile.DIRTYPE, b"", {"mode": 0o555}),
        a_file("sealed/in", b"1"),
        a_link("sealed/link", "../bin/tool"),
        a_link("hard", "bin/tool", tarfile.LNKTYPE),
        a_file(long, b"far down"),
        a_file("skip/me", b"x"),
    )
    assert inside("PUT", "/files/archive?path=in&exclude=skip", data).body["type"] == "directory"
    assert inside.run("cd in; sealed/link; stat -c '%a %Y %h' hard; cat sealed/in; ls -d skip 2>&1 | wc -l") == (
        "works\n755 1700000000 2\n11\n"
    )
    assert inside("GET", f"/files?path=in/{long}").raw == b"far down"
    again = packed(a_file("hard", b"replaced"))
    assert inside("PUT", "/files/archive?path=in", again).status == 200
    assert inside.run("cat in/hard; in/bin/tool") == "replacedworks\n"


def test_what_comes_out_goes_in(inside):
    inside.run("mkdir -p round/d; head -c 3M /dev/urandom > round/d/big; ln -s d/big round/l")
    archive = inside("GET", "/files/archive?path=round").raw
    assert inside("PUT", "/files/archive?path=again", archive).status == 200
    assert inside.run("diff -r round again && readlink again/l") == "d/big\n"


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([a_file("../escape")], "../escape: a path with '..'"),
        ([a_file("/tmp/escape")], "/tmp/escape: an absolute path"),
        ([a_link("l", "/etc"), a_file("l/x")], "l: a link that leads out of the archive"),
        ([a_link("l", "../.."), a_file("l/x")], "l: a link that leads out"),
        ([a_link("d", "."), a_file("d/x")], "d/x: a link or a file is where a directory must be"),
        ([a_file("f"), a_file("f/x")], "f/x: a link or a file"),
        ([a_file("d/x"), a_file("d")], "d: a directory is in its place"),
        ([a_link("h", "../../etc/passwd", tarfile.LNKTYPE)], "a path with '..'"),
        ([a_link("h", "absent", tarfile.LNKTYPE)], "h: a hard link to what is not there"),
        (
            [a_file("d/x"), a_link("d/l", "../d"), a_link("h", "d/l", tarfile.LNKTYPE)],
            "h: a hard link to something else",
        ),
        ([("null", tarfile.CHRTYPE, b"", {})], "null: a device is not unpacked"),
        ([("pipe", tarfile.FIFOTYPE, b"", {})], "pipe: a FIFO is not unpacked"),
    ],
)
def test_a_hostile_tar_ends_at_its_first_bad_entry(inside, members, problem):
    data = packed(a_file("before", b"1"), *members, a_file("behind", b"2"))
    message = refused(inside("PUT", "/files/archive?path=hostile", data), 400, "invalid_archive")
    assert problem in message
    assert inside.run("cat hostile/before; ls hostile/behind /tmp/escape escape 2>/dev/null; rm -r hostile") == "1"


def test_links_that_are_there_already_are_not_followed(inside):
    inside.run("mkdir trap /tmp/away; ln -s /tmp/away trap/d; echo kept > /tmp/away/f; ln -s /tmp/away/f trap/f")
    refused(inside("PUT", "/files/archive?path=trap", packed(a_file("d/x", b"no"))), 400, "invalid_archive")
    assert inside("PUT", "/files/archive?path=trap", packed(a_file("f", b"in its place"))).status == 200
    assert inside.run("ls /tmp/away; cat /tmp/away/f trap/f") == "f\nkept\nin its place"


def test_no_tar_and_a_cut_tar_are_refused(inside):
    data = packed(a_file("one", b"1" * 5000), a_file("two", b"2"))
    for body in (b"", b"x", bytes(100), data[:3000], data[:-9000], b"\x1f\x8b" + bytes(2000), os.urandom(5000)):
        refused(inside("PUT", "/files/archive?path=no", body), 400, "invalid_archive")


def test_a_bomb_fills_its_own_disk_at_most(service):
    with opened(service, limits={"memory_mb": 128}) as inside:
        one = packed(a_file("zeros", bytes(100 * MIB)))
        message = refused(inside("PUT", "/files/archive?path=bomb", one), 507, "disk_full")
        assert "zeros: No space left" in message
        assert inside.run("ls -A bomb | wc -l; rm -r bomb") == "0\n"
        many = b"".join(packed(a_file(f"f{number}"))[:512] for number in range(20_000))
        refused(inside("PUT", "/files/archive?path=many", many), 507, "disk_full")
        busy = service.post(f"{inside.path}/runs", json={"code": "true"})
        assert (busy.status, busy.body["error"]["code"]) == (507, "disk_full")
        assert inside("DELETE", "/files?path=many&recursive=1").status == 200
        assert inside.run("echo usable") == "usable\n"
