"""Blobs in S3 or a compatible server. The only module that imports boto3.

A blob is the object `PREFIX/AREA/ab12…`. Its key is its hash, which is known only at the end; so bytes are
gathered in a file without a name on this machine and sent by `commit`: an object appears whole or not at all, a
failed attempt can be repeated, and a killed process leaves no blob. Each body is signed with its own
hash, so the server rejects bytes that changed on the way.

Storing what is there already sends it again: that renews its age and heals it. `delete` looks at the age and
deletes in two steps, as S3 has no one step for both; the milliseconds between them are the one gap.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from storage import CHUNK_BYTES, GRACE_S, SHA256, Blob, BlobInfo, BlobReader, BlobStore, Content
from storage.content import VerifyingReader, span
from storage.errors import (
    BlobDamaged,
    BlobMissing,
    StorageFull,
    StorageMisconfigured,
    StorageUnavailable,
    system_errors_translated,
)
from storage.intake import WriterBase

MIB = 1024 * 1024
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5, 20
ATTEMPTS = 3
CONNECTIONS = 32
PART_BYTES = 8 * MIB
PAGE_KEYS = 1000
#: Smaller ones wait in memory.
SPOOLED_BYTES = MIB
#: The age at which a multipart upload counts as abandoned by a killed writer.
ABANDONED = timedelta(days=1)

_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_FULL = frozenset({"QuotaExceeded", "InsufficientCapacity", "XMinioStorageFull", "507"})
TRANSFER = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False)


@dataclass(frozen=True, slots=True)
class S3Location:
    """The location of an area's objects: a bucket, and the prefix of their keys (empty, or ending in a slash)."""

    client: Any
    bucket: str
    prefix: str

    def names(self, sha256: str) -> dict[str, str]:
        """Return the arguments that name a blob's object. Raises ValueError for what is not a hash."""
        if not SHA256.fullmatch(sha256):
            raise ValueError("not a SHA-256 in lower-case hexadecimal")
        return {"Bucket": self.bucket, "Key": self.prefix + sha256}


def connect(endpoint_url: str | None, addressing: str) -> Any:  # noqa: ANN401  # boto3 makes its classes as it runs
    """Return a client for any number of threads, not yet connected; boto3 finds credentials and region (AWS_…).

    Raises StorageMisconfigured or StorageUnavailable if boto3 cannot create one.
    """
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": addressing, "payload_signing_enabled": True},
        # Other servers than Amazon's do not know the newer checksums; the signature covers the bytes.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
    )
    try:
        with translated():
            return boto3.session.Session().client("s3", endpoint_url=endpoint_url, config=config)
    except ValueError as e:
        raise StorageMisconfigured("S3_ENDPOINT_URL: is not an address that can be reached") from e


@contextmanager
def translated(sha256: str | None = None) -> Iterator[None]:
    """Turn errors of boto3 into storage errors; a missing object is one only where an object was named."""
    try:
        yield
    except ClientError as e:
        code = str(e.response.get("Error", {}).get("Code", ""))
        if sha256 is not None and code in _MISSING:
            raise BlobMissing(sha256) from e
        if code in _FULL:
            raise StorageFull from e
        raise StorageUnavailable("storage refused the request") from e
    except (BotoCoreError, Boto3Error) as e:
        raise StorageUnavailable("storage does not answer") from e


