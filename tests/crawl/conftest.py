"""Fixtures for tests that run whole crawls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from s3_server import S3


@pytest.fixture(scope="session")
def _s3() -> Iterator[S3]:
    with S3() as server:
        yield server


@pytest.fixture
def s3(_s3: S3) -> S3:
    """An S3 server with one empty bucket."""
    _s3.reset()
    return _s3
