"""Signed links: who made them, for what, until when, with which key."""

from __future__ import annotations

import base64
import hashlib
import os
import string
import threading
import zlib
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer, URLSafeTimedSerializer

from config.settings import Settings
from storage.errors import LinkExpired, LinkInvalid, StorageMisconfigured
from storage.links import MAX_TOKEN_LENGTH, SALT, Links
from storage.signing import FILE, kept_key, signing_keys

OLD, NEW, OTHER = "o" * 32, "n" * 32, "x" * 32
FILE_ID = "file_abc123"
NOW = 1_800_000_000
HMAC_SHA256 = {"key_derivation": "hmac", "digest_method": hashlib.sha256}


def links(*keys, at=NOW, ttl_s=600):
    return Links(keys or (NEW,), base_url="https://runs.example.com/x", ttl_s=ttl_s, now=lambda: at)


def token_of(link):
    return parse_qs(urlsplit(link.url).query)["token"][0]


def test_a_link_opens_its_file_until_it_expires():
    link = links().make(FILE_ID)
    assert link.url.startswith(f"https://runs.example.com/x/v1/files/{FILE_ID}/content?token=")
    assert link.expires_at == datetime.fromtimestamp(NOW + 600, UTC)
    assert links().verify(FILE_ID, token_of(link)) == 600
    assert links(at=NOW + 599.9).verify(FILE_ID, token_of(link)) == 1
    for later in (600, 601, 10**9):
        with pytest.raises(LinkExpired, match=r"^the link has expired$"):
            links(at=NOW + later).verify(FILE_ID, token_of(link))


def test_the_expiry_is_the_makers_whatever_the_verifier_is_set_to():
    token = token_of(links(ttl_s=10).make(FILE_ID))
    with pytest.raises(LinkExpired):
        links(at=NOW + 11, ttl_s=1000).verify(FILE_ID, token)


def test_a_link_opens_no_other_file():
    token = token_of(links().make(FILE_ID))
    for other in ("file_abc124", "", FILE_ID + " ", FILE_ID.upper()):
        with pytest.raises(LinkInvalid):
            links().verify(other, token)


def test_keys_rotate():
    old = token_of(links(OLD).make(FILE_ID))
    assert links(NEW, OLD).verify(FILE_ID, old)
    new = token_of(links(NEW, OLD).make(FILE_ID))
    assert links(NEW).verify(FILE_ID, new)  # the newest signs
    for keys, token in (((NEW,), old), ((OLD,), new), ((OTHER,), new)):
        with pytest.raises(LinkInvalid):
            links(*keys).verify(FILE_ID, token)


@pytest.mark.parametrize(
    "signer",
    [
        URLSafeSerializer(NEW, salt=SALT),
        URLSafeSerializer(NEW, salt="another purpose", signer_kwargs=HMAC_SHA256),
        URLSafeSerializer(NEW, salt=SALT, signer_kwargs={**HMAC_SHA256, "digest_method": hashlib.sha1}),
        URLSafeTimedSerializer(NEW, salt=SALT, signer_kwargs=HMAC_SHA256),
        URLSafeSerializer("", salt=SALT, signer_kwargs=HMAC_SHA256),
    ],
    ids=["default digest", "other purpose", "SHA-1", "timed", "no key"],
)
def test_only_this_purpose_and_this_digest_count(signer):
    token = signer.dumps([FILE_ID, NOW + 600])
    with pytest.raises(LinkInvalid):
        links().verify(FILE_ID, token)


@pytest.mark.parametrize(
    "payload",
    [
        FILE_ID,
        [FILE_ID],
        [FILE_ID, str(NOW + 600)],
        [FILE_ID, NOW + 600.5],
        [FILE_ID, None],
        [FILE_ID, NOW + 600, 1],
        [[FILE_ID], NOW + 600],
        {"id": FILE_ID, "exp": NOW + 600},
        None,
        {},
    ],
)
def test_a_well_signed_payload_of_another_form_is_refused(payload):
    token = URLSafeSerializer(NEW, salt=SALT, signer_kwargs=HMAC_SHA256).dumps(payload)
    with pytest.raises(LinkInvalid):
        links().verify(FILE_ID, token)


@given(st.text(max_size=600))
def test_whatever_text_a_token_is_it_is_refused_and_nothing_else(text):
    with pytest.raises(LinkInvalid):
        links().verify(FILE_ID, text)