class S3Reader(BlobReader):
    """The reading half, for who only reads an area."""

    def __init__(self, place: S3Location, *, presign: bool = False) -> None:
        self._place = place
        self._client = place.client
        self._presign = presign

    def open(self, blob: Blob, offset: int = 0, length: int | None = None) -> Content:
        """Return the bytes asked for."""
        wanted = span(blob, offset, length)
        arguments = self._place.names(blob.sha256)
        if wanted:
            arguments["Range"] = f"bytes={offset}-{offset + wanted - 1}"
        try:
            with translated(blob.sha256):
                found = self._client.get_object(**arguments)
        except StorageUnavailable as e:
            # A range beyond the end of what is there.
            if isinstance(e.__cause__, ClientError) and _status(e.__cause__.response) == 416:
                raise BlobDamaged(blob.sha256, "is shorter than it was") from e
            raise
        body = found["Body"]
        size = _whole_size(found)
        if size != blob.size:
            body.close()
            raise BlobDamaged(blob.sha256, f"has {size} bytes instead of {blob.size}")
        return VerifyingReader(blob, wanted, pieces_of(body, wanted), body.close).begin()

    def stat(self, sha256: str) -> BlobInfo | None:
        """Return the object's size and age, by the server's own clock."""
        try:
            with translated(sha256):
                found = self._client.head_object(**self._place.names(sha256))
        except BlobMissing:
            return None
        return BlobInfo(Blob(sha256, found["ContentLength"]), age_s(found, found["LastModified"]))

    def stored(self) -> Iterator[BlobInfo]:
        """Yield every blob, one page per request."""
        with translated():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._place.bucket, Prefix=self._place.prefix, PaginationConfig={"PageSize": PAGE_KEYS}
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    name = entry["Key"].removeprefix(self._place.prefix)
                    if SHA256.fullmatch(name):
                        yield BlobInfo(Blob(name, entry["Size"]), age_s(page, entry["LastModified"]))

    def presigned(self, blob: Blob, headers: dict[str, str], ttl_s: int) -> str | None:
        """Return the object's own address, if clients are redirected there."""
        if not self._presign:
            return None
        parameters = {
            **self._place.names(blob.sha256),
            "ResponseContentType": headers["Content-Type"],
            "ResponseContentDisposition": headers["Content-Disposition"],
            "ResponseCacheControl": "private, no-store",
        }
        with translated():
            return str(self._client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=ttl_s))

    def check(self) -> None:
        """Check that the bucket is there and may be used."""
        with translated():
            self._client.head_bucket(Bucket=self._place.bucket)


class S3Store(S3Reader, BlobStore):
    """An area that this party writes."""

    def __init__(self, place: S3Location, spool_dir: Path, *, presign: bool = False) -> None:
        """`spool_dir` is where bytes wait until a blob is complete."""
        super().__init__(place, presign=presign)
        self._spool_dir = spool_dir

    def writer(self, max_bytes: int) -> S3Writer:
        """Begin a blob."""
        # Without a name from its beginning on, so that it needs no removal (O_TMPFILE).
        spool = tempfile.SpooledTemporaryFile(max_size=SPOOLED_BYTES, dir=str(self._spool_dir))  # noqa: SIM115
        return S3Writer(self._place, spool, max_bytes)

    def delete(self, sha256: str, grace_s: float = GRACE_S) -> bool:
        """Delete a blob, if it is old enough."""
        found = self.stat(sha256)
        if found is None:
            return True
        if found.age_s < grace_s:
            return False
        with translated():
            self._client.delete_object(**self._place.names(sha256))
        return True

    def clean(self) -> int:
        """Remove the parts of uploads that were begun long ago."""
        return abort_abandoned(self._place)


class S3Writer(WriterBase):
    """Bytes gathered on this machine until they are all there."""

    def __init__(self, place: S3Location, spool: tempfile.SpooledTemporaryFile[bytes], max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._place = place
        self._spool = spool

    def _take(self, view: memoryview) -> None:
        with system_errors_translated():
            self._spool.write(view)

    def _publish(self, blob: Blob) -> None:
        with system_errors_translated():
            self._spool.seek(0)
        with translated():
            self._place.client.upload_fileobj(self._spool, **self._place.names(blob.sha256), Config=TRANSFER)
        self._discard()

    def _discard(self) -> None:
        with suppress(OSError):  # what was not written yet has no room, and is not wanted either
            self._spool.close()


def abort_abandoned(place: S3Location) -> int:
    """Remove the parts of uploads beneath a prefix that were begun long ago. Returns the number of uploads."""
    removed = 0
    with translated():
        pages = place.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=place.bucket, Prefix=place.prefix
        )
        for page in pages:
            for upload in page.get("Uploads", ()):
                if age_s(page, upload["Initiated"]) > ABANDONED.total_seconds():
                    place.client.abort_multipart_upload(
                        Bucket=place.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                    removed += 1
    return removed


def pieces_of(body: Any, length: int) -> Iterator[bytes]:  # noqa: ANN401  # botocore's StreamingBody
    while length > 0:
        with translated():
            piece = body.read(min(length, CHUNK_BYTES))
        if not piece:
            return
        yield piece
        length -= len(piece)


def _whole_size(found: dict[str, Any]) -> int:
    """Return the size of the whole object, of which this may be a part: `bytes 0-9/1234`."""
    _, _, total = str(found.get("ContentRange", "")).rpartition("/")
    return int(total) if total.isdecimal() else int(found["ContentLength"])


def _status(response: dict[str, Any]) -> int:
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def age_s(response: dict[str, Any], since: datetime) -> float:
    """Return the age in seconds by the server's clock if it reports one: the local clock may differ."""
    said = response["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = parsedate_to_datetime(said) if said else datetime.now(UTC)
    return max(0.0, (now - since).total_seconds())
