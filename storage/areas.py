"""Which process has which store: each area has one writer, and the other party only reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from config.settings import Settings
from storage import BlobReader, BlobStore
from storage.layout import ARTIFACTS, UPLOADS
from storage.local import LocalReader, LocalStore

if TYPE_CHECKING:
    from storage.s3 import Place


@dataclass(frozen=True, slots=True)
class ApiAreas:
    """What api may do."""

    uploads: BlobStore
    artifacts: BlobReader


@dataclass(frozen=True, slots=True)
class WorkerAreas:
    """What the worker may do."""

    uploads: BlobReader
    artifacts: BlobStore


def for_api(settings: Settings) -> ApiAreas:
    """The stores as api has them. `layout.make_areas` has been called before.

    Raises StorageMisconfigured or StorageUnavailable.
    """
    uploads, artifacts = settings.storage / UPLOADS, settings.storage / ARTIFACTS
    if settings.bucket is None:
        return ApiAreas(LocalStore(uploads), LocalReader(artifacts))
    from storage.s3 import S3Reader, S3Store  # boto3 costs memory that only its users should pay

    presign = settings.s3_presign
    return ApiAreas(
        S3Store(_s3(settings, UPLOADS), uploads, presign=presign),
        S3Reader(_s3(settings, ARTIFACTS), presign=presign),
    )


def for_worker(settings: Settings) -> WorkerAreas:
    """The stores as the worker has them, else as `for_api`."""
    uploads, artifacts = settings.storage / UPLOADS, settings.storage / ARTIFACTS
    if settings.bucket is None:
        return WorkerAreas(LocalReader(uploads), LocalStore(artifacts, group_reads=True))
    from storage.s3 import S3Reader, S3Store  # as above

    return WorkerAreas(S3Reader(_s3(settings, UPLOADS)), S3Store(_s3(settings, ARTIFACTS), artifacts))


def _s3(settings: Settings, area: str) -> Place:
    from storage.s3 import Place, connect  # as above

    bucket = settings.bucket
    if bucket is None:
        raise ValueError("STORAGE_URL is not set")
    prefix = f"{bucket.prefix}/{area}/" if bucket.prefix else f"{area}/"
    return Place(connect(settings.s3_endpoint_url, settings.s3_addressing), bucket.name, prefix)
