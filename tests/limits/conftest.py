"""A Redis, and processes of api in front of no worker: for what is about keys and buckets alone."""

from __future__ import annotations

import pytest

from tests.support.apiprocess import Api
from tests.support.redisserver import Redis


@pytest.fixture(scope="session")
def redis():
    server = Redis()
    yield server
    server.stop()


@pytest.fixture
def start_api():
    """Start api: `start_api(API_PROCESSES="2", …)`; ended, and its directory removed, at the end."""
    started: list[Api] = []

    def start(**settings: str) -> Api:
        started.append(Api(settings))
        return started[-1]

    yield start
    for api in started:
        api.end()
