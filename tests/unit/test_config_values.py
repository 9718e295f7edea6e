"""Addresses and secrets among the settings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.parsers import S3Bucket, parse_base_url, parse_signing_keys, parse_storage_url
from config.settings import SettingsError, load_settings

LONG = "k" * 32


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in ("RUNYARD_ENV", "SIGNING_KEY", "PUBLIC_BASE_URL", "STORAGE_URL", "STORAGE_DIR", "BIND", "PORT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "bucket"),
    [
        ("s3://blobs", S3Bucket("blobs", "")),
        ("s3://blobs/", S3Bucket("blobs", "")),
        ("s3://my.blobs-1/a/b_c.d", S3Bucket("my.blobs-1", "a/b_c.d")),
        ("s3://blobs/a/", S3Bucket("blobs", "a")),
    ],
)
def test_a_storage_url(text, bucket):
    assert parse_storage_url(text) == bucket


@pytest.mark.parametrize(
    "text",
    [
        "blobs", "s3:/blobs", "s3://", "s3:///a", "s3://ab", "s3://Blobs", "s3://a..b", "s3://-ab", "s3://b_c_d",
        "https://blobs", "file:///blobs", "s3://blobs//a", "s3://blobs/a//b", "s3://blobs/../x", "s3://blobs/a b",
        "s3://blobs/.hidden", "s3://key:secret@blobs", "s3://blobs?x=1", "s3://blobs/a\n", "s3://blobs/" + "a" * 513,
    ],
)  # fmt: skip
def test_a_storage_url_that_is_none(text):
    with pytest.raises(ValueError, match=r"^STORAGE_URL: "):
        parse_storage_url(text)


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("https://runs.example.com", "https://runs.example.com"),
        ("https://runs.example.com/", "https://runs.example.com"),
        ("http://192.0.2.1:8080/x/y/", "http://192.0.2.1:8080/x/y"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_base_url(text, base):
    assert parse_base_url("PUBLIC_BASE_URL", text) == base


@pytest.mark.parametrize(
    "text",
    [
        "runs.example.com", "ftp://x.test", "javascript:alert(1)", "http://", "http:///x", "http://u:p@x.test", "http://@x.test",
        "http://x.test?a", "http://x.test?", "http://x.test#", "http://x.test/#a", "http://x.test:0", "http://x.test:99999",
        "http://x.test:a", "http://x test", "http://x.test/a b", 'http://x.test/"', "http://x.test//a", "http://[::1", "http://x\r\n",
    ],
)  # fmt: skip
def test_a_base_url_that_is_none_is_refused_without_being_shown(text):
    with pytest.raises(ValueError, match=r"^PUBLIC_BASE_URL: ") as refused:
        parse_base_url("PUBLIC_BASE_URL", text)
    assert "u:p" not in str(refused.value)


@given(st.text(max_size=60))
def test_whatever_a_base_url_is_a_path_can_be_appended_or_it_is_refused(text):
    for candidate in (text, "http://" + text):
        try:
            base = parse_base_url("X", candidate)
        except ValueError:
            continue
        assert base.isprintable()
        assert not set(" ?#@\"'<>") & set(base)
        assert not base.endswith("/")


def test_signing_keys_are_newest_first_and_long(monkeypatch):
    assert parse_signing_keys(f" {LONG}a , ,{LONG}b,", min_length=32) == (LONG + "a", LONG + "b")
    monkeypatch.setenv("SIGNING_KEY", f"{LONG},short-secret")
    with pytest.raises(SettingsError, match="SIGNING_KEY: key 2 is shorter than 32 characters") as refused:
        load_settings()
    assert "short-secret" not in str(refused.value)
    monkeypatch.setenv("RUNYARD_ENV", "development")
    assert load_settings().signing_keys() == (LONG, "short-secret")


@pytest.mark.parametrize("text", [",", " , ", ",".join([LONG] * 17)])
def test_signing_keys_that_are_none_or_too_many(monkeypatch, text):
    monkeypatch.setenv("SIGNING_KEY", text)
    with pytest.raises(SettingsError, match="SIGNING_KEY: "):
        load_settings()


@pytest.mark.parametrize("name", ["PUBLIC_BASE_URL", "S3_ENDPOINT_URL", "STORAGE_URL"])
def test_an_address_is_refused_at_start_with_the_variables_name(monkeypatch, name):
    monkeypatch.setenv(name, "nonsense")
    with pytest.raises(SettingsError, match=f"{name}: must be"):
        load_settings()


@pytest.mark.parametrize(
    ("bind", "base"),
    [
        ("127.0.0.1", "http://localhost:8081"),
        ("0.0.0.0", "http://localhost:8081"),
        ("192.0.2.7", "http://192.0.2.7:8081"),
        ("2001:db8::1", "http://[2001:db8::1]:8081"),
    ],
)
def test_links_begin_with_the_address_of_the_service(monkeypatch, bind, base):
    monkeypatch.setenv("BIND", bind)
    monkeypatch.setenv("PORT", "8081")
    assert load_settings().base_url == base
    monkeypatch.setenv("PUBLIC_BASE_URL", "https://runs.example.com/")
    assert load_settings().base_url == "https://runs.example.com"
