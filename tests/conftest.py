"""Fixtures every folder of tests may use."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest
from origin import Origin

# The same examples in each run, and none that fails because the machine is busy.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


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
