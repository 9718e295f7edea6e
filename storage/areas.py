"""Which process has which store: each area has one writer, and the other party only reads it.

With S3 the worker has one more place there: the layers of packages, which api neither reads nor writes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from config.parsers import S3Bucket
from config.settings import Settings
from storage import BlobReader, BlobStore
from storage.layout import ARTIFACTS, UPLOADS
from storage.local import LocalReader, LocalStore

if TYPE_CHECKING:
    from storage.s3 import S3Location
    from storage.s3_objects import S3Objects

T = TypeVar("T")
#: The part of the bucket's prefix that has the layers of packages.
LAYERS = "layers"


@dataclass(frozen=True, slots=True)
class ApiAreas:
    """The rights of api."""

    uploads: BlobStore
    artifacts: BlobReader


@dataclass(frozen=True, slots=True)
class WorkerAreas:
    """The rights of the worker. `layers` is None where blobs are stored on this machine."""

    uploads: BlobReader
    artifacts: BlobStore
    layers: S3Objects | None = None


def for_api(settings: Settings) -> ApiAreas:
    """Return the stores as api opens them. `layout.make_areas` has been called before.

    Raises StorageMisconfigured or StorageUnavailable.
    """
    local = _local(settings)
    if settings.bucket is None:
        return ApiAreas(LocalStore(local.uploads), LocalReader(local.artifacts))
    from storage.s3 import S3Reader, S3Store  # boto3 costs memory that only its users should pay

    s3, presign = _s3(settings, settings.bucket), settings.s3_presign
    return ApiAreas(S3Store(s3.uploads, local.uploads, presign=presign), S3Reader(s3.artifacts, presign=presign))


def for_worker(settings: Settings) -> WorkerAreas:
    """Return the stores as the worker opens them; otherwise as `for_api`."""
    local = _local(settings)
    if settings.bucket is None:
        return WorkerAreas(LocalReader(local.uploads), LocalStore(local.artifacts, group_reads=True))
    from storage.s3 import S3Reader, S3Store  # as above
    from storage.s3_objects import S3Objects

    s3 = _s3(settings, settings.bucket)
    layers = S3Objects(replace(s3.artifacts, prefix=f"{_top(settings.bucket)}{LAYERS}/"))
    return WorkerAreas(S3Reader(s3.uploads), S3Store(s3.artifacts, local.artifacts), layers)


@dataclass(frozen=True, slots=True)
class _Areas(Generic[T]):
    """The location of each area."""

    uploads: T
    artifacts: T


def _local(settings: Settings) -> _Areas[Path]:
    return _Areas(settings.storage / UPLOADS, settings.storage / ARTIFACTS)


def _s3(settings: Settings, bucket: S3Bucket) -> _Areas[S3Location]:
    from storage.s3 import S3Location, connect  # as above

    client = connect(settings.s3_endpoint_url, settings.s3_addressing)
    top = _top(bucket)
    return _Areas(*(S3Location(client, bucket.name, f"{top}{area}/") for area in (UPLOADS, ARTIFACTS)))


def _top(bucket: S3Bucket) -> str:
    return f"{bucket.prefix}/" if bucket.prefix else ""