@given(st.integers(0, 200), st.sampled_from(string.ascii_letters + string.digits + "-_.="))
def test_no_change_of_one_character_opens_another_file_or_time(position, character):
    token = token_of(links().make(FILE_ID))
    at = position % len(token)
    changed = token[:at] + character + token[at + 1 :]
    try:
        left = links().verify(FILE_ID, changed)
    except LinkInvalid:
        return
    assert left == 600  # base64's last character has spare bits: another spelling of the same


def test_a_long_token_is_not_even_decoded(monkeypatch):
    inflated = []
    monkeypatch.setattr(zlib, "decompress", lambda data: inflated.append(len(data)) or b"")
    bomb = "." + base64.urlsafe_b64encode(zlib.compress(b"0" * 10_000_000)).decode()
    with pytest.raises(LinkInvalid):
        links().verify(FILE_ID, bomb + ".c2ln")
    assert len(bomb) > MAX_TOKEN_LENGTH
    assert inflated == []


def test_the_longest_id_makes_a_link_that_verifies():
    long_id = "file_" + "é" * 20 + "/../?&"
    link = links().make(long_id)
    assert "/../" not in link.url
    assert links().verify(long_id, token_of(link)) == 600


def test_without_a_key_there_are_no_links():
    with pytest.raises(ValueError, match="key"):
        Links((), base_url="", ttl_s=1)


def test_a_key_is_made_once_and_kept(tmp_path):
    key = kept_key(tmp_path)
    assert len(key) >= 64
    assert kept_key(tmp_path) == key
    assert os.listdir(tmp_path) == [FILE]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_processes_that_make_one_at_once_agree(tmp_path):
    found = []
    barrier = threading.Barrier(8)
    threads = [
        threading.Thread(target=lambda: (barrier.wait(), found.append(kept_key(tmp_path)))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert os.listdir(tmp_path) == [FILE]


@pytest.mark.parametrize("kept", [b"", b"short\n", b"\xff" * 10])
def test_a_kept_key_that_is_damaged_is_not_replaced_in_silence(tmp_path, kept):
    (tmp_path / FILE).write_bytes(kept)
    with pytest.raises(StorageMisconfigured, match=r"SIGNING_KEY.*damaged"):
        kept_key(tmp_path)
    assert (tmp_path / FILE).read_bytes() == kept


def test_a_kept_key_is_a_file_of_ours_or_none(tmp_path):
    secret = tmp_path / "elsewhere"
    secret.write_text("z" * 64)
    home = tmp_path / "home"
    home.mkdir()
    (home / FILE).symlink_to(secret)
    for folder in (home, tmp_path / "nowhere", secret):
        with pytest.raises(StorageMisconfigured, match="SIGNING_KEY"):
            kept_key(folder)


def test_links_of_the_generated_key_outlive_its_first_rotation(tmp_path):
    (tmp_path / "api").mkdir()
    before = Links(signing_keys(Settings(state_dir=tmp_path)), base_url="", ttl_s=600)
    token = token_of(before.make(FILE_ID))
    after = Links(signing_keys(Settings(state_dir=tmp_path, signing_key=NEW)), base_url="", ttl_s=600)
    assert after.verify(FILE_ID, token) > 590
    # The new key signs: what the old one alone knows does not verify it.
    with pytest.raises(LinkInvalid):
        before.verify(FILE_ID, token_of(after.make(FILE_ID)))
    # An operator who wants the old links to end removes the file.
    (tmp_path / "api" / FILE).unlink()
    ended = Links(signing_keys(Settings(state_dir=tmp_path, signing_key=NEW)), base_url="", ttl_s=600)
    with pytest.raises(LinkInvalid):
        ended.verify(FILE_ID, token)


@pytest.mark.parametrize("kept", [b"short\n", b"\xff" * 40, None])
def test_a_kept_key_that_cannot_be_used_stops_nobody_who_has_set_one(tmp_path, kept, caplog):
    (tmp_path / "api").mkdir()
    if kept is None:
        (tmp_path / "api" / FILE).symlink_to(tmp_path)
    else:
        (tmp_path / "api" / FILE).write_bytes(kept)
    assert signing_keys(Settings(state_dir=tmp_path, signing_key=NEW)) == (NEW,)
    assert "links signed by it are invalid" in caplog.text


def test_a_set_key_is_taken_and_none_is_made(tmp_path):
    (tmp_path / "api").mkdir()
    settings = Settings(state_dir=tmp_path, signing_key=f"{NEW}, {OLD}")
    assert signing_keys(settings) == (NEW, OLD)
    assert os.listdir(tmp_path / "api") == []
    (kept,) = signing_keys(Settings(state_dir=tmp_path))
    assert (tmp_path / "api" / FILE).read_text() == kept + "\n"
