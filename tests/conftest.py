"""Fixtures every folder of tests may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from origin import Origin


@pytest.fixture(scope="session")
def _origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture
def origin(_origin: Origin) -> Iterator[Origin]:
    """The hostile origin over plain HTTP, with fresh counts; nothing of an earlier test is still connected."""
    _origin.reset()
    yield _origin
    _origin.drop_connections()


@pytest.fixture(scope="session")
def tls_origin() -> Iterator[Origin]:
    """The same over TLS, with a certificate nobody trusts."""
    with Origin(tls=True) as origin:
        yield origin
