"""Entries of `packages`: a name with a version, and nothing else, whatever is sent."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol.limits import JobInvalid
from protocol.package_names import decode_packages
from protocol.packages import (
    ECOSYSTEMS,
    FORMS,
    MAX_PACKAGE_BYTES,
    MAX_PACKAGES,
    PackagesFailed,
    ecosystem_of,
    parse_package,
    parse_packages,
    parse_requests,
)
from protocol.session import SessionSpec, decode_session, encode_session

ALL = sorted(FORMS)
#: No entry of any ecosystem.
HOSTILE = [
    "",
    " ",
    "-r requirements.txt",
    "-rrequirements.txt",
    "--index-url=http://evil.example",
    "--index-url http://evil.example x",
    "requests --index-url=http://evil.example",
    "requests; rm -rf /",
    "requests && id",
    "requests|id",
    "$(id)",
    "`id`",
    "requests\n--pre",
    "requests\r",
    "requests\0",
    "requests\x1b[31m",
    "../../etc/passwd",
    "./here",
    "/etc/passwd",
    "~/x",
    "file:///etc/passwd",
    "https://evil.example/x.tar.gz",
    "git+https://evil.example/x.git",
    "git@github.com:a/b.git",
    "x @ https://evil.example/x.whl",
    "x@https://evil.example/x.tgz",
    "x@git+ssh://git@evil.example/x.git",
    "x@file:../x",
    "x@npm:y@1",
    "x@workspace:*",
    "x@link:..",
    "requests==2.0 ; python_version < '3'",
    "éclair",
    "\ud800",
    "x" * (MAX_PACKAGE_BYTES + 1),
    "a b",
    "%2e%2e",
    "a\\b",
    "{x}",
    "'x'",
    '"x"',
    "@",
    "@@",
    "*",
]


@pytest.mark.parametrize("ecosystem", ALL)
@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_entry_is_refused_with_the_form_of_one(ecosystem, text):
    with pytest.raises(JobInvalid) as refused:
        parse_requests(ecosystem, [text])
    assert (refused.value.param, refused.value.code) == ("packages.0", "invalid_package")
    assert FORMS[ecosystem] in refused.value.message
    assert len(text) < 4 or text not in refused.value.message


@pytest.mark.parametrize(
    ("ecosystem", "text", "normal", "version"),
    [
        ("pip", "requests", "requests", None),
        ("pip", "Requests==2.32.3", "requests==2.32.3", "2.32.3"),
        ("pip", "typing_extensions >= 4, < 5", "typing-extensions<5,>=4", None),
        ("pip", "httpx[http2,Brotli] ~= 0.27", "httpx[brotli,http2]~=0.27", None),
        ("pip", "numpy==1.*", "numpy==1.*", None),
        ("pip", "torch==2.0+cpu", "torch==2.0+cpu", "2.0+cpu"),
        ("npm", "lodash", "lodash@latest", None),
        ("npm", "lodash@4.17.21", "lodash@4.17.21", "4.17.21"),
        ("npm", "lodash@v4.17.21", "lodash@v4.17.21", "4.17.21"),
        ("npm", "@types/node@^22", "@types/node@^22", None),
        ("npm", "x@1.0.0 - 2", "x@>=1.0.0 <=2", None),
        ("npm", "x@>= 1.2  <3 ||  4.x", "x@>=1.2 <3 || 4.x", None),
        ("npm", "x@next", "x@next", None),
        ("npm", "x@1.0.0-rc.1", "x@1.0.0-rc.1", "1.0.0-rc.1"),
        ("npm", "JSONStream@1.3.5", "JSONStream@1.3.5", "1.3.5"),
        ("go", "golang.org/x/text", "golang.org/x/text@latest", None),
        ("go", "golang.org/x/text@latest", "golang.org/x/text@latest", None),
        ("go", "github.com/google/uuid@v1.6.0", "github.com/google/uuid@v1.6.0", "v1.6.0"),
        ("go", "github.com/jackc/pgx/v5@v5.6.0", "github.com/jackc/pgx/v5@v5.6.0", "v5.6.0"),
        ("go", "gopkg.in/yaml.v3@v3.0.1", "gopkg.in/yaml.v3@v3.0.1", "v3.0.1"),
        ("go", "x.example/y@v2.0.0+incompatible", "x.example/y@v2.0.0+incompatible", "v2.0.0+incompatible"),
        (
            "go",
            "x.example/y@v0.0.0-20240102030405-abcdefabcdef",
            "x.example/y@v0.0.0-20240102030405-abcdefabcdef",
            "v0.0.0-20240102030405-abcdefabcdef",
        ),
        ("cargo", "serde", "serde@*", None),
        ("cargo", "serde@1.0.219", "serde@1.0.219", None),
        ("cargo", "serde@=1.0.219", "serde@=1.0.219", "1.0.219"),
        ("cargo", "rand@>=0.8,<0.9", "rand@>=0.8, <0.9", None),
        ("cargo", "rand@0.8.*", "rand@0.8.*", None),
        ("cargo", "serde[rc, derive]@=1.0.219", "serde[derive,rc]@=1.0.219", "1.0.219"),
        ("cargo", "tokio[full]", "tokio[full]@*", None),
        ("cargo", "x[]", "x@*", None),
    ],
)
def test_a_valid_entry_has_one_normal_form(ecosystem, text, normal, version):
    found = parse_package(ecosystem, f"  {text} ")
    assert (found.text, found.version) == (normal, version)
    assert parse_package(ecosystem, normal) == found


@pytest.mark.parametrize(
    ("ecosystem", "text", "words"),
    [
        ("pip", "requests @ https://x.example/r.whl", "URL"),
        ("pip", "requests; python_version>'3'", "marker"),
        ("pip", "requests===2", "==="),
        ("pip", "requests==", "specifiers"),
        ("npm", "package.tgz", "file"),
        ("npm", "node_modules", "file"),
        ("npm", "user/repository", "name"),
        ("npm", "@a/b/c", "name"),
        ("npm", ".hidden", "name"),
        ("npm", "x@", "no version"),
        ("npm", "x@next || 1", "no version"),
        ("npm", "x@1.2.3.4", "no version"),
        ("npm", "x@01.2.3", "no version"),
        ("go", "uuid@v1.0.0", "host name"),
        ("go", "github.com/google/uuid/", "host name"),
        ("go", "github.com//uuid", "host name"),
        ("go", "github.com/../uuid", "host name"),
        ("go", "GitHub.com/google/uuid", "host name"),
        ("go", "github.com/google/uuid@main", "v1.2.3"),
        ("go", "github.com/google/uuid@1.6.0", "v1.2.3"),
        ("go", "github.com/google/uuid@v1", "v1.2.3"),
        ("go", "github.com/jackc/pgx@v5.6.0", "/v5"),
        ("go", "github.com/jackc/pgx/v4@v5.6.0", "major version 4"),
        ("go", "gopkg.in/yaml.v2@v3.0.1", "major version 2"),
        ("cargo", "serde@", "requirement"),
        ("cargo", "serde@latest", "requirement"),
        ("cargo", "serde@1 || 2", "requirement"),
        ("cargo", "1serde", "name"),
        ("cargo", "serde/derive", "name"),
        ("cargo", "serde[dep:x]", "feature"),
        ("cargo", "serde[a/b]", "feature"),
        ("cargo", "serde[derive", "name"),
        ("cargo", "serde@1[derive]", "requirement"),
    ],
)
def test_a_message_names_what_is_wrong(ecosystem, text, words):
    with pytest.raises(ValueError, match=words):
        parse_package(ecosystem, text)


@pytest.mark.parametrize(
    ("ecosystem", "texts"),
    [
        ("pip", ["typing-extensions", "x", "Typing_Extensions>=4"]),
        ("npm", ["lodash@4", "x", "lodash"]),
        ("go", ["x.example/y@v1.0.0", "x.example/z", "x.example/y"]),
        ("cargo", ["serde_json", "x", "Serde-json@1"]),
        ("cargo", ["serde[rc]", "x", "serde[derive]"]),
    ],
)
def test_no_package_twice_under_any_spelling(ecosystem, texts):
    with pytest.raises(JobInvalid, match="second time") as refused:
        parse_packages(ecosystem, texts)
    assert (refused.value.param, refused.value.code) == ("packages.2", "invalid_package")


def test_the_number_is_bounded_and_the_result_sorted():
    texts = [f"p{number}" for number in range(MAX_PACKAGES)]
    assert parse_packages("pip", texts) == tuple(sorted(texts))
    assert parse_packages("pip", []) == ()
    with pytest.raises(JobInvalid) as refused:
        parse_packages("pip", [*texts, "x"])
    assert (refused.value.param, refused.value.code) == ("packages", "too_many")
    assert "32" in refused.value.message


def test_a_language_without_packages_is_refused_with_those_that_have_them():
    assert ecosystem_of("deno") == "npm"
    with pytest.raises(JobInvalid) as refused:
        ecosystem_of("bash")
    assert (refused.value.param, refused.value.code) == ("packages", "not_supported")
    assert all(language in refused.value.message for language in ECOSYSTEMS)


@pytest.mark.parametrize("data", [None, "requests", {"a": 1}, [1], [["x"]], [None]])
def test_a_message_holds_a_list_of_strings(data):
    with pytest.raises(JobInvalid) as refused:
        decode_packages(data)
    assert refused.value.code == "invalid_type"


def test_a_failure_names_its_field():
    assert PackagesFailed("package_not_found", "no such version", 3).param == "packages.3"
    assert PackagesFailed("package_build_failed", "conflict").param == "packages"


#: The characters of names and versions, and those that would leave them.
LIKELY = st.text(st.sampled_from(string.ascii_lowercase[:4] + "v019.-_@/[],<>=~^*| x!;:+ \n"), max_size=24)
SAFE = set(string.ascii_letters + string.digits + "._-+@/[],<>=~^*| !")


@settings(max_examples=1500)
@given(st.sampled_from(ALL), LIKELY | st.text(max_size=12))
@example("npm", "a@" + "1 " * 60 + "!")
@example("pip", "a" + ">=1," * 40)
@example("go", "a.b/" + "-" * 150 + "!")
def test_any_text_is_refused_or_safe_and_stable(ecosystem, text):
    try:
        found = parse_package(ecosystem, text)
    except ValueError:
        return
    assert set(found.text) <= SAFE
    assert found.text[0] not in "-./~"
    assert ".." not in found.name.split("/")
    assert "://" not in found.text
    assert parse_package(ecosystem, found.text) == found


@given(st.lists(st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True), unique=True, max_size=8))
def test_the_order_of_a_request_does_not_matter(names):
    assert parse_packages("cargo", names) == parse_packages("cargo", list(reversed(names)))


def test_a_session_carries_them_to_the_worker():
    spec = SessionSpec(
        "sess_" + "a" * 26, "python", "k", {"memory_mb": 64, "cpus": 1.0, "pids": 8, "disk_mb": 8},
        packages=("zope", "attrs==1"),
    )  # fmt: skip
    message = json.loads(json.dumps(encode_session(spec)))
    assert decode_session(message) == spec
    assert decode_session({name: value for name, value in message.items() if name != "packages"}).packages == ()
    with pytest.raises(JobInvalid, match="list of strings"):
        decode_session(message | {"packages": "zope"})
