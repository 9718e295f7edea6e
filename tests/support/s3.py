"""A local S3 server with a bucket, and the environment by which clients find its credentials."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.storage.conftest import S3Server

S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


@contextmanager
def s3_server(bucket: str) -> Iterator[S3Server]:
    """Serve a bucket for a while."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in S3_ENVIRONMENT.items():
            patch.setenv(name, value)
        server = S3Server()
        server.admin.create_bucket(Bucket=bucket)
        yield server
        server.stop()
