"""Files that clients bring: bodies of every kind, limits, lists, deleting, and giving them to runs."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import time

import pytest

MIB = 1024 * 1024
BOUNDARY = "xXxBoundaryxXx"


def part(name="file", content=b"", filename="a.txt", headers=b""):
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"'
    return b"--%b\r\n%b\r\n%b\r\n%b\r\n" % (BOUNDARY.encode(), disposition.encode(), headers, content)


def form(*parts):
    return b"".join(parts) + b"--%b--\r\n" % BOUNDARY.encode()


def send(service, body, *, content_type=f"multipart/form-data; boundary={BOUNDARY}", **options):
    return service.post("/v1/files", data=body, headers={"Content-Type": content_type}, **options)


def upload(service, content, filename="a.txt", **options):
    reply = send(service, form(part(content=content, filename=filename)), **options)
    assert reply.status == 200, reply.body
    return reply.body


def content_of(service, file, **options):
    return service.get(f"/v1/files/{file['id']}/content", **options)


def refused(reply, status, code, param=None):
    assert (reply.status, reply.body["error"]["code"]) == (status, code), reply.body
    assert reply.body["error"]["param"] == param


def test_what_was_brought_can_be_fetched(service):
    content = os.urandom(3 * MIB) + b"\r\n--" + BOUNDARY.encode()[:-1] + b"\r\n"
    file = upload(service, content, "data.bin")
    assert list(file) == ["id", "object", "name", "size", "sha256", "content_type", "created_at"]
    assert (file["object"], file["name"], file["size"]) == ("file", "data.bin", len(content))
    assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert content_of(service, file).raw == content
    assert service.get(f"/v1/files/{file['id']}").body == file


def test_curl_and_fields_in_any_order(service):
    for parts in (
        [part("purpose", b"data", None), part(content=b"x")],
        [part(content=b"x"), part("purpose", b"data", None)],
    ):
        assert send(service, form(*parts)).status == 200


def test_a_body_in_chunks(service):
    body = form(part(content=b"x" * 100_000))
    connection = http.client.HTTPConnection(service.host, service.port, timeout=30)
    headers = {
        "Authorization": f"Bearer {service.token}",
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        "Transfer-Encoding": "chunked",
    }
    pieces = (body[at : at + 977] for at in range(0, len(body), 977))
    connection.request("POST", "/v1/files", body=pieces, headers=headers, encode_chunked=True)
    response = connection.getresponse()
    assert (response.status, b'"size":100000' in response.read()) == (200, True)
    connection.close()


@pytest.mark.parametrize(
    "content", [b"", b"\r\n", b"\n", b"\r", b"--", b"\r\n--", b"-" * 70, b"\r" * 300_000, b"a\r\n" * 200_000]
)
def test_every_byte_counts(service, content):
    file = upload(service, content)
    assert file["size"] == len(content)
    assert content_of(service, file).raw == content


def test_the_same_name_twice_is_two_files(service):
    first, second = upload(service, b"1", "same"), upload(service, b"2", "same")
    assert first["id"] != second["id"]
    assert [content_of(service, file).raw for file in (first, second)] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\\\temp\\\\x.txt", "x.txt"),
        ("ünï ☃.txt", "ünï ☃.txt"),
        ("a" * 400 + ".csv", "a" * 251 + ".csv"),
        ("..", "file"),
        ("a\u202eb", "ab"),
        ("a\x00b", "ab"),
    ],
)
def test_names_are_cleaned(service, given, name):
    file = upload(service, b"x", given)
    assert file["name"] == name
    assert content_of(service, file).status == 200


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_multipart", None),
        (b"not multipart at all", "invalid_multipart", None),
        (form(), "missing_field", "file"),
        (form(part("purpose", b"x", None)), "missing_field", "file"),
        (form(part(filename=None)), "missing_field", "file"),
        (form(part(filename="")), "missing_field", "file"),
        (form(part(), part()), "too_many", "file"),
        (form(part("other")), "unknown_field", None),
        (form(part("other", filename=None)), "unknown_field", None),
        (form(part(), part("purpose", b"a b", None)), "invalid_value", "purpose"),
        (form(part(), part("purpose", b"x" * 100_000, None)), "invalid_value", "purpose"),
        (form(*[part("purpose", b"x", None)] * 2), "invalid_value", "purpose"),
        (part(content=b"cut"), "invalid_multipart", None),
        (form(part(headers=b"X-Long: " + b"x" * 400_000 + b"\r\n")), "invalid_multipart", None),
        (b"--%b\r\n\r\nno disposition\r\n--%b--\r\n" % (BOUNDARY.encode(), BOUNDARY.encode()), "invalid_multipart", None),
        (b"--%b\r\nContent-Disposition: \xff\xfe; name=\xff\r\n\r\nx\r\n--%b--" % (BOUNDARY.encode(), BOUNDARY.encode()), "invalid_multipart", None),
        (b"x" * MIB, "invalid_multipart", None),
    ],
    ids=range(17),
)  # fmt: skip
def test_a_body_that_is_wrong(service, body, code, param):
    refused(send(service, body), 400, code, param)


@pytest.mark.parametrize(
    ("content_type", "status", "code"),
    [
        ("application/json", 415, "unsupported_media_type"),
        ("multipart/mixed; boundary=x", 415, "unsupported_media_type"),
        ("multipart/form-data", 400, "invalid_multipart"),
        ("multipart/form-data; boundary=", 400, "invalid_multipart"),
        (f"multipart/form-data; boundary={'x' * 71}", 400, "invalid_multipart"),
        ('multipart/form-data; boundary="a\\"b"', 400, "invalid_multipart"),
    ],
)
def test_a_header_that_is_wrong(service, content_type, status, code):
    reply = send(service, form(part(content=b"x")), content_type=content_type)
    assert (reply.status, reply.body["error"]["code"]) == (status, code)


def test_the_cap_itself_is_taken_and_one_more_is_not(service):
    assert upload(service, bytes(50 * MIB))["size"] == 50 * MIB
    reply = send(service, form(part(content=bytes(50 * MIB + 1))))
    refused(reply, 413, "file_too_large", "file")
    assert str(50 * MIB) in reply.body["error"]["message"]


def test_a_body_that_says_it_is_too_large_is_refused_and_the_connection_lives(service):
    refused(send(service, form(part(content=bytes(55 * MIB)))), 413, "file_too_large", "file")
    assert service.get("/healthz", token=None).status == 200


def test_a_body_that_ends_early_leaves_nothing(service):
    body = form(part(content=b"x" * 5000))
    with socket.create_connection((service.host, service.port), timeout=20) as connection:
        head = (
            f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.token}\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body) + 50}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)
    assert b" 400 " in answer.split(b"\r\n")[0]
    tmp = service.state / "storage" / "uploads" / "tmp"
    deadline = time.monotonic() + 5
    while list(tmp.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_who_may_not_bring_a_file(service):
    body = form(part(content=b"x"))
    assert send(service, body, token=None).status == 401
    assert send(service, body, token="nobody").status == 401


def test_a_list_is_walked_page_by_page(service):
    made = [upload(service, b"%d" % n, token=service.other_token)["id"] for n in range(5)]
    found, after = [], ""
    while True:
        page = service.get(f"/v1/files?limit=2{after}", token=service.other_token).body
        assert (page["object"], page["first_id"]) == ("list", page["data"][0]["id"])
        found += [file["id"] for file in page["data"]]
        if not page["has_more"] or len(found) >= 5:
            break
        after = f"&after={page['last_id']}"
    assert found[:5] == made[::-1]
    mine = [file["id"] for file in service.get("/v1/files?limit=100").body["data"]]
    assert not set(mine) & set(made)
    assert service.get("/v1/files?after=nothing").body["error"]["code"] == "invalid_cursor"


def test_a_deleted_file_is_gone_and_its_twin_is_not(service):
    one, two = upload(service, b"twin"), upload(service, b"twin")
    reply = service.request("DELETE", f"/v1/files/{one['id']}")
    assert (reply.status, reply.body) == (200, {"id": one["id"], "object": "file", "deleted": True})
    assert content_of(service, one).status == 404
    assert service.request("DELETE", f"/v1/files/{one['id']}").body["error"]["code"] == "file_not_found"
    assert content_of(service, two).raw == b"twin"


def test_anothers_file_cannot_be_told_from_none(service):
    file = upload(service, b"x")
    for method in ("GET", "DELETE"):
        mine = service.request(method, "/v1/files/file_nothing", token=service.other_token)
        his = service.request(method, f"/v1/files/{file['id']}", token=service.other_token)
        assert (his.status, his.body) == (mine.status, mine.body)


@pytest.mark.parametrize("path", ["%00", "%ff", "x" * 3000, "..%2f..%2fetc", "é"])
def test_ids_that_are_none(service, path):
    from urllib.parse import quote

    reply = service.get(f"/v1/files/{quote(path, safe='%')}")
    assert (reply.status, reply.body["error"]["type"]) == (404, "invalid_request_error")


# -- given to a run --------------------------------------------------------------------------------


def test_a_file_is_given_to_a_run(service):
    file = upload(service, b"a,b\n1,2\n")
    run = service.run(
        "python",
        "print(open('/work/inputs/data/in.csv').read(), open('/work/helper.txt').read())",
        files=[{"path": "data/in.csv", "id": file["id"]}, {"path": "helper.txt", "content": "inline"}],
    )
    assert (run["status"], run["stdout"]) == ("succeeded", "a,b\n1,2\n inline\n")


def test_an_artifact_is_given_to_the_next_run(service):
    (artifact,) = service.run("bash", "printf made > outputs/x")["artifacts"]
    run = service.run("bash", "cat inputs/y", files=[{"path": "y", "id": artifact["id"]}])
    assert run["stdout"] == "made"


def test_a_large_file_and_an_empty_one_arrive_whole(service):
    content = os.urandom(45 * MIB)
    large, empty = upload(service, content), upload(service, b"")
    run = service.run(
        "bash",
        "sha256sum < inputs/large; stat -c %s inputs/empty",
        files=[{"path": "large", "id": large["id"]}, {"path": "empty", "id": empty["id"]}],
    )
    assert run["stdout"].split() == [hashlib.sha256(content).hexdigest(), "-", "0"]


@pytest.mark.parametrize(
    ("files", "code", "param"),
    [
        ([{"path": "x", "id": "file_nothing"}], "file_not_found", "files.0.id"),
        ([{"path": "a", "content": ""}, {"path": "x", "id": ""}], "file_not_found", "files.1.id"),
        ([{"path": "x", "id": "{mine}", "content": "x"}], "invalid_value", "files.0.id"),
        ([{"path": "x", "id": "{mine}", "encoding": "utf-8"}], "invalid_value", "files.0.id"),
        ([{"path": "../x", "id": "{mine}"}], "invalid_path", "files.0.path"),
        ([{"path": "x", "id": "{mine}"}, {"path": "inputs/x", "content": ""}], "duplicate_path", "files.1.path"),
        ([{"path": "x", "id": "{mine}"}, {"path": "x/y", "id": "{mine}"}], "duplicate_path", "files.1.path"),
        ([{"path": "x", "id": "{his}"}], "file_not_found", "files.0.id"),
    ],
)
def test_a_file_that_cannot_be_given(service, files, code, param):
    ids = {"{mine}": upload(service, b"x")["id"], "{his}": upload(service, b"x", token=service.other_token)["id"]}
    asked = [item | ({"id": ids.get(item["id"], item["id"])} if "id" in item else {}) for item in files]
    reply = service.post("/v1/runs", json={"language": "bash", "code": "true", "files": asked})
    refused(reply, 400, code, param)


def test_files_that_do_not_fit_are_refused_before_the_start(service):
    file = upload(service, bytes(9 * MIB))
    asked = {
        "language": "bash",
        "code": "true",
        "files": [{"path": "x", "id": file["id"]}],
        "limits": {"memory_mb": 16},
    }
    refused(service.post("/v1/runs", json=asked), 400, "files_too_large", "files")
    assert service.run(**asked | {"limits": {"memory_mb": 64}})["status"] == "succeeded"


def test_a_run_is_the_same_again_after_its_file_is_gone(service):
    file = upload(service, b"once")
    asked = {"language": "bash", "code": "cat inputs/x", "files": [{"path": "x", "id": file["id"]}]}
    key = {"Idempotency-Key": file["id"]}
    first = service.post("/v1/runs", json=asked, headers=key).body
    service.request("DELETE", f"/v1/files/{file['id']}")
    assert service.post("/v1/runs", json=asked, headers=key).body == first
    refused(service.post("/v1/runs", json=asked), 400, "file_not_found", "files.0.id")
